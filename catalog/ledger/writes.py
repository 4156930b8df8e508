"""What the ledger does inside one transaction: take scenes in, set what they reached, settle what holds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, insert, select, text, update

from catalog import tables
from catalog.database import chunks, to_json
from catalog.ledger.records import UpsertResult
from catalog.ledger.supersession import Standing, State, Version, settle, version_order
from catalog.scenes import Scene

_table = tables.scenes
_documents = tables.scene_documents
PRIMARY = and_(
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


def not_known(
    connection: Connection,
    cube: str,
    product: str,
    found: Mapping[str, Scene],
    digests: Mapping[str, str] | None = None,
) -> list[str]:
    """Ids that the ledger has not, or has at another version, or made from another item (``digests``)."""
    if digests is None:
        offered = {i: version_order(scene) for i, scene in found.items()}
        stored = "scenes.version"
    else:
        offered = {i: f"{version_order(scene)}|{digests.get(i, '')}" for i, scene in found.items()}
        stored = "scenes.version || '|' || coalesce(scenes.item_digest, '')"
    condition = f"scenes.version IS NULL OR {stored} <> offered.value"
    return _compare(connection, cube, product, offered, condition)


def same_items(connection: Connection, cube: str, product: str, digests: Mapping[str, str]) -> set[str]:
    """Ids that the ledger has, made from an item of the same digest."""
    return set(_compare(connection, cube, product, digests, "scenes.item_digest = offered.value"))


def _compare(
    connection: Connection, cube: str, product: str, offered: Mapping[str, str], condition: str
) -> list[str]:
    """Ids of what is offered (id → value) for which a condition on the stored row holds.

    They travel as one JSON document and are looked up by primary key inside the database, so that scenes that
    are known cost no row in Python.
    """
    each = "json_each" if connection.dialect.name == "sqlite" else "json_each_text"
    query = text(
        f"SELECT offered.key FROM {each}(:offered) AS offered LEFT JOIN scenes "  # noqa: S608 - fixed texts
        "ON scenes.cube = :cube AND scenes.product = :product AND scenes.scene_id = offered.key "
        f"WHERE {condition}"
    )
    document = json.dumps(dict(offered), ensure_ascii=False)
    rows = connection.execute(query, {"offered": document, "cube": cube, "product": product})
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


def versioned_id(scene: Scene) -> str:
    """Id of a later version that an archive gave the same id as the one that is cubed already.

    Landsat's id drops the processing date. In the cube two versions must not be confused: ``ID~20240131T…``.
    """
    version = f"{scene.generated:%Y%m%dT%H%M%S}" if scene.generated else scene.baseline or "later"
    return f"{scene.id}~{version}"


def take(
    connection: Connection,
    cube: str,
    product: str,
    found: Mapping[str, Scene],
    digests: Mapping[str, str],
) -> UpsertResult:
    """Add and renew scenes of one product that are not known as they are now."""
    stored = fetch(connection, cube, product, found)
    own = {i: versioned_id(scene) for i, scene in found.items() if i in stored}
    versioned = fetch(connection, cube, product, own.values())
    new: list[Scene] = []
    renewed: list[Scene] = []
    changed: list[str] = []
    touched: list[str] = []
    for scene_id, scene in found.items():
        old = stored.get(scene_id)
        if old is None:
            new.append(scene)
            continue
        order = version_order(scene)
        if order > old.version and old.own_state is not State.CUBED:
            renewed.append(scene)
        elif order > old.version and own[scene_id] not in versioned:
            changed.append(scene_id)
            new.append(replace(scene, id=own[scene_id]))
        elif order == old.version and scene_id in digests:
            touched.append(scene_id)
    add(connection, cube, product, new, digests)
    for scene in renewed:
        _renew(connection, cube, product, scene)
    for scene_id in touched:
        renew_document(connection, cube, found[scene_id])
    # What was accepted was judged by its old item and its old files.
    again = [scene_id for scene_id in touched if stored[scene_id].own_state is State.ACCEPTED]
    set_own_state(connection, cube, product, dict.fromkeys(again, ()), State.SEEN)
    _set_digests(connection, cube, product, {i: digests[i] for i in stored if i in digests})
    keys = {scene.key for scene in (*new, *renewed)} | {stored[scene.id].key for scene in renewed}
    return UpsertResult(
        new=tuple(scene.id for scene in new),
        known=len(found) - len(new) - len(renewed),
        superseded=tuple(settle_keys(connection, cube, product, keys)),
        renewed=tuple(scene.id for scene in renewed),
        changed=tuple(changed),
        touched=tuple(touched),
    )


def add(
    connection: Connection,
    cube: str,
    product: str,
    scenes: Sequence[Scene],
    digests: Mapping[str, str] | None = None,
) -> None:
    """New rows, ``seen``."""
    digests = digests or {}
    now = datetime.now(UTC)
    for portion in chunks(scenes):
        rows: list[dict[str, Any]] = [
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
                "item_digest": digests.get(scene.id),
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
        .where(PRIMARY)
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
        .where(PRIMARY)
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
        .where(PRIMARY)
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
    renew_document(connection, cube, scene)


def renew_document(connection: Connection, cube: str, scene: Scene) -> None:
    """Write a scene's record anew, unless the cube holds its samples: they came from the old one."""
    not_cubed = (
        select(_table.c.scene_id)
        .where(
            _table.c.cube == cube,
            _table.c.product == scene.product,
            _table.c.scene_id == scene.id,
            _table.c.own_state != State.CUBED,
        )
        .exists()
    )
    connection.execute(
        update(_documents)
        .where(
            _documents.c.cube == cube,
            _documents.c.product == scene.product,
            _documents.c.scene_id == scene.id,
            not_cubed,
        )
        .values(document=scene.to_dict())
    )


def _set_digests(connection: Connection, cube: str, product: str, digests: Mapping[str, str]) -> None:
    if not digests:
        return
    connection.execute(
        update(_table).where(PRIMARY).values(item_digest=bindparam("p_digest")),
        [
            {"p_cube": cube, "p_product": product, "p_scene": scene_id, "p_digest": digest}
            for scene_id, digest in digests.items()
        ],
    )


def note(connection: Connection, cube: str, name: str, value: str) -> None:
    """Remember something about a cube, in the place of what was remembered under this name before."""
    forget(connection, cube, name)
    connection.execute(insert(tables.notes).values(cube=cube, name=name, value=value))


def forget(connection: Connection, cube: str, name: str) -> None:
    """Drop what was remembered about a cube under this name."""
    table = tables.notes
    connection.execute(delete(table).where(table.c.cube == cube, table.c.name == name))
