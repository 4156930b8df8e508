"""Brings an area cube up to date: new passes are read tile by tile, mosaicked, and written chunk by chunk."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray

from catalog.area_cubes import Step, layout
from catalog.area_cubes.arrange import arrange, grow
from catalog.area_cubes.cube import AreaCubeWriter
from catalog.errors import SceneError
from catalog.grids import Grid
from catalog.products import Product
from catalog.products.model import array_name
from catalog.quality import CLOUDY, FLAGS
from catalog.radiometry import calibrate
from tasks.area.grid import AreaGrid, outline_of
from tasks.readers.contract import Reader, WindowPixels, WindowRequest
from tasks.readers.flags import empty_pixels, tells_cloud
from tasks.readers.plan import (
    FOOTPRINT_MARGIN_DEG,
    band_files,
    quality_files,
    scene_footprint,
    window_bytes,
)
from tasks.readers.window import fill_value

if TYPE_CHECKING:
    from catalog.archives import Archive

Progress = Callable[[str, int, int], None]
MEMORY_BYTES = 256 * 2**20
"""Raw pixels of a time step held at a time; a larger one is read in several groups of tiles."""


@dataclass
class ProductBuild:
    """What became of one product."""

    product: str
    written: list[Step] = field(default_factory=list)
    replaced: int = 0
    """Time steps that were read anew: a late tile of theirs came, or a reprocessed scene."""
    kept: int = 0
    empty: list[str] = field(default_factory=list)
    """Ids of scenes without a pixel in the area."""
    failures: dict[str, SceneError] = field(default_factory=dict)
    """First scene of a time step that could not be read → why; the next run tries again."""
    assets_read: int = 0


def reader_for(name: str, product: Product) -> str:
    """The reader to use where one was asked for: another where it cannot read the product's files."""
    if product.grid.crs == "none":
        return "direct"
    if name == "stackstac" and product.multiband_asset is not None:
        return "odc-stac"
    return name


def build_product(
    writer: AreaCubeWriter,
    product: Product,
    area: AreaGrid,
    wanted: Sequence[Step],
    reader: Reader,
    archive: Archive,
    *,
    terrain: str | None = None,
    progress: Progress | None = None,
    memory_bytes: int = MEMORY_BYTES,
) -> ProductBuild:
    """Add the wanted time steps that the cube lacks; those it holds stay, whether wanted or not.

    A time step whose scenes have changed takes the place of the old one. A step is written whole or not at
    all: one that cannot be read is left to the next run.
    """
    group = writer.declare(product, area.grids, area.chunks_px)
    held = _steps_of(group)
    have = {frozenset(step.ids) for step in held}
    new = [step for step in wanted if frozenset(step.ids) not in have]
    result = ProductBuild(product.id, kept=len(held))
    if not new:
        return result
    groups = {gsd: layout.subgroup(group, array_name(gsd)) for gsd in area.grids}
    everywhere = [*groups.values(), layout.subgroup(group, layout.STEPS)]
    what = f"{product.id}: read"
    tiles = list(area.tiles())
    total = len(new) * len(tiles)
    if progress:
        progress(what, 0, total)
    for number, step in enumerate(new):
        index = len(held) + len(result.written)
        for own in everywhere:
            grow(own, index + 1)

        def tell(done: int, number: int = number) -> None:
            if progress:
                progress(what, number * len(tiles) + done, total)

        try:
            counts = _write_step(
                groups, product, tiles, step, index, reader, archive, terrain, memory_bytes, tell
            )
        except SceneError as error:
            result.failures[error.subject or step.ids[0]] = error
            continue
        result.assets_read += sum(
            len(band_files(scene, product)) + len(quality_files(scene, product)) for scene in step.scenes
        )
        if counts.measured == 0:
            result.empty += step.ids
            continue
        _write_columns(groups, layout.subgroup(group, layout.STEPS), product, step, index, counts)
        result.written.append(step)
    tell(len(tiles))
    replaced = {
        index for index, old in enumerate(held) if any(old.keys & step.keys for step in result.written)
    }
    everything = [*held, *result.written]
    order = sorted(
        (index for index in range(len(everything)) if index not in replaced),
        key=lambda index: (everything[index].time, everything[index].ids),
    )
    for own in everywhere:
        grow(own, len(everything))
        arrange(writer.session, own, order)
    result.replaced, result.kept = len(replaced), len(held) - len(replaced)
    if result.written:
        writer.note_change(product.id, len(result.written))
    return result


def _steps_of(group: zarr.Group) -> list[Step]:
    from catalog.scenes import Scene

    documents = np.asarray(layout.array(group, f"{layout.STEPS}/documents")[:])
    return [Step(tuple(Scene.from_dict(d) for d in json.loads(str(document)))) for document in documents]


