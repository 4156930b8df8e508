"""Windows of a ground-range scene: read in radar geometry, calibrated there, and laid on their grids."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from catalog.errors import SceneError
from catalog.grids import Grid
from catalog.products import Product
from catalog.scenes import Scene
from tasks.readers.assets import OpenAsset
from tasks.readers.contract import WindowPixels, WindowRequest
from tasks.readers.flags import empty_pixels, window_flags
from tasks.readers.grd.border import BOX_PX, REACH_PX, border_noise
from tasks.readers.grd.calibration import noise_power, sigma_nought
from tasks.readers.grd.geocoding import RadarGeometry
from tasks.readers.grd.scene_annotation import SceneAnnotation, read_annotation
from tasks.readers.grd.terrain import ControlPoints, ElevationModel, Terrain
from tasks.readers.plan import BandFile, batches
from tasks.readers.window import fill_value

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

    from catalog.archives import Archive

DISAGREEMENT_PX = 2.0
"""Real annotations agree with their own ground-control points to a few hundredths of a pixel."""
MARGIN_PX = BOX_PX
"""Read around what is needed: for interpolation, and for the neighbourhoods of border noise."""
LARGEST_SLANT_PX = 16384**2
"""A window that needs more of the raster than this is laid out wrongly."""


def is_ground_range(product: Product) -> bool:
    """Whether a product's files are radar amplitudes that only their annotation places and calibrates."""
    return product.grid.crs == "none" and any(
        key.startswith("schema-calibration") for key in product.metadata_assets
    )


def read_ground_range(
    scene: Scene,
    product: Product,
    windows: Sequence[WindowRequest],
    archive: Archive,
    files: Sequence[tuple[BandFile, OpenAsset]],
    pool: Executor,
    memory_bytes: int,
) -> Iterator[WindowPixels]:
    """Sigma nought (linear power) at each window that the scene covers; see ``tasks.readers.Reader``.

    Power is interpolated bilinearly, never decibels or amplitudes. A window's ``terrain`` names the elevation
    model to place it with; without one the heights of the scene's ground-control points do.

    Raises
    ------
    SceneError: ``calibration-missing``, ``unreadable-annotation``, ``annotation-contradicts``, or a read
        that failed.
    """
    job = _SceneJob(scene, product, archive, files)
    for batch in batches(product, windows, memory_bytes):
        futures = [pool.submit(job.read, window) for window in batch]
        try:
            for future in futures:
                pixels = future.result()
                if pixels is not None:
                    yield pixels
        except BaseException:
            job.stop.set()
            for future in futures:
                future.cancel()
            raise


@dataclass(frozen=True)
class _Slant:
    """The part of the raster that a window needs, and where each of its pixels lies in it."""

    window: Window
    line: NDArray[np.float64]
    """``(y, x)``, lines of the whole raster; NaN where the height is unknown."""
    pixel: NDArray[np.float64]


