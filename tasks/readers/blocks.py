"""Which blocks of a file some windows need, and how each of them is fetched once and decoded once.

Windows are small beside a file's tiles, and lie over their borders: read one by one, a tile is decoded for
each window that touches it, and the threads of a file wait for each other's bytes. So the tiles are what is
planned: neighbours in a row of tiles lie side by side in the file too, are fetched in one request and decoded
in one go.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from catalog.grids import Grid

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

RUN_BYTES = 4 * 2**20
"""Decoded bytes of the blocks that are read in one go; one block where it is larger."""
MARGIN = 16
"""Bytes around a block that GDAL may look at: COGs repeat a block's size before it, and its end after it."""

Span = tuple[int, int]
"""First byte of a range, and the one after its last."""


@dataclass(frozen=True)
class Layout:
    """How a file is laid out."""

    shape: tuple[int, int]
    """(height, width) in pixels."""
    block: tuple[int, int]
    """(height, width) of a tile or strip, pixels."""
    pixel_interleaved: bool
    """Whether a block holds all bands."""
    bands: int
    dtype: str
    """Of the first band."""

    @property
    def block_bytes(self) -> int:
        """Decoded bytes of one block."""
        each = self.block[0] * self.block[1] * np.dtype(self.dtype).itemsize
        return each * (self.bands if self.pixel_interleaved else 1)


@dataclass(frozen=True)
class Target:
    """Where the pixels of one window go."""

    row: int
    """First row of the window in the file; may be negative, or past its end."""
    col: int
    values: NDArray[Any]
    """``(band, y, x)``, filled already where the file has no pixels."""


@dataclass(frozen=True)
class Run:
    """Blocks beside each other in one row of blocks."""

    row: int
    """Of the blocks, not of pixels."""
    cols: tuple[int, int]
    """First block, and the one after the last."""
    window: Window
    """Pixels of the file that are needed of them."""
    targets: tuple[Target, ...]


def layout_of(dataset: DatasetReader) -> Layout:
    """The layout of an open file."""
    return Layout(
        (dataset.height, dataset.width),
        dataset.block_shapes[0],
        str(dataset.interleaving).lower().endswith("pixel"),
        dataset.count,
        str(dataset.dtypes[0]),
    )


def target_of(
    source: Grid, window: Grid, offset: tuple[int, int], bands: int, dtype: str, fill: float
) -> tuple[Target, NDArray[np.bool_]]:
    """An empty target for a window that starts at ``offset``, and its pixels outside the file ``(y, x)``."""
    row, col = offset
    values = np.full((bands, *window.shape), fill, dtype)
    outside = np.ones(window.shape, np.bool_)
    rows, cols = (
        _clipped(row, window.shape[0], source.shape[0]),
        _clipped(col, window.shape[1], source.shape[1]),
    )
    outside[rows, cols] = False
    return Target(row, col, values), outside


