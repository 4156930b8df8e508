"""The loader: raw batches of a pinned snapshot, read ahead by threads of the training process."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.physical_pixels import BandChoice, RawSamples
from models.sample_pool import BatchPlan, Rows

DEFAULT_CACHE_BYTES = 2 * 1024**3


class SampleReader:
    """Reads raw samples of one product by row, whole chunks at a time, and keeps the last ones.

    ``cube`` is a ``catalog.cubes.Cube``; ``rows`` are those that may be asked for, others of their chunks are
    not kept.
    """

    def __init__(
        self,
        cube: Any,
        snapshot: str,
        choice: BandChoice,
        rows: Rows,
        *,
        chunk_rows: int = 32,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
    ) -> None:
        self.cube, self.snapshot, self.choice = cube, snapshot, choice
        self.chunk_rows, self.cache_bytes = chunk_rows, cache_bytes
        self._rows = np.unique(rows)
        calibration = cube.calibration(choice.product.id, self._rows, snapshot)
        self._calibration = {
            name: np.asarray(calibration[name], np.float64)[:, choice.product_columns]
            for name in ("scale", "offset", "k1", "k2")
        }
        self._chunks: OrderedDict[int, _Chunk] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def read(self, rows: Rows) -> RawSamples:
        """Raw samples in the order of ``rows``; a row may come twice."""
        rows = np.asarray(rows, np.int64)
        chunks = rows // self.chunk_rows
        pixels: dict[float, NDArray[Any]] = {}
        quality: NDArray[np.uint8] | None = None
        for number in np.unique(chunks):
            chunk = self._chunk(int(number))
            here = np.flatnonzero(chunks == number)
            at = np.searchsorted(chunk.rows, rows[here])
            for gsd, values in chunk.pixels.items():
                target = pixels.setdefault(gsd, np.empty((len(rows), *values.shape[1:]), values.dtype))
                target[here] = values[at]
            if chunk.quality is not None:
                if quality is None:
                    quality = np.empty((len(rows), *chunk.quality.shape[1:]), np.uint8)
                quality[here] = chunk.quality[at]
        at = np.searchsorted(self._rows, rows)
        return RawSamples(
            rows, pixels, quality, {name: values[at] for name, values in self._calibration.items()}
        )

    def _chunk(self, number: int) -> _Chunk:
        with self._lock:
            if number in self._chunks:
                self._chunks.move_to_end(number)
                return self._chunks[number]
        chunk = self._load(number)
        with self._lock:
            if number not in self._chunks:
                self._chunks[number] = chunk
                self._bytes += chunk.bytes
            while self._bytes > self.cache_bytes and len(self._chunks) > 1:
                _, oldest = self._chunks.popitem(last=False)
                self._bytes -= oldest.bytes
        return chunk

    def _load(self, number: int) -> _Chunk:
        product = self.choice.product
        low, high = np.searchsorted(self._rows, [number * self.chunk_rows, (number + 1) * self.chunk_rows])
        rows = self._rows[low:high]
        pixels = {
            gsd: np.ascontiguousarray(self.cube.read(product.id, gsd, rows, self.snapshot)[:, columns])
            for gsd, columns in self.choice.columns.items()
        }
        quality = (
            None
            if product.qa is None
            else np.asarray(self.cube.read_quality(product.id, rows, self.snapshot), np.uint8)
        )
        return _Chunk(rows, pixels, quality)


@dataclass(frozen=True)
class _Chunk:
    rows: Rows
    pixels: dict[float, NDArray[Any]]
    quality: NDArray[np.uint8] | None

    @property
    def bytes(self) -> int:
        return sum(values.nbytes for values in self.pixels.values())


@dataclass(frozen=True)
class RawBatch:
    """One device's part of a batch."""

    index: int
    """Number of the batch since the start of the run."""
    views: tuple[RawSamples, ...]
    places: torch.Tensor
    """Place of each sample ``(sample,)``: equal where the ground is the same."""


class BatchStream:
    """Batches ``start``, ``start + 1``, … of a plan, in order, read ahead by threads.

    Each process of a distributed run takes its own slice of every batch, so that the data do not depend on
    the number of devices. ``wait_share`` is the share of the time since the first batch that the consumer
    spent waiting for data: above 0.1 the loader holds up the training.
    """

    def __init__(
        self,
        plan: BatchPlan,
        reader: SampleReader,
        *,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
        ahead: int = 4,
        threads: int = 2,
    ) -> None:
        if plan.batch_size % world:
            raise ValueError(f"a batch of {plan.batch_size} cannot be shared by {world} devices")
        self.plan, self.reader = plan, reader
        self.start, self.rank, self.world = start, rank, world
        self.ahead, self.threads = ahead, threads
        self._waited = 0.0
        self._since: float | None = None

    @property
    def wait_share(self) -> float:
        if self._since is None:
            return 0.0
        return self._waited / max(1e-9, time.perf_counter() - self._since)

    def batch(self, index: int) -> RawBatch:
        """This process's part of batch ``index``, read now."""
        draw = self.plan.draw(index)
        share = self.plan.batch_size // self.world
        mine = slice(self.rank * share, (self.rank + 1) * share)
        rows = self.plan.pool.rows
        views = tuple(self.reader.read(rows[view[mine]]) for view in draw.views)
        return RawBatch(index, views, torch.from_numpy(draw.places[mine].copy()))

    def __iter__(self) -> Iterator[RawBatch]:
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="loader")
        pending: deque[Future[RawBatch]] = deque()
        index = self.start
        try:
            while True:
                while len(pending) < self.ahead:
                    pending.append(pool.submit(self.batch, index))
                    index += 1
                began = time.perf_counter()
                batch = pending.popleft().result()
                if self._since is not None:
                    self._waited += time.perf_counter() - began
                else:
                    self._since = time.perf_counter()
                yield batch
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
