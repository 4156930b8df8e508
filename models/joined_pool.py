"""Places that every wanted product has, and which samples batch k holds: a view per product and date.

``open_joined(cube, ("sentinel-2-l2a", "sentinel-1-rtc"), snapshot)`` gives the places, and
``JoinedPlan(pool, batch_size, ("sentinel-2-l2a", "sentinel-2-l2a", "sentinel-1-rtc"), seed)`` draws two dates
of the first product and one of the second at each place. ``BatchStream`` takes it like a
``BatchPlan``, with one ``SampleReader`` per product; ``RawBatch.products`` names the product of each view.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from catalog.errors import TrainingError
from models.sample_pool import Draw, Rows, SamplePool, open_pool

Dates = Literal["any", "nearest"]


@dataclass(frozen=True)
class JoinedPool:
    """One pool per product, with the same places in the same order."""

    pools: Mapping[str, SamplePool]

    @property
    def place_ids(self) -> tuple[str, ...]:
        return next(iter(self.pools.values())).place_ids

    @property
    def ground(self) -> Rows:
        """A number per place, equal where windows overlap."""
        return next(iter(self.pools.values())).ground_of(np.arange(len(self.place_ids)))

    @property
    def count(self) -> int:
        """Samples of all products."""
        return sum(pool.count for pool in self.pools.values())


def open_joined(
    cube: Any, products: Sequence[str], snapshot: str, *, transductive: bool = False
) -> JoinedPool:
    """Places of the ``pretrain`` split (of all, if ``transductive``) with a sample of every product.

    Raises
    ------
    TrainingError: ``no-samples``, also where no place has all products.
    """
    pools = {name: open_pool(cube, name, snapshot, transductive=transductive) for name in products}
    common = set.intersection(*(set(pool.place_ids) for pool in pools.values()))
    if not common:
        raise TrainingError(
            "no-samples",
            f"snapshot {snapshot} holds no place with a sample of each of {', '.join(products)}",
            subject=", ".join(products),
            next_step="acquire the products over the same places and period",
        )
    return JoinedPool({name: at_places(pool, common) for name, pool in pools.items()})


def at_places(pool: SamplePool, kept: set[str]) -> SamplePool:
    """The pool without the samples of other places."""
    stays = np.array([place in kept for place in pool.place_ids], bool)
    samples = stays[pool.places]
    number = np.cumsum(stays) - 1
    places = number[pool.places[samples]].astype(np.int64)
    count = int(stays.sum())
    ground = pool.ground_of(np.arange(len(stays)))[stays]
    _, first, member = np.unique(ground, return_index=True, return_inverse=True)
    return SamplePool(
        product=pool.product,
        snapshot=pool.snapshot,
        rows=pool.rows[samples],
        ids=pool.ids[samples],
        scenes=pool.scenes[samples],
        sha256=pool.sha256[samples],
        places=places,
        place_ids=tuple(place for place, stay in zip(pool.place_ids, stays, strict=True) if stay),
        starts=np.searchsorted(places, np.arange(count + 1)).astype(np.int64),
        times=None if pool.times is None else pool.times[samples],
        ground=first[member].astype(np.int64),
    )


@dataclass(frozen=True)
class _Epoch:
    places: Rows
    """Place of each visit, in the order of the epoch."""
    ends: Rows
    """Where the shuffle windows end."""
    views: tuple[Rows, ...]
    """Per view, the sample of each visit: positions in the pool of the view's product."""