class _SceneJob:
    def __init__(
        self, scene: Scene, product: Product, archive: Archive, files: Sequence[tuple[BandFile, OpenAsset]]
    ) -> None:
        self.scene = scene
        self.product = product
        self.files = files
        self.stop = threading.Event()
        self.annotation = read_annotation(scene, [file.asset.key for file, _ in files], archive)
        for _, asset in files:
            asset.use(functools.partial(check_measurement, annotation=self.annotation, scene_id=scene.id))
        self.geometry = checked_geometry(self.annotation, scene.id)
        self._terrain: dict[str | None, Terrain] = {}
        self._lock = threading.Lock()

    def read(self, window: WindowRequest) -> WindowPixels | None:
        """One window from all files; None where the scene holds nothing of it."""
        if self.stop.is_set():
            return None
        (gsd,) = self.product.resolutions_m
        grid = window.grids[gsd]
        terrain = self._terrain_of(window.terrain)
        slant = self._slant(grid, terrain)
        if slant is None:
            return None
        values = np.empty((len(self.product.bands), *grid.shape), self.product.dtype)
        for file, asset in self.files:
            ((place, number),) = file.layers[gsd]
            values[place] = self._band(file.asset.key, asset, number, slant)
        empty = {gsd: empty_pixels(values, self.product.nodata)}
        return WindowPixels(
            window.location,
            window.grids,
            {gsd: values},
            window_flags(self.product, empty, {}, None, grid.shape),
            gsd,
            resampled=True,
            position_error_m=terrain.position_error_m(grid),
        )

    def _terrain_of(self, name: str | None) -> Terrain:
        with self._lock:
            if name not in self._terrain:
                self._terrain[name] = (
                    ElevationModel(Path(name), self.geometry) if name else ControlPoints(self.geometry)
                )
            return self._terrain[name]

    def _slant(self, grid: Grid, terrain: Terrain) -> _Slant | None:
        from tasks.readers.grd.terrain import degrees_of

        product = self.annotation.product
        line, pixel = self.geometry.locate(*degrees_of(grid), terrain.heights_m(grid))
        covered = (line > -0.5) & (line < product.lines - 0.5) & (pixel > -0.5)
        covered &= pixel < product.samples - 0.5
        if not covered.any():
            return None
        top, bottom = _span(line[covered], product.lines)
        left, right = _span(pixel[covered], product.samples)
        if (bottom - top) * (right - left) > LARGEST_SLANT_PX:
            raise SceneError(
                "annotation-contradicts",
                f"a window of {grid.shape[0]} by {grid.shape[1]} pixels would need {bottom - top} lines by "
                f"{right - left} pixels of the raster",
                subject=self.scene.id,
                next_step="report it to the archive: the orbit or the range conversion is wrong",
            )
        return _Slant(Window(left, top, right - left, bottom - top), line, pixel)

    def _band(self, key: str, asset: OpenAsset, number: int, slant: _Slant) -> NDArray[Any]:
        window = slant.window
        dn = asset.use(lambda dataset: dataset.read(number, window=window))
        first = int(window.row_off), int(window.col_off)
        lines = np.arange(first[0], first[0] + dn.shape[0], dtype=np.float64)
        pixels = np.arange(first[1], first[1] + dn.shape[1], dtype=np.float64)
        noise = self.annotation.noise[key]
        product = self.annotation.product
        outside = border_noise(dn, noise_power(lines, pixels, noise), first, (product.lines, product.samples))
        power = sigma_nought(dn, lines, pixels, self.annotation.calibration[key], noise)
        return interpolated(
            power, ~outside, slant.line - first[0], slant.pixel - first[1], fill_value(self.product)
        ).astype(self.product.dtype)


def checked_geometry(annotation: SceneAnnotation, scene_id: str) -> RadarGeometry:
    """The scene's geometry, if it agrees with the scene's own ground-control points.

    Raises
    ------
    SceneError: ``annotation-contradicts``.
    """
    geometry = RadarGeometry(annotation.product)
    error = math.hypot(geometry.line_error, geometry.pixel_error)
    if not error <= DISAGREEMENT_PX:
        raise SceneError(
            "annotation-contradicts",
            f"its orbit and its ground-control points disagree by {error:.1f} pixels",
            subject=scene_id,
            next_step="report it to the archive; nothing tells which of them is right",
        )
    return geometry


def check_measurement(dataset: DatasetReader, *, annotation: SceneAnnotation, scene_id: str) -> None:
    """Refuse a raster that is no amplitude image of the annotation's size.

    Raises
    ------
    SceneError: ``unexpected-dtype``, ``unexpected-bands`` or ``annotation-contradicts``.
    """
    if dataset.count != 1 or dataset.dtypes[0] != "uint16":
        raise SceneError(
            "unexpected-dtype" if dataset.count == 1 else "unexpected-bands",
            f"it holds {dataset.count} bands of {dataset.dtypes[0]}, and a ground-range measurement one of "
            "uint16",
            subject=scene_id,
            next_step="correct the product file, or give the archive its own",
        )
    annotation.check_shape(dataset.shape, scene_id)


def interpolated(
    power: NDArray[np.float64],
    valid: NDArray[np.bool_],
    line: NDArray[np.float64],
    pixel: NDArray[np.float64],
    fill: float,
) -> NDArray[np.float64]:
    """``power`` bilinearly at fractional places, of valid neighbours alone; ``fill`` where most are not."""
    from scipy.ndimage import map_coordinates

    places = [np.nan_to_num(line, nan=-9.0), np.nan_to_num(pixel, nan=-9.0)]
    options: Mapping[str, Any] = {"order": 1, "mode": "grid-constant", "cval": 0.0}
    weight = map_coordinates(valid.astype(np.float64), places, **options)
    total = map_coordinates(np.where(valid, power, 0.0), places, **options)
    known = weight > 0.5
    return np.where(known, total / np.where(known, weight, 1.0), fill)


def _span(places: NDArray[np.float64], size: int) -> tuple[int, int]:
    """First and end of what must be read along one axis; as far as the raster's edge where that is near."""
    first = math.floor(float(places.min())) - MARGIN_PX
    end = math.ceil(float(places.max())) + MARGIN_PX + 1
    return (0 if first <= REACH_PX else first), (size if end >= size - REACH_PX else end)
