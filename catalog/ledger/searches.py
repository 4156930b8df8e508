"""When an archive was last searched, and from which sensing date on it must be searched again.

Scenes arrive late: days for Sentinel, weeks for Landsat's final tier. A refresh that looks back over that
window alone misses what an archive makes anew much later, so the whole period is searched again now and then.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from sqlalchemy import Engine, delete, insert, select

from catalog import tables
from catalog.database import write
from catalog.recipes import Period

_table = tables.searches


class Searches:
    """The last search of each product of each cube."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def period_to_search(
        self,
        cube: str,
        product: str,
        request: str,
        period: Period,
        *,
        look_back_days: int | None,
        whole_every_days: float,
        now: datetime,
    ) -> Period:
        """The part of ``period`` that may hold scenes the ledger has not seen.

        Parameters
        ----------
        request:          digest of archive, area and filters; another request starts anew
        look_back_days:   late-arrival window before the end of the last search; None is the whole period
        whole_every_days: age of the last whole search past which all of it is searched again
        """
        query = select(_table).where(_table.c.cube == cube, _table.c.product == product)
        with self.engine.connect() as connection:
            last = connection.execute(query).mappings().one_or_none()
        if (
            look_back_days is None
            or last is None
            or last["request"] != request
            or now - last["whole_at"] >= timedelta(days=whole_every_days)
        ):
            return period
        # Of a period that is over, its own last days are what late arrivals belong to.
        newest = min(last["searched_at"].date(), last["until"])
        start = max(period.start, newest - timedelta(days=look_back_days))
        return Period(start=min(start, period.end), end=period.end)

    def note(
        self, cube: str, product: str, request: str, *, start: date, whole: Period, now: datetime
    ) -> None:
        """Everything from ``start`` on was searched and taken in, as it was at ``now``."""
        where = (_table.c.cube == cube, _table.c.product == product)
        with write(self.engine, lock=f"ledger:{cube}") as connection:
            last = connection.execute(select(_table).where(*where)).mappings().one_or_none()
            whole_at = now.astimezone(UTC)
            if last is not None and last["request"] == request and start > whole.start:
                whole_at = last["whole_at"]
            connection.execute(delete(_table).where(*where))
            connection.execute(
                insert(_table).values(
                    cube=cube,
                    product=product,
                    request=request,
                    searched_at=now.astimezone(UTC),
                    whole_at=whole_at,
                    until=whole.end,
                )
            )
