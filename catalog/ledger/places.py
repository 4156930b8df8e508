"""Locations of a cube: added once, never moved, in the order in which they came."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Engine, func, insert, select

from catalog import tables
from catalog.database import chunks, write
from catalog.errors import LedgerError
from catalog.samples import Location

_table = tables.locations


def save(engine: Engine, cube: str, locations: Iterable[Location]) -> list[Location]:
    """See ``Ledger.save_locations``."""
    wanted = {location.id: location for location in locations}
    stored: dict[str, Location] = {}
    with write(engine, lock=f"locations:{cube}") as connection:
        for portion in chunks(wanted):
            query = select(_table).where(_table.c.cube == cube, _table.c.id.in_(portion))
            for found in connection.execute(query).mappings():
                stored[found["id"]] = _location(found)
        for location_id, old in stored.items():
            _same_place(old, wanted[location_id])
        count = connection.execute(
            select(func.coalesce(func.max(_table.c.position), -1)).where(_table.c.cube == cube)
        ).scalar_one()
        added = [location for location_id, location in wanted.items() if location_id not in stored]
        rows = [
            {"cube": cube, "position": count + number, **asdict(location)}
            for number, location in enumerate(added, start=1)
        ]
        for part in chunks(rows):
            connection.execute(insert(_table), list(part))
    return [stored.get(location_id, location) for location_id, location in wanted.items()]


def find(engine: Engine, cube: str) -> list[Location]:
    """See ``Ledger.locations``."""
    query = select(_table).where(_table.c.cube == cube).order_by(_table.c.position)
    with engine.connect() as connection:
        return [_location(found) for found in connection.execute(query).mappings()]


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
