"""The landscape's heights as a file, for whoever must place a radar scene over it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from pyproj import Transformer
from scipy.ndimage import map_coordinates

from catalog.grids import Grid
from deployments.sandbox.landscape import MARGIN, STEP_M, Ground
from deployments.sandbox.sensors import Raster

TERRAIN = "/assets/dem/landscape.tif"
STEP_DEG = 1 / 10800
"""A third of an arc second: 10 m along a meridian."""
NODATA = -32768.0


def terrain_model(grounds: Sequence[Ground]) -> Raster:
    """Heights above the ellipsoid on one geographic grid over both squares, nodata beside them."""
    reach = (MARGIN - 1) * STEP_M
    corners = np.array([_bounds_deg(ground.grid, reach) for ground in grounds])
    west, south = np.floor(corners[:, :2].min(axis=0) / STEP_DEG) * STEP_DEG
    east, north = corners[:, 2:].max(axis=0)
    shape = math.ceil((north - south) / STEP_DEG), math.ceil((east - west) / STEP_DEG)
    grid = Grid(4326, (STEP_DEG, 0.0, float(west), 0.0, -STEP_DEG, float(south) + shape[0] * STEP_DEG), shape)
    latitude = grid.affine[5] - (np.arange(shape[0]) + 0.5) * STEP_DEG
    longitude = grid.affine[2] + (np.arange(shape[1]) + 0.5) * STEP_DEG
    place = np.meshgrid(longitude, latitude)
    heights = np.full(shape, NODATA, np.float32)
    for ground in grounds:
        x, y = Transformer.from_crs(4326, ground.grid.epsg, always_xy=True).transform(*place)
        _, _, left, _, _, top = ground.grid.affine
        row, col = (top - y) / STEP_M - 0.5 + MARGIN, (x - left) / STEP_M - 0.5 + MARGIN
        height, width = ground.height_m.shape
        inside = (row >= 0) & (row <= height - 1) & (col >= 0) & (col <= width - 1)
        heights[inside] = map_coordinates(ground.height_m, [row[inside], col[inside]], order=1)
    return Raster(heights[None], grid, NODATA)


def _bounds_deg(square: Grid, reach_m: float) -> tuple[float, float, float, float]:
    west, south, east, north = square.bounds
    x = np.array([west - reach_m, west - reach_m, east + reach_m, east + reach_m])
    y = np.array([south - reach_m, north + reach_m, south - reach_m, north + reach_m])
    longitude, latitude = Transformer.from_crs(square.epsg, 4326, always_xy=True).transform(x, y)
    return longitude.min(), latitude.min(), longitude.max(), latitude.max()
