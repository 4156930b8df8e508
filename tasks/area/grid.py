"""The grid of an area cube: a recipe's area in one UTM zone, on the product's lattice, cut into tiles."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from catalog.area_cubes.layout import quality_gsd_m
from catalog.errors import UsageError
from catalog.grids import Grid, north_up, utm_epsg
from catalog.products import Product
from catalog.recipes import Area
from catalog.windows import from_degrees, lattice_m, to_degrees

LONGEST_SIDE_M = 1_000_000.0
"""Beyond it one zone's grid is far from true to scale."""


@dataclass(frozen=True)
class AreaGrid:
    """Where an area cube of one product lies."""

    grids: dict[float, Grid]
    """Ground sampling in metres → grid: of each native resolution, and of the QA layer."""
    tile_m: float
    """Side of a tile, which is one chunk at every resolution."""

    @property
    def chunks_px(self) -> dict[float, int]:
        """Ground sampling → side of a tile in pixels."""
        return {gsd: round(self.tile_m / gsd) for gsd in self.grids}

    def tiles(self) -> Iterator[tuple[str, dict[float, Grid], dict[float, tuple[slice, slice]]]]:
        """(name, grids, place in the cube's arrays) of every tile, row by row from the upper left."""
        finest = min(self.grids)
        side = self.chunks_px[finest]
        height, width = self.grids[finest].shape
        for row in range(math.ceil(height / side)):
            for col in range(math.ceil(width / side)):
                grids, places = {}, {}
                for gsd, whole in self.grids.items():
                    px = self.chunks_px[gsd]
                    rows = slice(row * px, min((row + 1) * px, whole.shape[0]))
                    cols = slice(col * px, min((col + 1) * px, whole.shape[1]))
                    a, _, west, _, e, north = whole.affine
                    shape = rows.stop - rows.start, cols.stop - cols.start
                    grids[gsd] = north_up(whole.epsg, west + a * cols.start, north + e * rows.start, a, shape)
                    places[gsd] = rows, cols
                yield f"{row}/{col}", grids, places


def area_grid(product: Product, area: Area, *, epsg: int | None, chunk_px: int) -> AreaGrid:
    """The smallest grid on the product's lattice that covers an area.

    Parameters
    ----------
    epsg:     UTM zone; that of the area's centre if None
    chunk_px: side of a tile at the finest sampling, pixels, at most

    Raises
    ------
    UsageError: ``area-too-large``.
    """
    west, south, east, north = area.bbox
    east += 360.0 if west > east else 0.0
    middle = ((west + east) / 2 + 180.0) % 360.0 - 180.0, (south + north) / 2
    northern = product.grid.crs == "utm-north"
    epsg = epsg or utm_epsg(*middle, always_north=northern)
    if northern and epsg > 32700:
        epsg -= 100
    along = np.linspace(0, 1, 21)
    longitude = np.concatenate([west + (east - west) * along] * 2 + [np.full(21, west), np.full(21, east)])
    edges = south + (north - south) * along
    latitude = np.concatenate([np.full(21, south), np.full(21, north), edges, edges])
    x, y = from_degrees(epsg, longitude, latitude)
    extent = float(x.max() - x.min()), float(y.max() - y.min())
    if not all(math.isfinite(side) and side <= LONGEST_SIDE_M for side in extent):
        raise UsageError(
            "area-too-large",
            f"the area reaches over {LONGEST_SIDE_M / 1000:g} km in EPSG:{epsg}; an area cube has one grid",
            subject="area.bbox",
            next_step="choose a smaller area, or several recipes; a far `area_cube.epsg` has the same effect",
        )
    step = lattice_m([product])
    qa_m = quality_gsd_m(product)
    step = step if math.isclose(step % qa_m, 0, abs_tol=1e-9) else math.lcm(round(step), round(qa_m))
    origin_x, origin_y = product.grid.origin_in(epsg)
    left, right = _outward(float(x.min()), float(x.max()), origin_x, step)
    bottom, top = _outward(float(y.min()), float(y.max()), origin_y, step)
    tile_m = max(1, math.floor(chunk_px * product.resolutions_m[0] / step)) * step
    sizes = sorted({*product.resolutions_m, qa_m})
    grids = {
        gsd: north_up(epsg, left, top, float(gsd), (round((top - bottom) / gsd), round((right - left) / gsd)))
        for gsd in sizes
    }
    return AreaGrid(grids, tile_m)


def _outward(low: float, high: float, origin: float, step: float) -> tuple[float, float]:
    """The next points of a lattice outside an interval; a millimetre over the edge counts as on it."""
    first = math.floor((low - origin) / step + 1e-6) * step + origin
    last = math.ceil((high - origin) / step - 1e-6) * step + origin
    return first, max(last, first + step)


def outline_of(grid: Grid) -> Any:
    """A grid's outline in degrees, as a shapely geometry."""
    from shapely.geometry import MultiPoint, box

    west, south, east, north = grid.bounds
    middle_x, middle_y = (west + east) / 2, (south + north) / 2
    x = np.array([west, middle_x, east, east, east, middle_x, west, west])
    y = np.array([north, north, north, middle_y, south, south, south, middle_y])
    longitude, latitude = to_degrees(grid.epsg, x, y)
    if float(longitude.max() - longitude.min()) > 180:  # over the antimeridian
        return box(-180, float(latitude.min()), 180, float(latitude.max()))
    return MultiPoint(np.column_stack([longitude, latitude])).convex_hull
