"""What could not be read or understood: one row per scene and band, until the scene is cubed or replayed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from urllib.parse import urlsplit, urlunsplit

from sqlalchemy import Engine, and_, delete, insert, select

from catalog import tables
from catalog.database import write
from catalog.ledger.records import Failure

_table = tables.failures

ITEM = "item"
"""What stands for the band of a failure that is the item's own: there is no scene of it."""


def record(engine: Engine, failure: Failure) -> None:
    """Add a failure; attempts of the same scene and band add up, the last message stays."""
    where = ("cube", "product", "scene_id", "band")
    primary = and_(*(_table.c[name] == getattr(failure, name) for name in where))
    with write(engine, lock=f"ledger:{failure.cube}") as connection:
        earlier = connection.execute(select(_table.c.attempts).where(primary)).scalar() or 0
        connection.execute(delete(_table).where(primary))
        row = asdict(failure) | {
            "href": unsigned(failure.href),
            "attempts": earlier + failure.attempts,
        }
        connection.execute(insert(_table).values(**row))


def refuse(engine: Engine, cube: str, product: str, refusals: Mapping[str, str]) -> None:
    """Note items that are no scenes; one that is noted with the same reasons stays as it is."""
    if not refusals:
        return
    columns = (_table.c.scene_id, _table.c.message)
    query = select(*columns).where(_table.c.cube == cube, _table.c.product == product, _table.c.band == ITEM)
    with engine.connect() as connection:
        noted = dict(connection.execute(query).tuples().all())
    for item, why in refusals.items():
        if noted.get(item) != why:
            record(engine, Failure(cube, product, item, ITEM, "", None, 1, why, datetime.now(UTC)))


def find(engine: Engine, cube: str | None, product: str | None, scene_id: str | None) -> list[Failure]:
    """Failures, oldest first; a filter that is None lets everything through."""
    query = select(_table).order_by(_table.c.failed_at, _table.c.scene_id, _table.c.band)
    for column, value in (
        (_table.c.cube, cube),
        (_table.c.product, product),
        (_table.c.scene_id, scene_id),
    ):
        if value is not None:
            query = query.where(column == value)
    with engine.connect() as connection:
        return [Failure(**found) for found in connection.execute(query).mappings()]


def unsigned(href: str) -> str:
    """An address without its query and fragment, where signatures and tokens are."""
    parts = urlsplit(href)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
