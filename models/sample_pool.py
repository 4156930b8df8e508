"""Which samples of a snapshot an encoder may learn from, and which of them batch k holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.errors import TrainingError
from models.same_ground import same_ground

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class SamplePool:
    """Samples of one product, sorted by place and date; all arrays ``(sample,)`` unless said otherwise."""

    product: str
    snapshot: str
    rows: Rows
    """Positions along the cube's ``sample`` axis."""
    ids: NDArray[Any]
    scenes: NDArray[Any]
    sha256: NDArray[Any]
    places: Rows
    """Index into ``place_ids``."""
    place_ids: tuple[str, ...]
    starts: Rows
    """First sample of each place, ``(place + 1,)``."""
    times: Rows | None = None
    """Sensing time, microseconds since 1970 (UTC)."""
    ground: Rows | None = None
    """A number per place ``(place,)``, equal where windows overlap; every place its own if none."""

    @property
    def count(self) -> int:
        return len(self.rows)

    def ground_of(self, places: Rows) -> Rows:
        """What tells the ground of places apart: samples of equal ground are never each other's negatives."""
        return places if self.ground is None else self.ground[places]


def open_pool(cube: Any, product: str, snapshot: str, *, transductive: bool = False) -> SamplePool:
    """Samples of ``product`` at places of the ``pretrain`` split, or of all splits if ``transductive``.

    Samples whose scene was superseded are left out.

    Raises
    ------
    TrainingError: ``no-samples``.
    """
    table = cube.columns(product, snapshot)
    locations = {location.id: location for location in cube.locations(snapshot)}
    splits = {place: location.split for place, location in locations.items()}
    current = table["superseded_by"].fillna("").astype(str).to_numpy() == ""
    allowed = np.array([transductive or splits.get(place) == "pretrain" for place in table["location"]], bool)
    table = table[current & allowed].sort_values(["location", "time", "row"], kind="stable")
    if table.empty:
        raise TrainingError(
            "no-samples",
            f"snapshot {snapshot} holds no {product} sample at a place of the pretrain split",
            subject=product,
            next_step="widen area or period, or give `pretrain` a larger share in locations.split",
        )
    place_ids, places = np.unique(table["location"].to_numpy(dtype=str), return_inverse=True)
    return SamplePool(
        product=product,
        snapshot=snapshot,
        rows=table["row"].to_numpy(dtype=np.int64),
        ids=table["sample"].to_numpy(dtype=str),
        scenes=table["scene"].to_numpy(dtype=str),
        sha256=table["sha256"].to_numpy(dtype=str),
        places=places.astype(np.int64),
        place_ids=tuple(map(str, place_ids)),
        starts=np.searchsorted(places, np.arange(len(place_ids) + 1)).astype(np.int64),
        times=(table["time"].to_numpy(dtype="datetime64[us]")).astype(np.int64),
        ground=same_ground([locations[place] for place in map(str, place_ids)]),
    )


@dataclass(frozen=True)
class Draw:
    """The samples of one batch: positions in the pool, one array per view."""

    index: int
    """Number of the batch since the start of the run."""
    views: tuple[Rows, ...]
    places: Rows


