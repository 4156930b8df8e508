"""Every scene ever seen and its state in each cube; what happens to it, and what is known of it.

The states and their changes are drawn in ``catalog.ledger.supersession``. A change that cannot be raises
``LedgerError`` and changes nothing; repeating one is allowed, so a retried task does no harm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, Select, and_, bindparam, func, or_, select, update

from catalog import tables
from catalog.database import chunks, write
from catalog.errors import LedgerError
from catalog.ledger import failures, places
from catalog.ledger.reconcile import reconciled
from catalog.ledger.records import Failure, LedgerRow, Reconciliation, UpsertResult, merged
from catalog.ledger.searches import Searches
from catalog.ledger.supersession import FROM, State
from catalog.ledger.writes import (
    PRIMARY,
    best_by_product,
    fetch,
    forget,
    not_known,
    note,
    renew_document,
    same_items,
    set_own_state,
    take,
)
from catalog.samples import Location
from catalog.scenes import Scene

_table = tables.scenes
_documents = tables.scene_documents
_notes = tables.notes


class Ledger:
    """Scenes and locations of every cube, over one database."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.searches = Searches(engine)

    # ------------------------------------------------------------------ what was found

    def known_items(self, cube: str, product: str, digests: Mapping[str, str]) -> set[str]:
        """Those of the items (id → ``item_digest``) that are in the ledger just as they are now."""
        known: set[str] = set()
        with self.engine.connect() as connection:
            for portion in chunks(digests.items(), 10_000):
                known |= same_items(connection, cube, product, dict(portion))
        return known

    def upsert(
        self, scenes: Iterable[Scene], cube: str, digests: Mapping[str, str] | None = None
    ) -> UpsertResult:
        """Take note of found scenes; known ones cost one indexed look-up each and no write.

        Scenes are taken in portions, each in a transaction of its own: what a killed search had taken in is
        ``seen`` and waits in ``rows(state="seen")``, it is not found to be new again.

        Parameters
        ----------
        digests: scene id → digest of the item it was made from. An item that changed without becoming a new
            version renews the record of a scene that is not cubed; one that was accepted is judged again.
        """
        results: list[UpsertResult] = []
        for portion in chunks(scenes, 10_000):
            for product, found in best_by_product(portion).items():
                with self.engine.connect() as connection:
                    fresh = not_known(connection, cube, product, found, digests)
                result = UpsertResult(known=len(found) - len(fresh))
                results.append(result)
                if fresh:
                    with write(self.engine, lock=f"ledger:{cube}") as connection:
                        taken = {i: found[i] for i in fresh}
                        results.append(take(connection, cube, product, taken, digests or {}))
        return merged(results)

    def complete(self, scenes: Iterable[Scene], cube: str) -> None:
        """Replace the records of scenes that are not cubed, after what their items only point to was read."""
        with write(self.engine, lock=f"ledger:{cube}") as connection:
            for scene in scenes:
                renew_document(connection, cube, scene)

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
        self._move(dict.fromkeys(ids, ()), State.CUBED, cube, product, snapshot=snapshot)

    def replay(self, ids: Iterable[str], *, cube: str, product: str) -> None:
        """Another chance: ``quarantined → seen``; reasons and failures are forgotten."""
        self._move(dict.fromkeys(ids, ()), State.SEEN, cube, product)

    def planned(
        self, ids: Iterable[str], plan: str, *, cube: str, product: str, why: Mapping[str, str] | None = None
    ) -> None:
        """All was taken from accepted or cubed scenes that a plan wants: ``pending`` leaves them out.

        Parameters
        ----------
        plan: digest of the locations and dates that were asked for; of another one they are pending again
        why:  scene id → why it had nothing to give; such a scene stays accepted
        """
        own = _table.c.own_state
        statement = (
            update(_table)
            .where(PRIMARY, or_(own == State.ACCEPTED, own == State.CUBED))
            .values(plan=plan, passed_over=bindparam("p_why"))
        )
        with write(self.engine, lock=f"ledger:{cube}") as connection:
            for portion in chunks(ids):
                rows = [
                    {"p_cube": cube, "p_product": product, "p_scene": i, "p_why": (why or {}).get(i)}
                    for i in portion
                ]
                connection.execute(statement, rows)

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
        (it was rolled back, or made anew) is ``accepted`` again. The note ``snapshot`` says so.
        """
        with write(self.engine, lock=f"ledger:{cube}") as connection:
            found = reconciled(connection, cube, scenes_in_cube, snapshot)
            note(connection, cube, "snapshot", snapshot)
        return found

    # ------------------------------------------------------------------ notes

    def note(self, cube: str, name: str, value: str) -> None:
        """Remember something about a cube, e.g. ``snapshot``: the one the ledger agrees with."""
        with write(self.engine, lock=f"ledger:{cube}") as connection:
            note(connection, cube, name, value)

    def noted(self, cube: str, name: str) -> str | None:
        """What was remembered, if anything."""
        query = select(_notes.c.value).where(_notes.c.cube == cube, _notes.c.name == name)
        with self.engine.connect() as connection:
            return connection.execute(query).scalar()

    # ------------------------------------------------------------------ what it knows

    def pending(self, cube: str, product: str, plan: str | None = None) -> list[Scene]:
        """Scenes to take samples from, oldest first.

        Accepted ones that are not cubed; with a ``plan``, also cubed ones from which it may want more (they
        were ``planned`` for another), and no accepted one that had nothing to give for this very plan.
        """
        query = _with_documents().where(_table.c.cube == cube, _table.c.product == product)
        if plan is None:
            query = query.where(_table.c.state == State.ACCEPTED)
        else:
            query = query.where(
                _table.c.state.in_((State.ACCEPTED, State.CUBED)),
                or_(_table.c.plan.is_(None), _table.c.plan != plan),
            )
        query = query.order_by(_table.c.sensed, _table.c.scene_id)
        with self.engine.connect() as connection:
            return [_row(found).scene() for found in connection.execute(query).mappings()]

    def scenes(self, cube: str) -> list[Scene]:
        """Every scene ever seen for a cube, whatever its state; oldest first."""
        return [row.scene() for row in self.rows(cube=cube)]

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
        failure = Failure(
            cube, scene.product, scene.id, band, href, status, attempts, message, datetime.now(UTC)
        )
        failures.record(self.engine, failure)

    def refuse(self, cube: str, product: str, refusals: Mapping[str, str]) -> None:
        """Items that could not be made into scenes: item id → reasons. A row each, of the band ``item``."""
        failures.refuse(self.engine, cube, product, refusals)

    def failures(
        self, cube: str | None = None, product: str | None = None, scene_id: str | None = None
    ) -> list[Failure]:
        """Assets that could not be read, of scenes that are not cubed since."""
        return failures.find(self.engine, cube, product, scene_id)

    # ------------------------------------------------------------------ locations

    def save_locations(self, cube: str, locations: Iterable[Location]) -> list[Location]:
        """Add locations that the cube does not have; returns all of them as the ledger has them.

        A known id keeps its split and its block, whatever a new sampling says.

        Raises
        ------
        LedgerError: ``location-moved``: the id stands for another place or size.
        """
        return places.save(self.engine, cube, locations)

    def locations(self, cube: str) -> list[Location]:
        """The cube's locations in the order in which they came."""
        return places.find(self.engine, cube)

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
            if to is State.CUBED and todo:
                # The ledger is ahead of the snapshot it agreed with. Were the cube rolled back to that one
                # before the new one is noted, it would be taken for what the ledger knows.
                forget(connection, cube, "snapshot")


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
        passed_over=found["passed_over"],
        document=found["document"],
    )


def _unknown(scene_id: str, cube: str = "", product: str = "") -> LedgerError:
    where = f" in cube {cube}, product {product}" if cube else ""
    return LedgerError(
        "unknown-scene",
        f"the ledger has never seen it{where}",
        subject=scene_id,
        next_step="swath scenes list",
    )
