"""The ledger: every scene ever seen, its state in each cube, its failures, and the sampled locations.

The states and their changes are drawn in ``catalog.supersession``. A change that cannot be raises
``LedgerError`` and changes nothing; repeating one is allowed, so a retried task does no harm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from sqlalchemy import Engine, Select, and_, delete, func, insert, select

from catalog import tables
from catalog.database import chunks, write
from catalog.errors import LedgerError
from catalog.ledger_records import Failure, LedgerRow, Reconciliation, UpsertResult
from catalog.ledger_writes import add, best_by_product, fetch, not_known, set_own_state, take
from catalog.samples import Location
from catalog.scenes import Scene
from catalog.supersession import FROM, State

_table = tables.scenes
_documents = tables.scene_documents


class Ledger:
    """Scenes and locations of every cube, over one database."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    # ------------------------------------------------------------------ what was found

    def upsert(self, scenes: Iterable[Scene], cube: str) -> UpsertResult:
        """Take note of found scenes; known ones cost one indexed look-up each and no write.

        Scenes are taken in portions, each in a transaction of its own: what a killed search had taken in is
        ``seen`` and waits in ``rows(state="seen")``, it is not found to be new again.
        """
        new: list[str] = []
        renewed: list[str] = []
        changed: list[str] = []
        superseded: list[tuple[str, str]] = []
        offered = 0
        for portion in chunks(scenes, 10_000):
            for product, found in best_by_product(portion).items():
                offered += len(found)
                with self.engine.connect() as connection:
                    fresh = not_known(connection, cube, product, found)
                if fresh:
                    with write(self.engine, lock=f"ledger:{cube}") as connection:
                        result = take(connection, cube, product, {i: found[i] for i in fresh})
                    new += result.new
                    renewed += result.renewed
                    changed += result.changed
                    superseded += result.superseded
        known = offered - len(new) - len(renewed) - len(changed)
        return UpsertResult(tuple(new), known, tuple(superseded), tuple(renewed), tuple(changed))

    # ------------------------------------------------------------------ what became of them

    def accept(self, ids: Iterable[str], *, cube: str, product: str) -> None:
        """The gate let them through: ``seen → accepted``."""
        self._move(dict.fromkeys(ids, ()), State.ACCEPTED, cube, product)

    def quarantine(self, reasons: Mapping[str, Sequence[str]], *, cube: str, product: str) -> None:
        """They cannot be used: scene id → reasons, one line each. ``seen / accepted → quarantined``.

        If a better version is quarantined, the one it was to supersede stands again.
        """
        for scene_id, lines in reasons.items():
            if isinstance(lines, str) or not lines:
                raise ValueError(f"{scene_id}: reasons are a list of at least one line")
        self._move({i: tuple(lines) for i, lines in reasons.items()}, State.QUARANTINED, cube, product)

    def cubed(self, ids: Iterable[str], snapshot: str, *, cube: str, product: str) -> None:
        """The snapshot holds them: ``accepted → cubed``; versions they replace become ``superseded``.

        A scene whose better version was found while it was being cubed is recorded too: it *is* in the cube.
        """
        ids = list(ids)
        self._move(dict.fromkeys(ids, ()), State.CUBED, cube, product, snapshot=snapshot)

    def replay(self, ids: Iterable[str], *, cube: str, product: str) -> None:
        """Another chance: ``quarantined → seen``; reasons and failures are forgotten."""
        self._move(dict.fromkeys(ids, ()), State.SEEN, cube, product)

    def replacements(self, cube: str, product: str) -> dict[str, str]:
        """Cubed scene id → id of the accepted one that supersedes it when it is cubed."""
        better = _table.alias("better")
        query = (
            select(_table.c.scene_id, better.c.scene_id)
            .join(
                better,
                and_(
                    better.c.cube == _table.c.cube,
                    better.c.product == _table.c.product,
                    better.c.scene_id == _table.c.superseded_by,
                ),
            )
            .where(_table.c.cube == cube, _table.c.product == product)
            .where(_table.c.state == State.CUBED, better.c.state == State.ACCEPTED)
            .order_by(_table.c.scene_id)
        )
        with self.engine.connect() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def reconcile(
        self, cube: str, scenes_in_cube: Mapping[str, Iterable[str] | Mapping[str, Scene]], snapshot: str
    ) -> Reconciliation:
        """Make the ledger say what the cube says; the cube is the authority.

        ``scenes_in_cube`` is complete: product → ids, or → {id: scene} so that a lost ledger is rebuilt. A
        scene that a killed run committed but did not note becomes ``cubed``; one that the cube does not hold
        (it was rolled back, or made anew) is ``accepted`` again.
        """
        noted: list[tuple[str, str]] = []
        returned: list[tuple[str, str]] = []
        unknown: list[tuple[str, str]] = []
        with write(self.engine, lock=f"ledger:{cube}") as connection:
            known_products = connection.execute(
                select(_table.c.product).where(_table.c.cube == cube).distinct()
            ).scalars()
            for product in sorted({*known_products, *scenes_in_cube}):
                listed = scenes_in_cube.get(product, ())
                inside = set(listed)
                own: dict[str, str] = {
                    row[0]: row[1]
                    for row in connection.execute(
                        select(_table.c.scene_id, _table.c.own_state).where(
                            _table.c.cube == cube, _table.c.product == product
                        )
                    )
                }
                late = sorted(i for i in inside if i in own and own[i] != State.CUBED)
                gone = sorted(i for i, state in own.items() if state == State.CUBED and i not in inside)
                missing = sorted(inside - own.keys())
                if isinstance(listed, Mapping):
                    add(connection, cube, product, [listed[i] for i in missing])
                    late = sorted([*late, *missing])
                else:
                    unknown += [(product, i) for i in missing]
                set_own_state(connection, cube, product, dict.fromkeys(late, ()), State.CUBED, snapshot)
                set_own_state(connection, cube, product, dict.fromkeys(gone, ()), State.ACCEPTED)
                noted += [(product, i) for i in late]
                returned += [(product, i) for i in gone]
        return Reconciliation(tuple(noted), tuple(returned), tuple(unknown))

    # ------------------------------------------------------------------ what it knows

    def pending(self, cube: str, product: str) -> list[Scene]:
        """Accepted scenes that are not cubed yet, oldest first."""
        return [row.scene() for row in self.rows(state=State.ACCEPTED, product=product, cube=cube)]

    def rows(
        self,
        state: str | None = None,
        product: str | None = None,
        cube: str | None = None,
        *,
        scene_id: str | None = None,
        limit: int | None = None,
    ) -> list[LedgerRow]:
        """Rows, oldest sensing time first; a filter that is None lets everything through."""
        query = _with_documents()
        if state is not None:
            if state not in list(State):
                raise LedgerError(
                    "unknown-state",
                    f"there is no state {state!r}",
                    next_step=f"use one of {', '.join(State)}",
                )
            query = query.where(_table.c.state == state)
        for column, value in (
            (_table.c.product, product),
            (_table.c.cube, cube),
            (_table.c.scene_id, scene_id),
        ):
            if value is not None:
                query = query.where(column == value)
        query = query.order_by(_table.c.sensed, _table.c.cube, _table.c.product, _table.c.scene_id).limit(
            limit
        )
        with self.engine.connect() as connection:
            return [_row(found) for found in connection.execute(query).mappings()]

    def row(self, scene_id: str, *, cube: str | None = None, product: str | None = None) -> LedgerRow:
        """One row; cube and product may be left out where the id alone is enough."""
        found = self.rows(scene_id=scene_id, cube=cube, product=product)
        if len(found) == 1:
            return found[0]
        if not found:
            raise _unknown(scene_id)
        places = ", ".join(f"{row.cube}/{row.product}" for row in found)
        raise LedgerError(
            "ambiguous-scene",
            f"it is in {places}",
            subject=scene_id,
            next_step="name the cube and the product",
        )

    def counts(self, cube: str | None = None) -> dict[tuple[str, str, State], int]:
        """(cube, product, state) → number of scenes."""
        columns = (_table.c.cube, _table.c.product, _table.c.state)
        query = select(*columns, func.count()).group_by(*columns).order_by(*columns)
        if cube is not None:
            query = query.where(_table.c.cube == cube)
        with self.engine.connect() as connection:
            return {(c, p, State(s)): n for c, p, s, n in connection.execute(query)}

    # ------------------------------------------------------------------ failures

    def record_failure(
        self,
        scene: Scene,
        band: str,
        href: str,
        status: int | None,
        attempts: int,
        message: str,
        *,
        cube: str,
    ) -> None:
        """An asset could not be read. One row per scene and band: attempts add up, the last message stays.

        The query of ``href`` is dropped: it is where signatures are.
        """
        where = {"cube": cube, "product": scene.product, "scene_id": scene.id, "band": band}
        table = tables.failures
        primary = and_(*(table.c[name] == value for name, value in where.items()))
        with write(self.engine, lock=f"ledger:{cube}") as connection:
            earlier = connection.execute(select(table.c.attempts).where(primary)).scalar() or 0
            connection.execute(delete(table).where(primary))
            connection.execute(
                insert(table).values(
                    **where,
                    href=unsigned(href),
                    status=status,
                    attempts=earlier + attempts,
                    message=message,
                    failed_at=datetime.now(UTC),
                )
            )

    def failures(self, cube: str | None = None, product: str | None = None) -> list[Failure]:
        """Assets that could not be read, of scenes that are not cubed since."""
        table = tables.failures
        query = select(table).order_by(table.c.failed_at, table.c.scene_id, table.c.band)
        for column, value in ((table.c.cube, cube), (table.c.product, product)):
            if value is not None:
                query = query.where(column == value)
        with self.engine.connect() as connection:
            return [Failure(**found) for found in connection.execute(query).mappings()]

    # ------------------------------------------------------------------ locations

    def save_locations(self, cube: str, locations: Iterable[Location]) -> list[Location]:
        """Add locations that the cube does not have; returns all of them as the ledger has them.

        A known id keeps its split and its block, whatever a new sampling says.

        Raises
        ------
        LedgerError: ``location-moved``: the id stands for another place or size.
        """
        table = tables.locations
        wanted = {location.id: location for location in locations}
        stored: dict[str, Location] = {}
        with write(self.engine, lock=f"locations:{cube}") as connection:
            for portion in chunks(wanted):
                query = select(table).where(table.c.cube == cube, table.c.id.in_(portion))
                for found in connection.execute(query).mappings():
                    stored[found["id"]] = _location(found)
            for location_id, old in stored.items():
                _same_place(old, wanted[location_id])
            count = connection.execute(
                select(func.coalesce(func.max(table.c.position), -1)).where(table.c.cube == cube)
            ).scalar_one()
            added = [location for location_id, location in wanted.items() if location_id not in stored]
            rows = [
                {"cube": cube, "position": count + number, **asdict(location)}
                for number, location in enumerate(added, start=1)
            ]
            for part in chunks(rows):
                connection.execute(insert(table), list(part))
        return [stored.get(location_id, location) for location_id, location in wanted.items()]

    def locations(self, cube: str) -> list[Location]:
        """The cube's locations in the order in which they came."""
        table = tables.locations
        query = select(table).where(table.c.cube == cube).order_by(table.c.position)
        with self.engine.connect() as connection:
            return [_location(found) for found in connection.execute(query).mappings()]

    def _move(
        self,
        reasons: Mapping[str, Sequence[str]],
        to: State,
        cube: str,
        product: str,
        *,
        snapshot: str | None = None,
    ) -> None:
        """Check every scene first, then change all of them; scene id → reasons."""
        with write(self.engine, lock=f"ledger:{cube}") as connection:
            stored = fetch(connection, cube, product, reasons)
            for scene_id in reasons:
                if scene_id not in stored:
                    raise _unknown(scene_id, cube, product)
                state = stored[scene_id].state
                if to is State.CUBED and state is State.SUPERSEDED:
                    state = stored[scene_id].own_state
                if state not in FROM[to]:
                    raise LedgerError(
                        "illegal-transition",
                        f"it is {stored[scene_id].state} in cube {cube} and cannot become {to}",
                        subject=scene_id,
                        next_step=f"swath scenes show {scene_id}",
                    )
            # What is there already stays as it is (a cubed scene keeps the first snapshot that held it),
            # except that reasons may be found anew.
            todo = {
                scene_id: lines
                for scene_id, lines in reasons.items()
                if stored[scene_id].own_state is not to or to is State.QUARANTINED
            }
            set_own_state(connection, cube, product, todo, to, snapshot)