@dataclass
class _Counts:
    """Pixels of a time step on the grid of its quality flags."""

    pixels: int = 0
    measured: int = 0
    cloudy: int = 0
    resampled: bool = False

    def add(self, flags: NDArray[np.uint8]) -> None:
        valid = (flags & FLAGS["nodata"]) == 0
        self.pixels += flags.size
        self.measured += int(valid.sum())
        self.cloudy += int(np.count_nonzero(flags[valid] & CLOUDY))


Tile = tuple[str, dict[float, Grid], dict[float, tuple[slice, slice]]]


def _write_step(
    groups: Mapping[float, zarr.Group],
    product: Product,
    tiles: Sequence[Tile],
    step: Step,
    index: int,
    reader: Reader,
    archive: Archive,
    terrain: str | None,
    memory_bytes: int,
    tell: Callable[[int], None],
) -> _Counts:
    counts, done = _Counts(), 0
    for some in _within(product, tiles, memory_bytes):
        mosaics = {name: _Mosaic(product, grids) for name, grids, _ in some}
        for scene in step.scenes:
            outline = scene_footprint(scene).buffer(FOOTPRINT_MARGIN_DEG)
            windows = [
                WindowRequest(name, grids, terrain)
                for name, grids, _ in some
                if not mosaics[name].full and outline.intersects(outline_of(grids[min(grids)]))
            ]
            for found in reader.read(scene, product, windows, archive) if windows else ():
                mosaics[found.location].add(found)
        for name, _, places in some:
            mosaic = mosaics.pop(name)
            for gsd, (rows, cols) in places.items():
                if gsd in mosaic.pixels:
                    layout.array(groups[gsd], "pixels")[index, :, rows, cols] = mosaic.pixels[gsd]
                if gsd == layout.quality_gsd_m(product):
                    layout.array(groups[gsd], "quality")[index, rows, cols] = mosaic.quality
            counts.add(mosaic.quality)
            counts.resampled |= mosaic.resampled
        done += len(some)
        tell(done)
    return counts


def _within(product: Product, tiles: Sequence[Tile], memory_bytes: int) -> Iterator[list[Tile]]:
    """Neighbouring tiles that fit into memory together."""
    largest = max(window_bytes(product, WindowRequest(name, grids)) for name, grids, _ in tiles)
    size = max(1, memory_bytes // max(1, largest))
    for start in range(0, len(tiles), size):
        yield list(tiles[start : start + size])


class _Mosaic:
    """One tile of a time step: at each resolution the first scene with a measurement gives the pixel."""

    def __init__(self, product: Product, grids: Mapping[float, Grid]) -> None:
        self.product = product
        self.pixels = {
            gsd: np.full(
                (len(product.bands_at(gsd)), *grids[gsd].shape), fill_value(product), np.dtype(product.dtype)
            )
            for gsd in product.resolutions_m
        }
        self.quality = np.full(grids[layout.quality_gsd_m(product)].shape, FLAGS["nodata"], np.uint8)
        self.resampled = False
        self._open = {gsd: np.ones(values.shape[1:], np.bool_) for gsd, values in self.pixels.items()}

    @property
    def full(self) -> bool:
        """Whether no pixel is left to fill."""
        return not any(still.any() for still in self._open.values())

    def add(self, found: WindowPixels) -> None:
        """Fill what is still empty with another scene's pixels."""
        took = False
        for gsd, values in found.pixels.items():
            fills = self._open[gsd] & ~empty_pixels(values, self.product.nodata)
            np.copyto(self.pixels[gsd], values, where=fills)
            self._open[gsd] &= ~fills
            took |= bool(fills.any())
        empty = (self.quality & FLAGS["nodata"]) != 0
        np.copyto(self.quality, found.quality, where=empty)
        self.resampled |= found.resampled and took


def _write_columns(
    groups: Mapping[float, zarr.Group],
    steps: zarr.Group,
    product: Product,
    step: Step,
    index: int,
    counts: _Counts,
) -> None:
    calibration = calibrate(product, step.scenes[0])
    values: dict[str, Any] = {
        "time": round(step.time.timestamp() * 1e6),
        "platform": step.platform,
        "scenes": " ".join(step.ids),
        "resampled": counts.resampled,
        "nodata_fraction": 1 - counts.measured / counts.pixels,
        "cloud_fraction": _cloud(product, step, counts),
    }
    order = product.band_names
    for gsd, group in groups.items():
        for name, value in values.items():
            layout.array(group, name)[index] = value
        at = [order.index(band.name) for band in product.bands_at(gsd)]
        for name in layout.CALIBRATION:
            if name in group:
                layout.array(group, name)[index] = getattr(calibration, name)[at]
    layout.array(steps, "time")[index] = values["time"]
    documents = [scene.to_dict() for scene in step.scenes]
    layout.array(steps, "documents")[index] = json.dumps(documents, sort_keys=True)


def _cloud(product: Product, step: Step, counts: _Counts) -> float:
    if not all(tells_cloud(product, scene) for scene in step.scenes):
        return math.nan
    return counts.cloudy / counts.measured if counts.measured else 0.0
