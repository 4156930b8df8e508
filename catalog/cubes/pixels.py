"""Writes the pixels of new samples, chunk by chunk: here, or wherever a ``PixelWriting`` has it done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import icechunk
import numpy as np
import zarr
from numpy.typing import NDArray

from catalog.cubes import layout
from catalog.cubes.spool import Spool, Spooled
from catalog.products.model import Product, array_name

PixelsOf = Callable[[Spooled, float | None], NDArray[Any]]
"""Raw pixels ``(band, y, x)`` of a sample at one native sampling, or its flags ``(y, x)`` for None."""


@dataclass(frozen=True)
class Rows:
    """New samples of one product that share a chunk of every pixel array."""

    product: str
    arrays: dict[float | None, str]
    """Native sampling (None: the quality flags) → name of the array."""
    start: int
    """Row of the first."""
    samples: Sequence[Spooled]


class PixelWriting(Protocol):
    """A way to write pixels; whichever it is, the cube comes out bit for bit the same."""

    def write(
        self, session: icechunk.Session, product: Product, spool: Spool, new: Sequence[Spooled]
    ) -> None:
        """Write samples, in this order, into the rows that ``grow`` has made for them.

        Each chunk is written whole, by one writer: two of them in one chunk would lose rows without a word.
        """
        ...

    def committed(self, samples: Iterator[Spooled]) -> None:
        """These samples, or newer copies of them, are in the cube now; their pixels are needed no more."""
        ...


class PlainWriting:
    """Writes in this process; no more than one chunk is in memory at a time."""

    def write(
        self, session: icechunk.Session, product: Product, spool: Spool, new: Sequence[Spooled]
    ) -> None:
        root = layout.open_root(session.store, write=True)
        for rows in grow(root, product, new):
            write_rows(root, rows, spool.read)

    def committed(self, samples: Iterator[Spooled]) -> None:
        """The spool holds them, and goes by itself."""


def grow(root: zarr.Group, product: Product, new: Sequence[Spooled]) -> list[Rows]:
    """Lengthen the pixel arrays by the new samples; returns what there is to write, chunk by chunk."""
    group = layout.subgroup(root, product.id)
    arrays: dict[float | None, str] = {gsd: array_name(gsd) for gsd in product.resolutions_m}
    arrays[None] = "quality"
    for name in arrays.values():
        target = layout.array(group, name)
        start, chunk = target.shape[0], target.chunks[0]
        target.resize((start + len(new), *target.shape[1:]))
    # Arrays of a product have one length and one chunk length: rows that share a chunk share it in all.
    spans: list[Rows] = []
    at, end = start, start + len(new)
    while at < end:
        stop = min(end, (at // chunk + 1) * chunk)
        spans.append(Rows(product.id, arrays, at, new[at - start : stop - start]))
        at = stop
    return spans


def write_rows(root: zarr.Group, rows: Rows, pixels_of: PixelsOf) -> None:
    """Write one chunk's new rows into every pixel array; what a chunk held before is kept."""
    group = layout.subgroup(root, rows.product)
    for gsd, name in rows.arrays.items():
        target = layout.array(group, name)
        stop = rows.start + len(rows.samples)
        target[rows.start : stop] = np.stack([pixels_of(sample, gsd) for sample in rows.samples])