def plan_runs(layout: Layout, targets: Sequence[Target]) -> list[Run]:
    """Runs in the order of the file that hold each block that some target needs exactly once."""
    (height, width), (tall, wide) = layout.shape, layout.block
    rows: dict[int, dict[int, list[Target]]] = {}
    for target in targets:
        (top, left), (bottom, right) = _extent(target, layout)
        if top >= bottom or left >= right:
            continue
        for row in range(top // tall, (bottom - 1) // tall + 1):
            for col in range(left // wide, (right - 1) // wide + 1):
                rows.setdefault(row, {}).setdefault(col, []).append(target)
    bands = 1 if layout.pixel_interleaved or not targets else len(targets[0].values)
    most = max(1, RUN_BYTES // (layout.block_bytes * bands))
    runs = []
    for row, blocks in sorted(rows.items()):
        for first, end in _neighbours(sorted(blocks), most):
            touching = list({id(t): t for col in range(first, end) for t in blocks[col]}.values())
            extents = [_extent(target, layout) for target in touching]
            top = max(row * tall, min(begin[0] for begin, _ in extents))
            left = max(first * wide, min(begin[1] for begin, _ in extents))
            bottom = min((row + 1) * tall, height, max(stop[0] for _, stop in extents))
            right = min(end * wide, width, max(stop[1] for _, stop in extents))
            window = Window(left, top, right - left, bottom - top)
            runs.append(Run(row, (first, end), window, tuple(touching)))
    return runs


def stored_at(dataset: DatasetReader, run: Run, numbers: Sequence[int]) -> list[Span | None]:
    """Where a run's blocks lie in the file, band by band; None for one that the file leaves out."""
    if dataset.driver != "GTiff":
        return []
    pixel = str(dataset.interleaving).lower().endswith("pixel")
    places: list[Span | None] = []
    for number in (1,) if pixel else numbers:
        for col in range(*run.cols):
            place = f"{col}_{run.row}"
            start = dataset.get_tag_item(f"BLOCK_OFFSET_{place}", "TIFF", bidx=number)
            size = dataset.get_tag_item(f"BLOCK_SIZE_{place}", "TIFF", bidx=number)
            there = start and size and int(size)
            places.append((int(start), int(start) + int(size)) if there else None)
    return places


def with_margin(places: Sequence[Span | None]) -> list[Span]:
    """What is to be fetched of blocks that lie at ``places``."""
    return [(max(0, place[0] - MARGIN), place[1] + MARGIN) for place in places if place is not None]


def give_out(run: Run, layout: Layout, blocks: Sequence[NDArray[Any]], bands: int) -> None:
    """Give each target its part of a run's decoded blocks, ``(y, x)`` each, band by band."""
    tall, wide = layout.block
    across = run.cols[1] - run.cols[0]
    height, width = layout.shape
    for number, block in enumerate(blocks):
        band, col = divmod(number, across)
        top, left = run.row * tall, (run.cols[0] + col) * wide
        inside = block[: height - top, : width - left]
        for target in run.targets:
            _, rows_wanted, cols_wanted = target.values.shape
            rows = _overlap(top, inside.shape[0], target.row, rows_wanted)
            cols = _overlap(left, inside.shape[1], target.col, cols_wanted)
            if rows[0].stop > rows[0].start and cols[0].stop > cols[0].start:
                target.values[band, rows[1], cols[1]] = inside[rows[0], cols[0]]
    assert len(blocks) == across * bands


def read_run(dataset: DatasetReader, run: Run, numbers: Sequence[int]) -> None:
    """Decode a run's blocks, and give each target its part."""
    window = run.window
    data = dataset.read(list(numbers), window=window)
    top, left = int(window.row_off), int(window.col_off)
    for target in run.targets:
        _, height, width = target.values.shape
        rows = _overlap(top, data.shape[1], target.row, height)
        cols = _overlap(left, data.shape[2], target.col, width)
        target.values[:, rows[1], cols[1]] = data[:, rows[0], cols[0]]


def _extent(target: Target, layout: Layout) -> tuple[tuple[int, int], tuple[int, int]]:
    """First pixel of the file that a target needs, and the one after its last."""
    _, height, width = target.values.shape
    rows, cols = layout.shape
    return (
        (max(target.row, 0), max(target.col, 0)),
        (min(target.row + height, rows), min(target.col + width, cols)),
    )


def _neighbours(cols: list[int], most: int) -> Iterator[tuple[int, int]]:
    first = end = cols[0]
    for col in cols:
        if col > end or end - first >= most:
            yield first, end
            first = col
        end = col + 1
    yield first, end


def _overlap(first: int, count: int, other: int, others: int) -> tuple[slice, slice]:
    """What two stretches of one axis share, as a slice of each."""
    start, end = max(first, other), min(first + count, other + others)
    return slice(start - first, end - first), slice(start - other, end - other)


def _clipped(start: int, count: int, size: int) -> slice:
    """Part of a stretch of ``count`` that lies within ``size``."""
    first, end = max(start, 0), min(start + count, size)
    return slice(first - start, max(first, end) - start)
