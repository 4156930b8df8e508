"""Pixel grids: an EPSG code, an exact affine and a shape, and what it means to lie on one."""

from __future__ import annotations

import math
from dataclasses import dataclass

Affine = tuple[float, float, float, float, float, float]
"""``(a, b, c, d, e, f)``: x = a·col + b·row + c, y = d·col + e·row + f (rasterio's order)."""

WIDE_ZONES = (
    (32, 3.0, 56.0, 6.0, 64.0),
    (31, 6.0, 72.0, 9.0, 84.0),
    (33, 9.0, 72.0, 12.0, 84.0),
    (33, 18.0, 72.0, 21.0, 84.0),
    (35, 21.0, 72.0, 24.0, 84.0),
    (35, 30.0, 72.0, 33.0, 84.0),
    (37, 33.0, 72.0, 36.0, 84.0),
)
"""(UTM zone, west, south, east, north): what a zone takes from its neighbours, degrees."""


@dataclass(frozen=True)
class Grid:
    """A raster's place on the ground."""

    epsg: int
    affine: Affine
    shape: tuple[int, int]
    """(height, width) in pixels."""

    @property
    def resolution(self) -> tuple[float, float]:
        """Pixel size (x, y), positive, in CRS units (metres for UTM)."""
        a, b, _, d, e, _ = self.affine
        return math.hypot(a, d), math.hypot(b, e)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(west, south, east, north) in CRS units of a north-up grid."""
        a, _, c, _, e, f = self.affine
        height, width = self.shape
        xs, ys = sorted((c, c + a * width)), sorted((f, f + e * height))
        return xs[0], ys[0], xs[1], ys[1]

    def window_offset(self, other: Grid, tolerance_px: float = 1e-3) -> tuple[int, int] | None:
        """(row, col) at which ``other`` starts on this grid, or None where their pixels do not coincide.

        ``other`` may reach over the edge; offsets are then negative or past the end.
        """
        if self.epsg != other.epsg:
            return None
        if any(
            abs(p - q) > 1e-9 * max(1.0, abs(p))
            for p, q in zip(
                (self.affine[0], self.affine[1], self.affine[3], self.affine[4]),
                (other.affine[0], other.affine[1], other.affine[3], other.affine[4]),
                strict=True,
            )
        ):
            return None
        col = (other.affine[2] - self.affine[2]) / self.affine[0]
        row = (other.affine[5] - self.affine[5]) / self.affine[4]
        if abs(col - round(col)) > tolerance_px or abs(row - round(row)) > tolerance_px:
            return None
        return round(row), round(col)


def north_up(epsg: int, west: float, north: float, resolution: float, shape: tuple[int, int]) -> Grid:
    """A north-up grid from its upper-left corner."""
    return Grid(epsg, (resolution, 0.0, west, 0.0, -resolution, north), shape)


def utm_epsg(longitude: float, latitude: float, *, always_north: bool = False) -> int:
    """EPSG code of the UTM zone of a place (degrees), with the wide zones of Norway and Svalbard.

    In band V (56 to 64° N) zone 32 begins at 3° E; in band X (72 to 84° N) the zones 31, 33, 35 and 37 are
    wider and 32, 34 and 36 do not exist (DMA TM 8358.1, the grid that Sentinel-2's tiles follow).

    ``always_north`` gives Landsat's convention: 326xx with negative northings in the southern hemisphere.
    """
    zone = min(60, int((longitude + 180.0) // 6) + 1)
    for wide, west, south, east, north in WIDE_ZONES:
        if west <= longitude < east and south <= latitude < north:
            zone = wide
    return (32600 if latitude >= 0 or always_north else 32700) + zone
