"""The loader: raw batches of a pinned snapshot, put together by threads of the training process.

The order is decided by the plan (``models.sample_pool``, ``models.joined_pool``) alone. Reading goes one
shuffle window at a time: each of its chunks is decoded once, and its rows are copied to their places in all
batches of the window while they are still in the processor's cache. ``docs/loader.md`` has the measurements.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event, Lock
from typing import Protocol

import numpy as np
import torch

from models.physical_pixels import RawSamples
from models.sample_pool import Rows
from models.sample_reader import SampleReader, Slot

__all__ = ["BatchStream", "Plan", "RawBatch", "SampleReader"]

WINDOW_BYTES = 1 << 30
"""Raw bytes of batches that are put together at once; a larger shuffle window is taken in parts, which read
its chunks again."""


class Plan(Protocol):
    """What decides which samples a batch holds: ``BatchPlan`` or ``JoinedPlan``."""

    @property
    def batch_size(self) -> int: ...

    @property
    def view_products(self) -> tuple[str, ...]: ...

    def cube_rows(self, first: int, end: int) -> tuple[tuple[Rows, ...], Rows]: ...

    def window_end(self, at: int) -> int: ...


@dataclass(frozen=True)
class RawBatch:
    """One device's part of a batch."""

    index: int
    """Number of the batch since the start of the run."""
    views: tuple[RawSamples, ...]
    places: torch.Tensor
    """Ground of each sample ``(sample,)``: equal where it is the same place, or windows overlap."""
    products: tuple[str, ...] = ()
    """The product of each view."""


class BatchStream:
    """Batches ``start``, ``start + 1``, … of a plan, in order, read ahead by threads.

    Each process of a distributed run takes its own slice of every batch, so that the data do not depend on
    the number of devices, nor on that of threads. ``wait_share`` is the share of the time since the first
    batch that the consumer spent waiting for data: above 0.1 the loader holds up the training. A batch's
    memory is used again once nothing refers to its arrays any more.
    """

    def __init__(
        self,
        plan: Plan,
        reader: SampleReader | Mapping[str, SampleReader],
        *,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
        ahead: int = 4,
        threads: int = 2,
        window_bytes: int = WINDOW_BYTES,
    ) -> None:
        if plan.batch_size % world:
            raise ValueError(f"a batch of {plan.batch_size} cannot be shared by {world} devices")
        self.plan = plan
        self.readers = {reader.product: reader} if isinstance(reader, SampleReader) else dict(reader)
        missing = sorted(set(plan.view_products) - set(self.readers))
        if missing:
            raise ValueError(f"no reader for {', '.join(missing)}")
        self.start, self.rank, self.world = start, rank, world
        self.ahead, self.threads = ahead, threads
        self._share = plan.batch_size // world
        bytes_each = sum(self.readers[name].sample_bytes for name in plan.view_products)
        self._most = max(plan.batch_size, window_bytes * world // max(1, bytes_each))
        self._waited = 0.0
        self._since: float | None = None

    @property
    def wait_share(self) -> float:
        if self._since is None:
            return 0.0
        return self._waited / max(1e-9, time.perf_counter() - self._since)

    def batch(self, index: int) -> RawBatch:
        """This process's part of batch ``index``, read now."""
        first = index * self.plan.batch_size + self.rank * self._share
        rows, places = self.plan.cube_rows(first, first + self._share)
        products = self.plan.view_products
        views = tuple(self.readers[name].read(view) for name, view in zip(products, rows, strict=True))
        return RawBatch(index, views, torch.from_numpy(places.copy()), products)

    def __iter__(self) -> Iterator[RawBatch]:
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="loader")
        building: dict[int, _Building] = {}
        index, submitted = self.start, self.start * self.plan.batch_size
        try:
            while True:
                while submitted < (index + 1 + self.ahead) * self.plan.batch_size:
                    end = min(self.plan.window_end(submitted), submitted + self._most)
                    self._submit(pool, building, submitted, end)
                    submitted = end
                began = time.perf_counter()
                batch = building.pop(index).result()
                if self._since is not None:
                    self._waited += time.perf_counter() - began
                else:
                    self._since = time.perf_counter()
                yield batch
                # Nothing here may keep the batch, or its memory would not be free for the next.
                del batch
                index += 1
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _submit(self, pool: ThreadPoolExecutor, building: dict[int, _Building], first: int, end: int) -> None:
        """Have the chunks read that hold the places (or samples) ``first`` to ``end`` of the run."""
        size, products = self.plan.batch_size, self.plan.view_products
        for index in range(first // size, -(-end // size)):
            if index not in building:
                building[index] = self._begin(index)
        rows, _ = self.plan.cube_rows(first, end)
        batches, places = np.divmod(np.arange(first, end), size)
        positions = places - self.rank * self._share
        mine = np.flatnonzero((positions >= 0) & (positions < self._share))
        wanted: dict[tuple[str, int], list[tuple[_Building, Slot]]] = defaultdict(list)
        for view, name in enumerate(products):
            chunks = rows[view] // self.readers[name].chunk_rows
            for at in mine.tolist():
                built = building[int(batches[at])]
                slot = Slot(int(rows[view][at]), built.batch.views[view], int(positions[at]))
                wanted[name, int(chunks[at])].append((built, slot))
        # Batches come out in order sooner if their chunks are read in the order they need them.
        for (name, number), slots in wanted.items():
            pool.submit(_read, self.readers[name], number, slots)

    def _begin(self, index: int) -> _Building:
        first = index * self.plan.batch_size + self.rank * self._share
        rows, places = self.plan.cube_rows(first, first + self._share)
        products = self.plan.view_products
        views = tuple(self.readers[name].empty(view) for name, view in zip(products, rows, strict=True))
        return _Building(RawBatch(index, views, torch.from_numpy(places.copy()), products))


class _Building:
    """A batch whose samples arrive from several threads."""

    def __init__(self, batch: RawBatch) -> None:
        self.batch = batch
        self._missing = sum(len(view.rows) for view in batch.views)
        self._lock, self._done = Lock(), Event()
        self._error: BaseException | None = None

    def arrived(self, samples: int) -> None:
        with self._lock:
            self._missing -= samples
            if not self._missing:
                self._done.set()

    def failed(self, error: BaseException) -> None:
        self._error = error
        self._done.set()

    def result(self) -> RawBatch:
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self.batch


def _read(reader: SampleReader, number: int, wanted: list[tuple[_Building, Slot]]) -> None:
    """Read one chunk for all batches of the window; a failure fails those that need it."""
    counts: dict[_Building, int] = defaultdict(int)
    for built, _ in wanted:
        counts[built] += 1
    try:
        reader.fill(number, [slot for _, slot in wanted])
    except BaseException as error:
        for built in counts:
            built.failed(error)
        return
    for built, count in counts.items():
        built.arrived(count)
