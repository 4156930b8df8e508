"""Where samples lie: places in metres, and the split of each, fixed for good when it is sampled.

A place is a function of the request and of itself alone: its id is its UTM zone and window, its block and
split are drawn from them (``catalog.splits``). It keeps them when the area grows or scenes are added. Places
that are drawn (``drawn``) come from hashes of the seed (``draws``), so that more of them change none.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from catalog.errors import UsageError
from catalog.grids import Grid, north_up
from catalog.locations.apart import as_table, first_come
from catalog.locations.drawn import drawn_windows
from catalog.products.model import Product
from catalog.recipes import Area, LocationRequest
from catalog.samples import Location
from catalog.scenes import Scene
from catalog.splits import DROPPED, SPLITS, Assignment, assign
from catalog.windows import (
    FALSE_NORTHING_M,
    Windows,
    grid_windows,
    lattice_m,
    point_windows,
    scene_windows,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from catalog.locations.apart import Table


def sample_locations(
    request: LocationRequest, area: Area, products: Sequence[Product], scenes: Sequence[Scene] = ()
) -> list[Location]:
    """The places of a request, ordered by zone, block and id; no two of them overlap.

    Of overlapping windows of ``strategy: scenes`` or ``points`` the earlier is kept (scenes by product, time
    and id; points in the order of the file), of more than ``max_count`` those with the lowest hash. A place
    that is kept always has the same id and split. ``cities``, ``uniform`` and ``stratified`` give fewer than
    were asked for where the area has no room for more.

    Raises
    ------
    UsageError: sizes that do not fit the products' grids, unreadable points or classes, or nothing left to
        sample.
    """
    step = lattice_m(products)
    _check(request, step)
    shift = max((product.grid.snap_m or 0.0 for product in products), default=0.0) / 2

    def splits_of(windows: Windows) -> Assignment:
        return assign(windows, request.split, request.seed, scenes, shift)

    if request.strategy in ("cities", "uniform", "stratified"):
        candidates = _drawn(request, area, step, splits_of)
    elif request.strategy == "grid":
        candidates = list(grid_windows(request, area, step))
    elif request.strategy == "scenes":
        candidates = list(scene_windows(request, area, products, scenes))
    else:
        candidates = list(_merged(point_windows(request, area, step)))
    kept: list[tuple[Windows, NDArray[np.int8], list[str]]] = []
    for windows in candidates:
        drawn = splits_of(windows)
        rows = [row for row in range(len(windows)) if drawn.split[row] != DROPPED]
        kept.append((windows.take(rows), drawn.split[rows], [drawn.block[row] for row in rows]))
    if request.strategy in ("scenes", "points"):
        kept = _without_overlaps(kept, request.min_distance_m)
    locations = [place for windows, split, blocks in kept for place in _places(windows, split, blocks)]
    if not locations and (request.strategy != "scenes" or scenes):
        found = sum(len(windows) for windows in candidates)
        raise UsageError(
            "no-locations",
            "the area holds no window of this size, or none where the strategy looks"
            if not found
            else f"all {found} windows lie within the buffer between splits, or in no split",
            subject="locations",
            next_step="choose a larger area, larger blocks, or a smaller size or buffer",
        )
    if request.strategy in ("grid", "scenes", "points") and request.max_count is not None:
        locations = sorted(locations, key=lambda place: _draw(request.seed, place.id))[: request.max_count]
    return sorted(locations, key=lambda place: (place.epsg, place.block, place.id))


def sample_grid(product: Product, location: Location, gsd_m: float) -> Grid:
    """The window of one native resolution: the same for every scene of the product at this place.

    It lies in the CRS that the product uses in the location's zone and starts on the product's lattice, so
    that scenes on their usual grid are copied and coarser bands nest in finer ones.

    Raises
    ------
    UsageError: ``size-does-not-nest``, where the location's size is no multiple of the sampling.
    """
    nests = lattice_m([product])
    step = product.grid.snap_m or nests
    if _off(location.size_m, gsd_m) or _off(location.size_m, nests):
        raise UsageError(
            "size-does-not-nest",
            f"{location.size_m:g} m is no multiple of {nests:g} m, on which {product.id} nests",
            subject=location.id,
            next_step="choose locations.size_m accordingly",
        )
    epsg, y = location.epsg, location.y
    if product.grid.crs == "utm-north" and epsg > 32700:
        epsg, y = epsg - 100, y - FALSE_NORTHING_M
    origin_x, origin_y = product.grid.origin_in(epsg)
    west = _snapped(location.x - location.size_m / 2, origin_x, step)
    north = _snapped(y + location.size_m / 2, origin_y, step)
    side = round(location.size_m / gsd_m)
    return north_up(epsg, west, north, float(gsd_m), (side, side))


def location_wgs84_polygon(location: Location) -> dict[str, Any]:
    """The location's outline in degrees, as GeoJSON; sides follow the UTM grid with four points each.

    Across the antimeridian it is a MultiPolygon of the parts on either side (RFC 7946, section 3.1.9).
    """
    import numpy as np

    from catalog.windows import to_degrees

    half = location.size_m / 2
    along = np.arange(4) / 4 * 2 - 1
    x = np.concatenate([along, np.full(4, 1.0), -along, np.full(4, -1.0)]) * half + location.x
    y = np.concatenate([np.full(4, -1.0), along, np.full(4, 1.0), -along]) * half + location.y
    longitude, latitude = to_degrees(location.epsg, x, y)
    if longitude.max() - longitude.min() > 180:
        return _cut_at_antimeridian(longitude, latitude)
    ring = [[float(a), float(b)] for a, b in zip(longitude, latitude, strict=True)]
    return {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}


def _cut_at_antimeridian(longitude: NDArray[np.float64], latitude: NDArray[np.float64]) -> dict[str, Any]:
    import numpy as np
    import shapely
    from shapely.affinity import translate

    outline = shapely.Polygon(np.stack([longitude % 360, latitude], axis=1))
    parts = [
        shapely.box(0, -90, 180, 90) & outline,
        translate(shapely.box(180, -90, 360, 90) & outline, -360),
    ]
    rings = [shapely.get_coordinates(shapely.orient_polygons(part)).tolist() for part in parts]
    return {"type": "MultiPolygon", "coordinates": [[ring] for ring in rings]}


def _check(request: LocationRequest, step: float) -> None:
    spacing = request.spacing_m or request.size_m
    below, above = math.floor(request.size_m / step) * step, math.ceil(request.size_m / step) * step
    choices = " or ".join(f"{value:g}" for value in sorted({below, above}) if value > 0)
    problems = {
        "size_m": _off(request.size_m, step)
        and f"size_m {request.size_m:g} is no multiple of {step:g} m, on which the products nest: {choices}",
        "spacing_m": _off(spacing, step) and f"spacing_m {spacing:g} is no multiple of {step:g} m",
        "spacing_m ": spacing < request.size_m and "spacing_m is below size_m: samples would overlap",
        "split.block_m": request.split.by == "block"
        and request.split.block_m < request.size_m
        and f"block_m {request.split.block_m:g} is below size_m {request.size_m:g}",
    }
    for key, problem in problems.items():
        if problem:
            raise UsageError(
                "locations-do-not-fit",
                problem,
                subject=f"locations.{key.strip()}",
                next_step="correct the recipe",
            )


def _off(length: float, step: float) -> bool:
    return abs(length / step - round(length / step)) > 1e-9


def _snapped(value: float, origin: float, step: float) -> float:
    """The nearest lattice line; the upper one from the middle, so that neighbours move alike."""
    return math.floor((value - origin) / step + 0.5) * step + origin


def _draw(seed: int, location: str) -> bytes:
    return hashlib.sha256(f"{seed}|{location}".encode()).digest()


def _merged(windows: Any) -> list[Windows]:
    """Neighbours in order with the same zone as one."""
    import numpy as np

    groups: list[list[Windows]] = []
    for one in windows:
        if groups and groups[-1][0].epsg == one.epsg:
            groups[-1].append(one)
        else:
            groups.append([one])
    return [
        Windows(
            group[0].epsg,
            np.concatenate([one.west for one in group]),
            np.concatenate([one.north for one in group]),
            group[0].size_m,
        )
        for group in groups
    ]


def _drawn(
    request: LocationRequest, area: Area, step: float, splits_of: Callable[[Windows], Assignment]
) -> list[Windows]:
    """Windows of the strategies that draw, zone by zone; all of them lie in a split."""
    import numpy as np

    def usable(table: Table) -> NDArray[np.bool_]:
        inside = np.zeros(len(table), np.bool_)
        for rows, windows in table.by_zone():
            inside[rows] = splits_of(windows).split != DROPPED
        return inside

    return [windows for _, windows in drawn_windows(request, area, step, usable).by_zone()]


def _without_overlaps(
    parts: list[tuple[Windows, NDArray[np.int8], list[str]]], min_distance_m: float | None
) -> list[tuple[Windows, NDArray[np.int8], list[str]]]:
    """Of windows that overlap or are too close on the ground, in whatever zones, the first."""
    import numpy as np

    parts = [part for part in parts if len(part[0])]
    if not parts:
        return []
    kept = first_come(as_table([windows for windows, _, _ in parts]), min_distance_m)
    result, start = [], 0
    for windows, split, blocks in parts:
        rows = np.flatnonzero(kept[start : start + len(windows)])
        result.append((windows.take(rows), split[rows], [blocks[row] for row in rows]))
        start += len(windows)
    return result


def _places(windows: Windows, split: NDArray[np.int8], blocks: list[str]) -> list[Location]:
    if len(windows) == 0:
        return []
    x, y = windows.centres()
    longitude, latitude = windows.centres_degrees()
    return [
        Location(
            id=windows.id_of(row),
            epsg=windows.epsg,
            x=float(x[row]),
            y=float(y[row]),
            size_m=windows.size_m,
            longitude=float(longitude[row]),
            latitude=float(latitude[row]),
            split=SPLITS[split[row]],
            block=blocks[row],
        )
        for row in range(len(windows))
    ]
