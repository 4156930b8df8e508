"""Raw samples of a snapshot by row: whole chunks are decoded, and what is wanted of them copied out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from catalog.products.model import array_name
from models.batch_buffers import BufferPool
from models.physical_pixels import BandChoice, RawSamples
from models.sample_pool import Rows

DEFAULT_CACHE_BYTES = 2 * 1024**3
QUALITY = "quality"


@dataclass(frozen=True)
class Slot:
    """Where one sample of a batch goes."""

    row: int
    target: RawSamples
    position: int


class SampleReader:
    """Reads raw samples of one product by row; may be used from several threads.

    ``cube`` is a ``catalog.cubes.Cube``; ``rows`` are those that may be asked for. ``read`` keeps the wanted
    rows of the last chunks, up to ``cache_bytes``, for callers that come back to a chunk; ``fill`` keeps
    nothing, for callers that take all they want from a chunk at once. ``chunks_read`` counts the chunks
    decoded.
    """

    def __init__(
        self,
        cube: Any,
        snapshot: str,
        choice: BandChoice,
        rows: Rows,
        *,
        chunk_rows: int | None = None,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
    ) -> None:
        self.cube, self.snapshot, self.choice = cube, snapshot, choice
        self.cache_bytes = cache_bytes
        self.chunks_read = 0
        self._rows = np.unique(rows)
        product = choice.product
        self._names = {gsd: array_name(gsd) for gsd in choice.columns}
        names = [*self._names.values(), *([] if product.qa is None else [QUALITY])]
        self._source = cube.chunks(product.id, names, snapshot)
        self.chunk_rows = self._source.rows
        if chunk_rows not in (None, self.chunk_rows):
            raise ValueError(f"{product.id} has {self.chunk_rows} rows per chunk, not {chunk_rows}")
        shapes = self._source.shapes
        self._all_bands = {
            gsd: columns == list(range(shapes[self._names[gsd]][0][0]))
            for gsd, columns in choice.columns.items()
        }
        calibration = cube.calibration(product.id, self._rows, snapshot)
        self._calibration = {
            name: np.asarray(calibration[name], np.float64)[:, choice.product_columns]
            for name in ("scale", "offset", "k1", "k2")
        }
        self._buffers = BufferPool()
        self._chunks: OrderedDict[int, RawSamples] = OrderedDict()
        self._cached_bytes = 0
        self._lock = Lock()

    @property
    def product(self) -> str:
        return self.choice.product.id

    @property
    def sample_bytes(self) -> int:
        """Raw bytes of one sample in a batch, quality included."""
        return raw_bytes(self.empty(self._rows[:1]))

    @property
    def chunks_wanted(self) -> int:
        """Chunks that hold one of the rows."""
        return len(np.unique(self._rows // self.chunk_rows))

    def empty(self, rows: Rows) -> RawSamples:
        """Samples whose pixels are still to be filled in."""
        shapes = self._source.shapes
        pixels = {}
        for gsd, columns in self.choice.columns.items():
            shape, dtype = shapes[self._names[gsd]]
            pixels[gsd] = self._buffers.take((len(rows), len(columns), *shape[1:]), dtype)
        quality = None
        if QUALITY in shapes:
            quality = self._buffers.take((len(rows), *shapes[QUALITY][0]), np.uint8)
        at = np.searchsorted(self._rows, rows)
        calibration = {name: values[at] for name, values in self._calibration.items()}
        return RawSamples(rows, pixels, quality, calibration)

    def fill(self, number: int, slots: Iterable[Slot]) -> None:
        """Decode chunk ``number`` once and put its rows where they are wanted, while they are hot."""
        decoded = self._source.read(number)
        with self._lock:
            self.chunks_read += 1
        first = number * self.chunk_rows
        for slot in slots:
            at = slot.row - first
            for gsd, name in self._names.items():
                values, target = decoded[name][at], slot.target.pixels[gsd][slot.position]
                if self._all_bands[gsd]:
                    target[...] = values
                else:
                    # `clip`: the columns are known to fit, and `raise` would go through another buffer.
                    np.take(values, self.choice.columns[gsd], axis=0, out=target, mode="clip")
            if slot.target.quality is not None:
                slot.target.quality[slot.position] = decoded[QUALITY][at]

    def read(self, rows: Rows) -> RawSamples:
        """Raw samples in the order of ``rows``; a row may come twice."""
        rows = np.asarray(rows, np.int64)
        wanted = self.empty(rows)
        chunks = rows // self.chunk_rows
        for number in np.unique(chunks):
            kept = self._chunk(int(number))
            here = np.flatnonzero(chunks == number)
            at = np.searchsorted(kept.rows, rows[here])
            for gsd, values in kept.pixels.items():
                wanted.pixels[gsd][here] = values[at]
            if wanted.quality is not None and kept.quality is not None:
                wanted.quality[here] = kept.quality[at]
        return wanted

    def _chunk(self, number: int) -> RawSamples:
        with self._lock:
            if number in self._chunks:
                self._chunks.move_to_end(number)
                return self._chunks[number]
        low, high = np.searchsorted(self._rows, [number * self.chunk_rows, (number + 1) * self.chunk_rows])
        chunk = self.empty(self._rows[low:high])
        self.fill(number, [Slot(int(row), chunk, at) for at, row in enumerate(chunk.rows)])
        with self._lock:
            if number not in self._chunks:
                self._chunks[number] = chunk
                self._cached_bytes += raw_bytes(chunk)
            while self._cached_bytes > self.cache_bytes and len(self._chunks) > 1:
                _, oldest = self._chunks.popitem(last=False)
                self._cached_bytes -= raw_bytes(oldest)
        return chunk


def raw_bytes(samples: RawSamples) -> int:
    """Bytes of pixels and quality flags."""
    quality = 0 if samples.quality is None else samples.quality.nbytes
    return quality + sum(values.nbytes for values in samples.pixels.values())