def unsigned(href: str) -> str:
    """An address without its query and fragment, where signatures and tokens are."""
    parts = urlsplit(href)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def _with_documents() -> Select[Any]:
    return select(_table, _documents.c.document).join(
        _documents,
        and_(
            _documents.c.cube == _table.c.cube,
            _documents.c.product == _table.c.product,
            _documents.c.scene_id == _table.c.scene_id,
        ),
    )


def _row(found: Mapping[Any, Any]) -> LedgerRow:
    return LedgerRow(
        cube=found["cube"],
        product=found["product"],
        scene_id=found["scene_id"],
        key=found["key"],
        state=State(found["state"]),
        reasons=tuple(found["reasons"]),
        snapshot=found["snapshot"],
        superseded_by=found["superseded_by"],
        sensed=found["sensed"],
        seen_at=found["seen_at"],
        changed_at=found["changed_at"],
        document=found["document"],
    )


def _location(found: Mapping[Any, Any]) -> Location:
    return Location(**{name: found[name] for name in Location.__dataclass_fields__})


def _same_place(old: Location, new: Location) -> None:
    same = old.epsg == new.epsg and all(
        abs(a - b) < 1e-3 for a, b in ((old.x, new.x), (old.y, new.y), (old.size_m, new.size_m))
    )
    if not same:
        raise LedgerError(
            "location-moved",
            f"the cube has it at {old.x:.1f}, {old.y:.1f} (EPSG:{old.epsg}, {old.size_m:g} m), "
            f"not {new.x:.1f}, {new.y:.1f} (EPSG:{new.epsg}, {new.size_m:g} m)",
            subject=old.id,
            next_step="give the recipe another `cube`, or the old location settings",
        )


def _unknown(scene_id: str, cube: str = "", product: str = "") -> LedgerError:
    where = f" in cube {cube}, product {product}" if cube else ""
    return LedgerError(
        "unknown-scene",
        f"the ledger has never seen it{where}",
        subject=scene_id,
        next_step="swath scenes list",
    )
