"""Folds in what refreshes appended: samples in the order (block, location, time) again, in every product."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import icechunk
import numpy as np
import zarr
from numpy.typing import NDArray

from catalog.cubes import layout
from catalog.cubes.place import Place
from catalog.cubes.publish import commit_session, publish
from catalog.cubes.reader import SnapshotReader
from catalog.errors import CubeError
from catalog.products.model import Product, array_name
from catalog.samples import pixels_sha256

CACHE_BYTES = 256 << 20
"""Decoded chunks that are kept while their rows are still to be placed: as many runs of samples are merged
with each chunk read once."""

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Compacted:
    """What a compaction did."""

    snapshot: str
    """The new snapshot; the old one where everything was in order."""
    committed: bool
    moved: Mapping[str, int]
    """Samples that lie in another row now, by product."""


def compact(place: Place, repository: icechunk.Repository) -> Compacted:
    """Rewrite the chunks whose samples are out of order, and publish that as a new snapshot.

    Old snapshots stay as they were. Samples, their ids, values and checksums stay the same; the row of a
    sample changes, so a row number means nothing without its snapshot. Every chunk is read back and compared
    before anything is published; killed at any moment, ``main`` is what it was.

    On a local disk other writers wait until it ends.

    Raises
    ------
    CubeError: ``main-moved`` (S3), ``cube-busy`` (local disk), ``unreadable-chunk``, ``cube-damaged``.
    """
    with commit_session(place, repository) as session:
        base = SnapshotReader(repository, place.name, session.snapshot_id)
        root = layout.open_root(session.store, write=True)
        moved = {}
        for name, product in base.products().items():
            if not base.length(name):
                continue
            order = _order(base, name)
            if count := int((order != np.arange(len(order))).sum()):
                _rewrite(base, layout.subgroup(root, name), product, order)
                moved[name] = count
        if not moved:
            return Compacted(base.snapshot, False, {})
        told = ", ".join(f"{count} of {name}" for name, count in moved.items())
        snapshot = publish(place, session, f"compact: moved {told}", {"compacted": moved})
        return Compacted(snapshot, True, moved)


def _order(base: SnapshotReader, product: str) -> Rows:
    """The row that each sample is taken from, in the new order."""
    columns = base.columns(product)[["location", "time", "scene"]]
    blocks = {location.id: location.block for location in base.locations()}
    columns.insert(0, "block", columns["location"].map(blocks).fillna(""))
    ordered = columns.sort_values(["block", "location", "time", "scene"], kind="stable")
    return ordered.index.to_numpy(np.intp)


def _rewrite(base: SnapshotReader, group: zarr.Group, product: Product, order: Rows) -> None:
    pixels = [array_name(gsd) for gsd in product.resolutions_m]
    present = [name for name in sorted(layout.sample_arrays(product)) if name in group]
    for name in present:
        if name not in (*pixels, "quality"):
            _rewrite_table(base, group, product.id, name, order)
    step = base.array(product.id, "quality").chunks[0]
    recent = _Recent(base, product.id)
    columns = base.columns(product.id)
    for start in range(0, len(order), step):
        rows = order[start : start + step]
        if np.array_equal(rows, np.arange(start, start + len(rows))):
            continue
        values = {name: recent.rows(name, rows) for name in (*pixels, "quality")}
        for at, row in enumerate(rows):
            found = pixels_sha256({gsd: values[array_name(gsd)][at] for gsd in product.resolutions_m})
            if found != columns["sha256"].iat[row]:
                raise _damaged(base.cube, f"{columns['sample'].iat[row]}: its pixels are not those written")
        for name, block in values.items():
            _place(base.cube, layout.array(group, name), start, block)


def _rewrite_table(base: SnapshotReader, group: zarr.Group, product: str, name: str, order: Rows) -> None:
    """A column, or a table of a few values per sample: chunks that change, a slice of the whole at a time."""
    source, target = base.array(product, name), layout.array(group, name)
    step = target.chunks[0]
    whole: Any = source[:] if source.ndim == 1 else None
    recent = _Recent(base, product)
    for start in range(0, len(order), step):
        rows = order[start : start + step]
        if np.array_equal(rows, np.arange(start, start + len(rows))):
            continue
        _place(base.cube, target, start, recent.rows(name, rows) if whole is None else whole[rows])


def _place(cube: str, target: zarr.Array[Any], start: int, values: NDArray[Any]) -> None:
    """Write rows, and read them back."""
    target[start : start + len(values)] = values
    found: Any = target[start : start + len(values)]
    same = (
        found.tobytes() == values.tobytes() if values.dtype.kind in "iufb" else bool((found == values).all())
    )
    if not same:
        raise _damaged(cube, f"{target.path}: what was written at row {start} does not read back")


class _Recent:
    """Rows of a snapshot, with the chunks that were read last kept decoded."""

    def __init__(self, base: SnapshotReader, product: str) -> None:
        self._base = base
        self._product = product
        self._chunks: OrderedDict[tuple[str, int], NDArray[Any]] = OrderedDict()
        self._bytes = 0

    def rows(self, name: str, rows: Rows) -> NDArray[Any]:
        """Those rows of an array, in that order."""
        source = self._base.array(self._product, name)
        step, length = source.chunks[0], source.shape[0]
        values = np.empty((len(rows), *source.shape[1:]), source.dtype)
        for chunk in np.unique(rows // step):
            held = self._chunk(name, int(chunk), step, length)
            at = np.flatnonzero(rows // step == chunk)
            values[at] = held[rows[at] - chunk * step]
        return values

    def _chunk(self, name: str, chunk: int, step: int, length: int) -> NDArray[Any]:
        key = (name, chunk)
        held = self._chunks.pop(key, None)
        if held is None:
            rows = np.arange(chunk * step, min((chunk + 1) * step, length))
            held = self._base.rows_of(self._product, name, rows)
            self._bytes += held.nbytes
        self._chunks[key] = held
        while self._bytes > CACHE_BYTES and len(self._chunks) > 1:
            self._bytes -= self._chunks.popitem(last=False)[1].nbytes
        return held


def _damaged(cube: str, message: str) -> CubeError:
    return CubeError(
        "cube-damaged",
        message,
        subject=cube,
        next_step=f"nothing was changed; list the damage with `swath cubes verify {cube}`",
    )
