"""Random draws that depend on a seed and on what is drawn alone, not on how much else is drawn.

Drawing more places, or looking at a larger area, adds draws and changes none. So nothing here goes through a
generator with a state: each number is a hash of the seed and of the numbers that name the draw.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from catalog.recipes import Area
from catalog.windows import NORTH_END, SOUTH_END, in_area, transformer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]
    Bits = NDArray[np.uint64]

EQUAL_AREA = "EPSG:6933"
"""Cylindrical equal-area on the WGS 84 ellipsoid: equal areas of its plane are equal areas on the ground."""
WIDTH_M, HEIGHT_M = 2 * 17_367_530.4451, 2 * 7_314_540.8306
"""Of the whole world on that plane."""
COLUMNS, ROWS = 512, 216
"""Cells of the first level, nearly square: 67.8 km × 67.7 km at 30 degrees."""
MAX_CELLS = 30_000_000
"""Of one level: about 1.5 GB while they are put in order."""
CHUNK = 200_000
"""Draws handed on at a time."""
REACH = 6.0
"""Standard deviations; a draw from a city's Gaussian farther out (two in 10⁸) is left out."""
MAX_DRAWS = 100_000_000
"""From cities, of all rounds."""


@dataclass(frozen=True)
class Draws:
    """Places in the order in which they were drawn."""

    longitude: Numbers
    latitude: Numbers

    def __len__(self) -> int:
        return len(self.longitude)


def noise(seed: int, *parts: Any) -> Bits:
    """64 random bits for each row of ``parts`` (integers or integer arrays, broadcast).

    The finaliser of SplitMix64 (Steele, Lea and Flood 2014) after each part.
    """
    import numpy as np

    bits = np.asarray(seed & 0xFFFFFFFFFFFFFFFF, np.uint64)
    with np.errstate(over="ignore"):
        for part in (0, *parts):
            bits = bits ^ np.asarray(part).astype(np.int64).astype(np.uint64)
            bits = bits + np.uint64(0x9E3779B97F4A7C15)
            bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            bits = bits ^ (bits >> np.uint64(31))
    return np.asarray(bits, np.uint64)


def uniform(bits: Bits) -> Numbers:
    """Numbers in [0, 1) from random bits."""
    import numpy as np

    return np.asarray((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53, np.float64)


def grown(area: Area, margin_m: float) -> Area:
    """An area that holds everything within a distance of another."""
    west, south, east, north = area.bbox
    south, north = max(-90.0, south - margin_m / 110_000), min(90.0, north + margin_m / 110_000)
    farthest = max(abs(south), abs(north))
    # At 89 degrees a degree of longitude is 2 km; nearer to a pole every longitude is near.
    aside = margin_m / (110_000 * math.cos(math.radians(farthest))) if farthest < 89 else 360.0
    if (east - west) % 360 + 2 * aside >= 360 or (west, east) == (-180.0, 180.0):
        return Area(bbox=(-180.0, south, 180.0, north))
    return Area(bbox=(_wrapped(west - aside), south, _wrapped(east + aside), north))


def over_area(area: Area, seed: int, least_side_m: float) -> Iterator[Draws]:
    """Uniform draws from an area, true to area on the ellipsoid, each chunk in order.

    The world is cut into cells of equal area and one place is drawn in each, in an order drawn too; then into
    four times as many, and so on, until their sides are below ``least_side_m``. Each chunk is uniform over
    the area, and as the cells are the world's, a part of the area gets what the area gets there.
    """
    import numpy as np

    back = transformer(EQUAL_AREA, 4326)
    for level in range(40):
        side = 2**level
        width, height = WIDTH_M / (COLUMNS * side), HEIGHT_M / (ROWS * side)
        if level and min(width, height) < least_side_m:
            return
        column, row = _cells(area, width, height)
        if len(column) > MAX_CELLS:
            return
        order = np.argsort(noise(seed, 1, level, column, row), kind="stable")
        for start in range(0, len(order), CHUNK):
            chosen = order[start : start + CHUNK]
            i, j = column[chosen], row[chosen]
            x = (i + uniform(noise(seed, 2, level, i, j))) * width - WIDTH_M / 2
            y = (j + uniform(noise(seed, 3, level, i, j))) * height - HEIGHT_M / 2
            longitude, latitude = back.transform(x, y)
            inside = in_area(area, longitude, latitude)
            yield Draws(longitude[inside], latitude[inside])


def around_cities(
    area: Area, seed: int, ids: NDArray[np.int64], places: Draws, spread_m: float
) -> Iterator[Draws]:
    """Draws from a Gaussian around cities, each chunk in order.

    Each round takes every city once, in an order drawn for that round; a city's draws depend on its id and
    the round. Distance and bearing are measured on the ellipsoid.
    """
    import numpy as np
    from pyproj import Geod

    near = in_area(grown(area, REACH * spread_m), places.longitude, places.latitude)
    ids, longitude, latitude = ids[near], places.longitude[near], places.latitude[near]
    if len(ids) == 0:
        return
    ellipsoid = Geod(ellps="WGS84")
    first, rounds = 0, 1
    while first * len(ids) < MAX_DRAWS:
        turn = np.repeat(np.arange(first, first + rounds), len(ids))
        which = np.tile(np.arange(len(ids)), rounds)
        order = np.lexsort((noise(seed, 4, turn, ids[which]), turn))
        turn, which = turn[order], which[order]
        city = ids[which]
        # The length of a two-dimensional Gaussian displacement is Rayleigh distributed.
        distance = spread_m * np.sqrt(-2 * np.log1p(-uniform(noise(seed, 5, turn, city))))
        bearing = 360 * uniform(noise(seed, 6, turn, city))
        x, y, _ = ellipsoid.fwd(longitude[which], latitude[which], bearing, distance)
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        inside = in_area(area, x, y) & (distance <= REACH * spread_m)
        yield Draws(x[inside], y[inside])
        first += rounds
        rounds = min(2 * rounds, max(1, CHUNK // len(ids)))


def _cells(area: Area, width: float, height: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Column and row of every cell of the equal-area plane that touches an area, row by row."""
    import numpy as np

    west, south, east, north = area.bbox
    forth = transformer(4326, EQUAL_AREA)
    _, (low, high) = forth.transform([0.0, 0.0], [max(south, SOUTH_END), min(north, NORTH_END)])
    rows = _numbers(low, high, HEIGHT_M, height)
    columns = np.concatenate(
        [
            _numbers(left / 360 * WIDTH_M, right / 360 * WIDTH_M, WIDTH_M, width)
            for left, right in ([(west, east)] if west < east else [(west, 180.0), (-180.0, east)])
        ]
    )
    columns = np.unique(columns)
    i, j = (values.reshape(-1) for values in np.meshgrid(columns, rows))
    return i, j


def _numbers(low: float, high: float, whole: float, step: float) -> NDArray[np.int64]:
    import numpy as np

    count = round(whole / step)
    first = max(0, math.floor((low + whole / 2) / step))
    return np.arange(first, min(count, math.ceil((high + whole / 2) / step)), dtype=np.int64)


def _wrapped(longitude: float) -> float:
    return (longitude + 180.0) % 360.0 - 180.0
