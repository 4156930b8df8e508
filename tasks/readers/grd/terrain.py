"""How high the ground is: from an elevation model, or, without one, from a scene's ground-control points."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from catalog.errors import UsageError
from catalog.grids import Grid
from tasks.readers.grd.geocoding import RadarGeometry

STEPS = 3
"""From the mean height to that of the control points: each step's error is a small share of the last."""


class Terrain(Protocol):
    """A source of heights."""

    def heights_m(self, grid: Grid) -> NDArray[np.float64]:
        """Height above the ellipsoid at each pixel of a grid; NaN where unknown."""
        ...

    def position_error_m(self, grid: Grid) -> float:
        """Estimated horizontal error of what is placed with these heights."""
        ...


class ElevationModel:
    """A GeoTIFF or VRT on this machine with heights above the WGS 84 ellipsoid, in metres."""

    def __init__(self, path: Path, geometry: RadarGeometry) -> None:
        self._path = path
        self._geometry = geometry
        if not path.is_file():
            raise UsageError(
                "dem-not-found",
                f"there is no elevation model {path}",
                subject="products.sentinel-1-grd.dem",
                next_step="name a GeoTIFF or VRT with heights above the ellipsoid, or leave `dem` out",
            )

    def heights_m(self, grid: Grid) -> NDArray[np.float64]:
        import rasterio
        from rasterio.enums import Resampling
        from rasterio.errors import RasterioError
        from rasterio.transform import Affine
        from rasterio.vrt import WarpedVRT

        height, width = grid.shape
        driver = "VRT" if self._path.suffix.lower() == ".vrt" else "GTiff"
        try:
            with (
                rasterio.open(self._path, driver=driver, sharing=False) as file,
                WarpedVRT(
                    file,
                    crs=f"EPSG:{grid.epsg}",
                    transform=Affine(*grid.affine),
                    height=height,
                    width=width,
                    resampling=Resampling.bilinear,
                    # Whole metres in the file, not on the sample's grid.
                    dtype="float32",
                    nodata=math.nan,
                ) as warped,
            ):
                values: NDArray[np.float64] = warped.read(1).astype(np.float64)
        except RasterioError as error:
            raise UsageError(
                "dem-unreadable",
                f"the elevation model cannot be read: {error}",
                subject=str(self._path),
                next_step="name a GeoTIFF or VRT with a CRS and heights above the ellipsoid in band 1",
            ) from error
        return values

    def position_error_m(self, grid: Grid) -> float:
        """How far the geometry and the archive's own ground-control points disagree."""
        return self._geometry.error_m


class ControlPoints:
    """The heights of a scene's own ground-control points, some 20 km apart, bilinear between them."""

    def __init__(self, geometry: RadarGeometry) -> None:
        self._geometry = geometry
        points = geometry.annotation.grid
        self._axes = points.line[:, 0], points.pixel[0]
        self._heights_m = points.height_m
        self._incidence_deg = points.incidence_deg

    def heights_m(self, grid: Grid) -> NDArray[np.float64]:
        longitude, latitude = degrees_of(grid)
        heights = np.full(grid.shape, float(self._heights_m.mean()))
        # Which points are near depends on the height, a little: the grid is one of lines and pixels.
        for _ in range(STEPS):
            heights = self._at(*self._geometry.locate(longitude, latitude, heights))
        return heights

    def position_error_m(self, grid: Grid) -> float:
        """Spread of the heights around ÷ tan(incidence): what is higher is seen closer to the sensor.

        Relief between the points is not seen, so that a single peak or gorge can lie further off.
        """
        longitude, latitude = degrees_of(grid)
        middle = slice(grid.shape[0] // 2, grid.shape[0] // 2 + 1), slice(grid.shape[1] // 2, None)
        place = longitude[middle][:, :1], latitude[middle][:, :1]
        line, pixel = self._geometry.locate(*place, np.full((1, 1), float(self._heights_m.mean())))
        near = tuple(
            slice(max(0, below - 1), below + 3)
            for below in (
                int(np.clip(np.searchsorted(axis, value) - 1, 0, len(axis) - 2))
                for axis, value in zip(self._axes, (line[0, 0], pixel[0, 0]), strict=True)
            )
        )
        spread = float(np.ptp(self._heights_m[near]))
        relief = spread / math.tan(math.radians(float(self._incidence_deg[near].mean())))
        return math.hypot(relief, self._geometry.error_m)

    def _at(self, line: NDArray[np.float64], pixel: NDArray[np.float64]) -> NDArray[np.float64]:
        (row, down), (col, right) = (
            _between(axis, values) for axis, values in zip(self._axes, (line, pixel), strict=True)
        )
        table = self._heights_m
        above = table[row, col] * (1 - right) + table[row, col + 1] * right
        below = table[row + 1, col] * (1 - right) + table[row + 1, col + 1] * right
        return np.asarray(above * (1 - down) + below * down)


def _between(
    axis: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Index of the point before each value, and how far it is to the next, 0 to 1."""
    index = np.clip(np.searchsorted(axis, values, side="right") - 1, 0, len(axis) - 2)
    return index, np.clip((values - axis[index]) / (axis[index + 1] - axis[index]), 0, 1)


def degrees_of(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitude and latitude of every pixel centre, ``(y, x)``."""
    from pyproj import Transformer

    a, b, c, d, e, f = grid.affine
    col, row = np.meshgrid(np.arange(grid.shape[1]) + 0.5, np.arange(grid.shape[0]) + 0.5)
    to_degrees = Transformer.from_crs(grid.epsg, 4326, always_xy=True)
    longitude, latitude = to_degrees.transform(a * col + b * row + c, d * col + e * row + f)
    return np.asarray(longitude), np.asarray(latitude)
