"""What the ledger does inside one transaction: take scenes in, set what they reached, settle what holds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, and_, bindparam, delete, insert, select, text, update

from catalog import tables
from catalog.database import chunks, to_json
from catalog.ledger_records import UpsertResult
from catalog.scenes import Scene
from catalog.supersession import Standing, State, Version, settle, version_order

_table = tables.scenes
_documents = tables.scene_documents
_PRIMARY = and_(
    _table.c.cube == bindparam("p_cube"),
    _table.c.product == bindparam("p_product"),
    _table.c.scene_id == bindparam("p_scene"),
)


@dataclass(frozen=True)
class Stored:
    """What a change must know of a scene that the ledger has."""

    version: str
    key: str
    state: State
    own_state: State


def best_by_product(scenes: Iterable[Scene]) -> dict[str, dict[str, Scene]]:
    """Product → id → scene; of several with one id, the best version."""
    found: dict[str, dict[str, Scene]] = {}
    for scene in scenes:
        of_product = found.setdefault(scene.product, {})
        other = of_product.setdefault(scene.id, scene)
        if other is not scene and version_order(scene) > version_order(other):
            of_product[scene.id] = scene
    return found


def not_known(connection: Connection, cube: str, product: str, found: Mapping[str, Scene]) -> list[str]:
    """Ids that the ledger has not, or has at another version.

    The ids travel as one JSON document and are looked up by primary key inside the database, so that scenes
    that are known cost no row in Python.
    """
    each = "json_each" if connection.dialect.name == "sqlite" else "json_each_text"
    query = text(
        f"SELECT offered.key FROM {each}(:offered) AS offered LEFT JOIN scenes "  # noqa: S608 - two fixed names
        "ON scenes.cube = :cube AND scenes.product = :product AND scenes.scene_id = offered.key "
        "WHERE scenes.version IS NULL OR scenes.version <> offered.value"
    )
    offered = json.dumps({i: version_order(scene) for i, scene in found.items()}, ensure_ascii=False)
    rows = connection.execute(query, {"offered": offered, "cube": cube, "product": product})
    return [scene_id for (scene_id,) in rows]


def fetch(connection: Connection, cube: str, product: str, ids: Iterable[str]) -> dict[str, Stored]:
    """Those of the ids that the ledger has."""
    columns = (_table.c.scene_id, _table.c.version, _table.c.key, _table.c.state, _table.c.own_state)
    stored: dict[str, Stored] = {}
    for portion in chunks(ids):
        query = select(*columns).where(
            _table.c.cube == cube, _table.c.product == product, _table.c.scene_id.in_(portion)
        )
        for scene_id, version, key, state, own in connection.execute(query):
            stored[scene_id] = Stored(version, key, State(state), State(own))
    return stored


def take(connection: Connection, cube: str, product: str, found: Mapping[str, Scene]) -> UpsertResult:
    """Add and renew scenes of one product that are not known at their version."""
    stored = fetch(connection, cube, product, found)
    new: list[Scene] = []
    renewed: list[Scene] = []
    changed: list[str] = []
    for scene_id, scene in found.items():
        old = stored.get(scene_id)
        if old is None:
            new.append(scene)
        elif version_order(scene) > old.version:
            if old.own_state is State.CUBED:
                changed.append(scene_id)
            else:
                renewed.append(scene)
    add(connection, cube, product, new)
    for scene in renewed:
        _renew(connection, cube, product, scene)
    keys = {scene.key for scene in (*new, *renewed)} | {stored[scene.id].key for scene in renewed}
    superseded = settle_keys(connection, cube, product, keys)
    return UpsertResult(
        tuple(scene.id for scene in new),
        0,
        tuple(superseded),
        tuple(scene.id for scene in renewed),
        tuple(changed),
    )


def add(connection: Connection, cube: str, product: str, scenes: Sequence[Scene]) -> None:
    """New rows, ``seen``."""
    now = datetime.now(UTC)
    for portion in chunks(scenes):
        rows = [
            {
                "cube": cube,
                "product": product,
                "scene_id": scene.id,
                "version": version_order(scene),
                "key": scene.key,
                "state": State.SEEN,
                "own_state": State.SEEN,
                "reasons": [],
                "sensed": scene.sensed,
                "seen_at": now,
                "changed_at": now,
            }
            for scene in portion
        ]
        # As text at once: thousands of nested documents alive together keep the garbage collector busy.
        documents = [
            {"cube": cube, "product": product, "scene_id": scene.id, "document": to_json(scene.to_dict())}
            for scene in portion
        ]
        connection.execute(insert(_table), rows)
        connection.execute(insert(_documents), documents)


def set_own_state(
    connection: Connection,
    cube: str,
    product: str,
    reasons: Mapping[str, Sequence[str]],
    own_state: State,
    snapshot: str | None = None,
) -> None:
    """Write what scenes (id → reasons) have reached themselves, then settle what holds for all versions."""
    now = datetime.now(UTC)
    statement = (
        update(_table)
        .where(_PRIMARY)
        .values(
            own_state=bindparam("p_own"),
            snapshot=bindparam("p_snapshot"),
            reasons=bindparam("p_reasons"),
            changed_at=bindparam("p_now"),
        )
    )
    for portion in chunks(reasons):
        connection.execute(
            statement,
            [
                {
                    "p_cube": cube,
                    "p_product": product,
                    "p_scene": scene_id,
                    "p_own": own_state,
                    "p_snapshot": snapshot,
                    "p_reasons": list(reasons[scene_id]),
                    "p_now": now,
                }
                for scene_id in portion
            ],
        )
        keys = select(_table.c.key).where(
            _table.c.cube == cube, _table.c.product == product, _table.c.scene_id.in_(portion)
        )
        settle_keys(connection, cube, product, set(connection.execute(keys).scalars()))
        if own_state in (State.CUBED, State.SEEN):
            failures = tables.failures
            connection.execute(
                delete(failures).where(
                    failures.c.cube == cube,
                    failures.c.product == product,
                    failures.c.scene_id.in_(portion),
                )
            )


def settle_keys(
    connection: Connection, cube: str, product: str, keys: Iterable[str]
) -> list[tuple[str, str]]:
    """Write what holds for every version of these observations; returns the (old, new) pairs that are new."""
    columns = [_table.c[name] for name in ("scene_id", "key", "version", "seen_at", "own_state")]
    statement = (
        update(_table)
        .where(_PRIMARY)
        .values(state=bindparam("p_state"), superseded_by=bindparam("p_by"), changed_at=bindparam("p_now"))
    )
    pairs: list[tuple[str, str]] = []
    for portion in chunks(keys):
        query = select(*columns, _table.c.state, _table.c.superseded_by).where(
            _table.c.cube == cube, _table.c.product == product, _table.c.key.in_(portion)
        )
        observations: dict[str, list[Version]] = {}
        before: dict[str, Standing] = {}
        for scene_id, key, order, seen_at, own, state, by in connection.execute(query):
            observations.setdefault(key, []).append(Version(scene_id, order, seen_at, State(own)))
            before[scene_id] = Standing(State(state), by)
        moved = {
            scene_id: standing
            for versions in observations.values()
            for scene_id, standing in settle(versions).items()
            if standing != before[scene_id]
        }
        if moved:
            now = datetime.now(UTC)
            connection.execute(
                statement,
                [
                    {
                        "p_cube": cube,
                        "p_product": product,
                        "p_scene": scene_id,
                        "p_state": standing.state,
                        "p_by": standing.superseded_by,
                        "p_now": now,
                    }
                    for scene_id, standing in moved.items()
                ],
            )
        pairs += [
            (scene_id, standing.superseded_by)
            for scene_id, standing in sorted(moved.items())
            if standing.superseded_by is not None and standing.superseded_by != before[scene_id].superseded_by
        ]
    return pairs


def _renew(connection: Connection, cube: str, product: str, scene: Scene) -> None:
    """A better version under an id that is known and not cubed: ``seen`` again, with the new document."""
    where = {"p_cube": cube, "p_product": product, "p_scene": scene.id}
    connection.execute(
        update(_table)
        .where(_PRIMARY)
        .values(
            version=version_order(scene),
            key=scene.key,
            sensed=scene.sensed,
            state=State.SEEN,
            own_state=State.SEEN,
            superseded_by=None,
            reasons=[],
            changed_at=datetime.now(UTC),
        ),
        where,
    )
    connection.execute(
        update(_documents)
        .where(
            _documents.c.cube == cube,
            _documents.c.product == product,
            _documents.c.scene_id == scene.id,
        )
        .values(document=scene.to_dict())
    )