@dataclass(frozen=True)
class BatchPlan:
    """Batch k as a pure function of (pool, seed, k): a resumed run draws what the first would have drawn.

    With two views an epoch visits every place once, at two dates where it has them, else at one date twice.
    With one view it visits every sample once. Places (or samples) are shuffled within a window of several
    storage chunks, and the chunks among themselves, so that each chunk is read about once per epoch. Batches
    run on across epochs; none is dropped.
    """

    pool: SamplePool
    batch_size: int
    """Over all devices."""
    views: int
    seed: int
    chunk_rows: int = 32
    window_chunks: int = 16
    _orders: dict[int, tuple[Rows, Rows]] = field(default_factory=dict, repr=False, compare=False)
    _dates: dict[int, NDArray[np.float64]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def epoch_length(self) -> int:
        """Places, or samples, per epoch."""
        return len(self.pool.place_ids) if self.views > 1 else self.pool.count

    @property
    def view_products(self) -> tuple[str, ...]:
        """The product of each view."""
        return (self.pool.product,) * self.views

    def draw(self, index: int) -> Draw:
        """Batch ``index``, counted from the start of the run."""
        views = self._between(index * self.batch_size, (index + 1) * self.batch_size)
        return Draw(index, views, self.pool.ground_of(self.pool.places[views[0]]))

    def cube_rows(self, first: int, end: int) -> tuple[tuple[Rows, ...], Rows]:
        """Rows of the cube, one array per view, and ground, of the places (or samples) ``first`` to ``end``.

        Counted from the start of the run, across batches and epochs.
        """
        views = self._between(first, end)
        return tuple(self.pool.rows[view] for view in views), self.pool.ground_of(self.pool.places[views[0]])

    def window_end(self, at: int) -> int:
        """Where the shuffle window ends that place (or sample) ``at`` of the run lies in."""
        epoch, offset = divmod(at, self.epoch_length)
        ends = self._ends(epoch)
        return epoch * self.epoch_length + int(ends[np.searchsorted(ends, offset, side="right")])

    def _between(self, first: int, end: int) -> tuple[Rows, ...]:
        parts: list[tuple[Rows, ...]] = []
        at = first
        while at < end:
            epoch, offset = divmod(at, self.epoch_length)
            anchors = self._order(epoch)[offset : offset + end - at]
            parts.append(self._views(epoch, anchors))
            at += len(anchors)
        return tuple(np.concatenate(view) for view in zip(*parts, strict=True))

    def drawn(self, batches: int) -> Rows:
        """Positions in the pool that the first ``batches`` batches hold, sorted."""
        seen = np.zeros(self.pool.count, bool)
        last = batches * self.batch_size
        for epoch in range(-(-last // self.epoch_length)):
            anchors = self._order(epoch)[: last - epoch * self.epoch_length]
            for view in self._views(epoch, anchors):
                seen[view] = True
            if seen.all():
                break
        return np.flatnonzero(seen).astype(np.int64)

    def _views(self, epoch: int, anchors: Rows) -> tuple[Rows, ...]:
        if self.views == 1:
            return (anchors,)
        dates = np.diff(self.pool.starts)
        first_share, second_share = self._shares(epoch)
        dates, start = dates[anchors], self.pool.starts[:-1][anchors]
        first = (first_share[anchors] * dates).astype(np.int64)
        second = (second_share[anchors] * np.maximum(dates - 1, 1)).astype(np.int64)
        second = np.where(dates > 1, second + (second >= first), first)
        return start + first, start + second

    def _shares(self, epoch: int) -> NDArray[np.float64]:
        """What decides the two dates of each place, ``(2, place)``."""
        found = self._dates.get(epoch)
        if found is None:
            found = self._random(epoch, 1).random((2, len(self.pool.place_ids)))
            if len(self._dates) > 3:
                self._dates.clear()
            self._dates[epoch] = found
        return found

    def _order(self, epoch: int) -> Rows:
        return self._epoch(epoch)[0]

    def _ends(self, epoch: int) -> Rows:
        return self._epoch(epoch)[1]

    def _epoch(self, epoch: int) -> tuple[Rows, Rows]:
        """The order of an epoch, and where its windows end."""
        found = self._orders.get(epoch)
        if found is None:
            # Loader threads may compute the same order twice; they get the same one.
            windows = list(self._windows(epoch))
            found = np.concatenate(windows), np.cumsum([len(window) for window in windows])
            if len(self._orders) > 3:
                self._orders.clear()
            self._orders[epoch] = found
        return found

    def _windows(self, epoch: int) -> Iterator[Rows]:
        random = self._random(epoch, 0)
        rows = self.pool.rows
        first_row = rows if self.views == 1 else np.minimum.reduceat(rows, self.pool.starts[:-1])
        chunk = first_row // self.chunk_rows
        chunks = random.permutation(np.unique(chunk))
        for start in range(0, len(chunks), self.window_chunks):
            anchors = np.flatnonzero(np.isin(chunk, chunks[start : start + self.window_chunks]))
            yield random.permutation(anchors)

    def _random(self, epoch: int, purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, epoch, purpose])