@dataclass(frozen=True)
class JoinedPlan:
    """Batch k as a pure function of (pool, seed, k), with one view per entry of ``views``.

    A visit of a place takes as many dates of each product as it has views, different ones as far as there
    are so many. An epoch visits a place as often as it takes to see every date of the first view's product,
    so that whatever is decoded is used. With ``dates="nearest"`` the views of the other products are those
    sensed nearest in time to the first view. Windows are those of the first product's chunks, as in
    ``BatchPlan``; a cube keeps the same order of places in every product, so the others' chunks come about
    once as well.
    """

    pool: JoinedPool
    batch_size: int
    """Visits per batch, over all devices."""
    views: tuple[str, ...]
    """The product of each view."""
    seed: int
    dates: Dates = "any"
    chunk_rows: int = 32
    """Rows per chunk of the first view's product."""
    window_chunks: int = 16
    _epochs: dict[int, _Epoch] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.views) - set(self.pool.pools))
        if unknown or not self.views:
            raise ValueError(f"no views, or of unknown products {unknown}; there are {list(self.pool.pools)}")

    @property
    def view_products(self) -> tuple[str, ...]:
        return self.views

    @property
    def epoch_length(self) -> int:
        """Visits per epoch."""
        return int(self._visits.sum())

    def draw(self, index: int) -> Draw:
        """Batch ``index``: positions in the pool of each view's product."""
        places, views = self._between(index * self.batch_size, (index + 1) * self.batch_size)
        return Draw(index, views, self.pool.ground[places])

    def cube_rows(self, first: int, end: int) -> tuple[tuple[Rows, ...], Rows]:
        """As ``BatchPlan.cube_rows``: rows of each view's product."""
        places, views = self._between(first, end)
        rows = (self.pool.pools[name].rows[view] for name, view in zip(self.views, views, strict=True))
        return tuple(rows), self.pool.ground[places]

    def window_end(self, at: int) -> int:
        """Where the shuffle window ends that visit ``at`` of the run lies in."""
        epoch, offset = divmod(at, self.epoch_length)
        ends = self._epoch(epoch).ends
        return epoch * self.epoch_length + int(ends[np.searchsorted(ends, offset, side="right")])

    def drawn(self, batches: int) -> dict[str, Rows]:
        """Positions in each product's pool that the first ``batches`` batches hold, sorted."""
        seen = {name: np.zeros(pool.count, bool) for name, pool in self.pool.pools.items()}
        last = batches * self.batch_size
        for epoch in range(-(-last // self.epoch_length)):
            visits = slice(0, last - epoch * self.epoch_length)
            for name, view in zip(self.views, self._epoch(epoch).views, strict=True):
                seen[name][view[visits]] = True
            if all(seen[name].all() for name in set(self.views)):
                break
        return {name: np.flatnonzero(held).astype(np.int64) for name, held in seen.items()}

    @cached_property
    def _visits(self) -> Rows:
        """How often an epoch visits each place ``(place,)``."""
        dates = np.diff(self.pool.pools[self.views[0]].starts)
        return np.asarray(-(-dates // self.views.count(self.views[0])), np.int64)

    def _between(self, first: int, end: int) -> tuple[Rows, tuple[Rows, ...]]:
        places, views = [], []
        at = first
        while at < end:
            number, offset = divmod(at, self.epoch_length)
            epoch = self._epoch(number)
            part = slice(offset, offset + end - at)
            places.append(epoch.places[part])
            views.append(tuple(view[part] for view in epoch.views))
            at += len(places[-1])
        return np.concatenate(places), tuple(np.concatenate(view) for view in zip(*views, strict=True))

    def _epoch(self, number: int) -> _Epoch:
        found = self._epochs.get(number)
        if found is None:
            places = np.repeat(np.arange(len(self._visits)), self._visits)
            rounds = np.arange(len(places)) - np.repeat(np.cumsum(self._visits) - self._visits, self._visits)
            windows = list(self._windows(number, places))
            order = np.concatenate(windows)
            views = tuple(view[order] for view in self._chosen(number, places, rounds))
            found = _Epoch(places[order], np.cumsum([len(window) for window in windows]), views)
            if len(self._epochs) > 3:
                self._epochs.clear()
            self._epochs[number] = found
        return found

    def _windows(self, epoch: int, places: Rows) -> Iterator[Rows]:
        """Visits, shuffled within windows of several chunks, the chunks shuffled among themselves."""
        random = np.random.default_rng([self.seed, epoch, 0])
        pool = self.pool.pools[self.views[0]]
        chunk = (np.minimum.reduceat(pool.rows, pool.starts[:-1]) // self.chunk_rows)[places]
        chunks = random.permutation(np.unique(chunk))
        for start in range(0, len(chunks), self.window_chunks):
            visits = np.flatnonzero(np.isin(chunk, chunks[start : start + self.window_chunks]))
            yield random.permutation(visits)

    def _chosen(self, epoch: int, places: Rows, rounds: Rows) -> Iterator[Rows]:
        """Per view the sample of each visit, by place and round."""
        first: Rows | None = None  # time of the first view
        for view, name in enumerate(self.views):
            pool = self.pool.pools[name]
            dates, turn = np.diff(pool.starts), self.views[:view].count(name)
            if self.dates == "nearest" and first is not None and name != self.views[0]:
                sample = _nearest(pool, places, first, turn)
            else:
                random = np.random.default_rng([self.seed, epoch, 2 + list(self.pool.pools).index(name)])
                shuffled = np.lexsort((random.random(pool.count), pool.places))
                nth = rounds * self.views.count(name) + turn
                sample = shuffled[pool.starts[:-1][places] + nth % dates[places]]
            if first is None and self.dates == "nearest":
                first = _times(pool)[sample]
            yield sample.astype(np.int64)


def _nearest(pool: SamplePool, places: Rows, times: Rows, turn: int) -> Rows:
    """Per visit the sample of its place that is nearest in time, or next nearest for a later ``turn``."""
    dates = np.diff(pool.starts)[places]
    visit = np.repeat(np.arange(len(places)), dates)
    start = np.cumsum(dates) - dates
    sample = pool.starts[:-1][places[visit]] + np.arange(len(visit)) - start[visit]
    order = np.lexsort((sample, np.abs(_times(pool)[sample] - times[visit]), visit))
    return np.asarray(sample[order][start + turn % dates], np.int64)


def _times(pool: SamplePool) -> Rows:
    if pool.times is None:
        raise ValueError(f"the pool of {pool.product} has no times, so no nearest date")
    return pool.times
