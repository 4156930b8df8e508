"""Makes the ledger say what the cube says, inside one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, select

from catalog import tables
from catalog.ledger.records import Reconciliation
from catalog.ledger.supersession import State
from catalog.ledger.writes import add, set_own_state
from catalog.scenes import Scene

_table = tables.scenes


def reconciled(
    connection: Connection,
    cube: str,
    scenes_in_cube: Mapping[str, Iterable[str] | Mapping[str, Scene]],
    snapshot: str,
) -> Reconciliation:
    """See ``Ledger.reconcile``."""
    noted: list[tuple[str, str]] = []
    returned: list[tuple[str, str]] = []
    unknown: list[tuple[str, str]] = []
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
