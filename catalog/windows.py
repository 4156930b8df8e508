"""Candidate windows on the ground: a regular grid, the tiling of scenes, or around given points."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from catalog.errors import UsageError
from catalog.grids import WIDE_ZONES, Grid, utm_epsg
from catalog.products.model import Product
from catalog.recipes import Area, LocationRequest
from catalog.scenes import Scene

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pyproj import Transformer

    Numbers = NDArray[np.float64]

FALSE_NORTHING_M = 10_000_000.0
SOUTH_END, NORTH_END = -80.0, 84.0
"""Latitudes where UTM ends."""
MAX_CANDIDATES = 4_000_000
"""Per UTM zone and hemisphere: about 1 GB while they are sorted out."""


@dataclass(frozen=True)
class Windows:
    """Square windows of one size in one UTM zone, by their upper-left corners in metres."""

    epsg: int
    west: Numbers
    north: Numbers
    size_m: float

    def __len__(self) -> int:
        return len(self.west)

    def take(self, rows: Any) -> Windows:
        return Windows(self.epsg, self.west[rows], self.north[rows], self.size_m)

    def centres(self) -> tuple[Numbers, Numbers]:
        return self.west + self.size_m / 2, self.north - self.size_m / 2

    def corners(self, margin_m: float = 0.0) -> tuple[Numbers, Numbers]:
        """x and y of the corners ``(window, 4)``, anticlockwise from the lower left, grown by a margin."""
        import numpy as np

        low_x, high_x = self.west - margin_m, self.west + self.size_m + margin_m
        low_y, high_y = self.north - self.size_m - margin_m, self.north + margin_m
        return (
            np.stack([low_x, high_x, high_x, low_x], axis=1),
            np.stack([low_y, low_y, high_y, high_y], axis=1),
        )

    def centres_degrees(self) -> tuple[Numbers, Numbers]:
        return to_degrees(self.epsg, *self.centres())

    def corners_degrees(self, margin_m: float = 0.0) -> tuple[Numbers, Numbers]:
        return to_degrees(self.epsg, *self.corners(margin_m))

    def polygons_degrees(self, margin_m: float = 0.0) -> Any:
        """Shapely polygons in degrees, one per window."""
        import numpy as np
        import shapely

        x, y = self.corners_degrees(margin_m)
        return shapely.polygons(np.stack([x, y], axis=2))

    def id_of(self, row: int) -> str:
        """``32n-0691200-5324160-480``: zone, west and north edge, side; metres."""
        west, north, side = (_metres(value) for value in (self.west[row], self.north[row], self.size_m))
        return f"{self.epsg % 100:02d}{'n' if self.epsg < 32700 else 's'}-{west}-{north}-{side}"


def _metres(value: float) -> str:
    return str(round(value)) if float(value).is_integer() else repr(round(float(value), 3))


def to_degrees(epsg: int, x: Numbers, y: Numbers) -> tuple[Numbers, Numbers]:
    """UTM metres to (longitude, latitude)."""
    longitude, latitude = transformer(epsg, 4326).transform(x, y)
    return longitude, latitude


def from_degrees(epsg: int, longitude: Numbers, latitude: Numbers) -> tuple[Numbers, Numbers]:
    """(longitude, latitude) to UTM metres."""
    x, y = transformer(4326, epsg).transform(longitude, latitude)
    return x, y


@lru_cache(maxsize=512)
def transformer(source: int | str, target: int | str) -> Transformer:
    """Made once for each pair of CRSs: making one takes longer than using it."""
    from pyproj import Transformer

    return Transformer.from_crs(source, target, always_xy=True)


def zones_of(longitude: Numbers, latitude: Numbers) -> NDArray[np.int64]:
    """``catalog.grids.utm_epsg`` of many places."""
    import numpy as np

    zone = np.minimum(60, np.floor((longitude + 180.0) / 6.0) + 1)
    for wide, west, south, east, north in WIDE_ZONES:
        inside = (longitude >= west) & (longitude < east) & (latitude >= south) & (latitude < north)
        zone = np.where(inside, wide, zone)
    codes: NDArray[np.int64] = (np.where(latitude >= 0, 32600, 32700) + zone).astype(np.int64)
    return codes


def equator_m(epsg: int) -> float:
    """Northing of the equator; lattices and blocks count from it in both hemispheres."""
    return FALSE_NORTHING_M if 32701 <= epsg <= 32760 else 0.0


def lattice_m(products: Sequence[Product]) -> float:
    """Step on which windows of all products nest: least common multiple of snaps and samplings, metres."""
    steps = [
        step for p in products for step in (*((p.grid.snap_m,) if p.grid.snap_m else ()), *p.resolutions_m)
    ]
    fractions = [Fraction(str(step)) for step in steps] or [Fraction(1)]
    numerator = math.lcm(*(f.numerator for f in fractions))
    return numerator / math.gcd(*(f.denominator for f in fractions))


def grid_windows(request: LocationRequest, area: Area, step: float) -> Iterator[Windows]:
    """A regular grid from the zone's origin, zone by zone; windows that a zone's border cuts are left out.

    So no two windows overlap, across zones either, and a window's corner does not depend on the area.
    """
    import numpy as np

    spacing = request.spacing_m or request.size_m
    for epsg, (west, south, east, north) in _zone_boxes(area):
        edge = np.linspace(0, 1, 41)
        x, y = from_degrees(
            epsg,
            np.concatenate([west + edge * (east - west)] * 2 + [np.full(41, west), np.full(41, east)]),
            np.concatenate([np.full(41, south), np.full(41, north)] + [south + edge * (north - south)] * 2),
        )
        # One window more on each side: parallels are curved, and which centres lie inside is checked below.
        half = request.size_m / 2
        y = y - equator_m(epsg)
        columns = np.arange(math.floor((x.min() - half) / spacing), math.ceil((x.max() - half) / spacing) + 1)
        lines = np.arange(math.floor((y.min() - half) / spacing), math.ceil((y.max() - half) / spacing) + 1)
        if len(columns) * len(lines) > MAX_CANDIDATES:
            raise UsageError(
                "too-many-locations",
                f"the area holds over {MAX_CANDIDATES:,} windows of {request.size_m:g} m in one UTM zone",
                subject="locations",
                next_step="raise spacing_m, or choose a smaller area",
            )
        i, j = (values.reshape(-1) for values in np.meshgrid(columns, lines))
        west_edges = np.asarray(i * spacing, np.float64)
        north_edges = np.asarray(j * spacing + request.size_m + equator_m(epsg), np.float64)
        windows = Windows(epsg, west_edges, north_edges, request.size_m)
        if len(windows) == 0:
            continue
        longitude, latitude = windows.centres_degrees()
        inside = (longitude >= west) & (longitude <= east) & (latitude >= south) & (latitude <= north)
        windows = windows.take(inside)
        if len(windows) == 0:
            continue
        own = (zones_of(*windows.corners_degrees()) == epsg).all(axis=1)
        yield windows.take(own)


def scene_windows(
    request: LocationRequest, area: Area, products: Sequence[Product], scenes: Sequence[Scene]
) -> Iterator[Windows]:
    """Each scene's footprint tiled from its own upper-left corner; scenes by product, time and id."""
    import numpy as np
    import shapely

    spacing = request.spacing_m or request.size_m
    tilings: dict[tuple[float, ...], tuple[Windows, NDArray[np.bool_]]] = {}
    order = {product.id: index for index, product in enumerate(products)}
    chosen = [scene for scene in scenes if scene.product in order]
    for scene in sorted(chosen, key=lambda s: (order[s.product], s.sensed, s.id)):
        product = products[order[scene.product]]
        shape = shapely.make_valid(shapely.geometry.shape(dict(scene.geometry)))
        frame = _frame(scene, product, shape)
        if frame is None:
            continue
        epsg, west, south, east, north = frame
        columns = math.floor((east - west - request.size_m) / spacing + 1e-9) + 1
        lines = math.floor((north - south - request.size_m) / spacing + 1e-9) + 1
        if columns < 1 or lines < 1:
            continue
        if frame not in tilings:
            i, j = (values.reshape(-1) for values in np.meshgrid(np.arange(columns), np.arange(lines)))
            west_edges = np.asarray(west + i * spacing, np.float64)
            north_edges = np.asarray(north - j * spacing, np.float64)
            windows = Windows(epsg, west_edges, north_edges, request.size_m)
            tilings[frame] = windows, np.zeros(len(windows), bool)
        windows, covered = tilings[frame]
        open_rows = np.flatnonzero(~covered)
        longitude, latitude = windows.take(open_rows).centres_degrees()
        shapely.prepare(shape)
        hit = shapely.contains_xy(shape, longitude, latitude) & in_area(area, longitude, latitude)
        covered[open_rows[hit]] = True
    for windows, covered in tilings.values():
        if covered.any():
            yield windows.take(covered)


def point_windows(request: LocationRequest, area: Area, step: float) -> Iterator[Windows]:
    """One window around each point of a GeoJSON file, in its order, moved by at most half a step."""
    import numpy as np

    for longitude, latitude in _read_points(request):
        if not SOUTH_END <= latitude <= NORTH_END:
            continue
        if not in_area(area, np.asarray([longitude]), np.asarray([latitude]))[0]:
            continue
        epsg = utm_epsg(longitude, latitude)
        x, y = from_degrees(epsg, np.asarray([longitude]), np.asarray([latitude]))
        half = request.size_m / 2
        west = np.floor((x - half) / step + 0.5) * step
        base = equator_m(epsg)
        south = np.floor((y - base - half) / step + 0.5) * step + base
        yield Windows(epsg, west, south + request.size_m, request.size_m)


def in_area(area: Area, longitude: Numbers, latitude: Numbers) -> NDArray[np.bool_]:
    """Which places lie in the area; west > east crosses the antimeridian."""
    west, south, east, north = area.bbox
    between = (longitude >= west) & (longitude <= east)
    if west > east:
        between = (longitude >= west) | (longitude <= east)
    return between & (latitude >= south) & (latitude <= north)


def _zone_boxes(area: Area) -> Iterator[tuple[int, tuple[float, float, float, float]]]:
    """Parts of the area (west, south, east, north) that may hold windows of a zone; they do not overlap."""
    west, south, east, north = area.bbox
    strips = [(32600 + z, z * 6.0 - 186.0, 0.0, z * 6.0 - 180.0, NORTH_END) for z in range(1, 61)]
    strips += [(32700 + z, z * 6.0 - 186.0, SOUTH_END, z * 6.0 - 180.0, 0.0) for z in range(1, 61)]
    strips += [(32600 + z, left, bottom, right, top) for z, left, bottom, right, top in WIDE_ZONES]
    for low, high in [(west, east)] if west < east else [(west, 180.0), (-180.0, east)]:
        for epsg, left, bottom, right, top in sorted(strips):
            box = max(low, left), max(south, bottom), min(high, right), min(north, top)
            if box[0] < box[2] and box[1] < box[3]:
                yield epsg, box


def _frame(scene: Scene, product: Product, shape: Any) -> tuple[int, float, float, float, float] | None:
    """(UTM zone, west, south, east, north) in which a scene is tiled, cut to the product's lattice."""
    grid = _utm_grid(scene, product)
    step = lattice_m([product])
    if grid is not None:
        epsg, (west, south, east, north) = grid.epsg, grid.bounds
    else:
        import numpy as np
        import shapely

        centre = shape.centroid
        if shape.is_empty or not SOUTH_END <= centre.y <= NORTH_END:
            return None
        epsg = utm_epsg(centre.x, centre.y)
        points = shapely.get_coordinates(shape.segmentize(0.01) if shape.length < 50 else shape)
        x, y = from_degrees(epsg, points[:, 0], points[:, 1])
        west, south, east, north = (float(v) for v in (np.min(x), np.min(y), np.max(x), np.max(y)))
    origin_x, origin_y = product.grid.origin_in(epsg)
    west = math.ceil((west - origin_x) / step - 1e-9) * step + origin_x
    north = math.floor((north - origin_y) / step + 1e-9) * step + origin_y
    if 32601 <= epsg <= 32660 and north <= 0:
        # Landsat's southern scenes: northern zone, negative northings. Places are kept in the southern one.
        return epsg + 100, west, south + FALSE_NORTHING_M, east, north + FALSE_NORTHING_M
    return epsg, west, south, east, north


def _utm_grid(scene: Scene, product: Product) -> Grid | None:
    finest = min(product.resolutions_m)
    grids = [asset.grid for asset in scene.assets.values() if asset.bands and asset.grid is not None]
    fitting = [g for g in grids if 32601 <= g.epsg <= 32660 or 32701 <= g.epsg <= 32760]
    return min(fitting, key=lambda g: abs(g.resolution[0] - finest), default=None)


def _read_points(request: LocationRequest) -> Iterator[tuple[float, float]]:
    path = request.points
    problem = "`strategy: points` needs `points`" if path is None else ""
    document: Any = None
    if path is not None:
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            problem = f"cannot read {path}: {error.strerror}"
        except ValueError:
            problem = f"{path} is no GeoJSON"
    features = document.get("features", [document]) if isinstance(document, dict) else []
    found = [point for feature in features for point in _points_of(feature)]
    if not found:
        raise UsageError(
            "no-points",
            problem or f"{path} holds no Point or MultiPoint",
            subject="locations.points",
            next_step="give a GeoJSON file of points in degrees",
        )
    yield from found


def _points_of(feature: Any) -> Iterator[tuple[float, float]]:
    geometry = feature.get("geometry", feature) if isinstance(feature, dict) else None
    if not isinstance(geometry, dict):
        return
    coordinates = geometry.get("coordinates")
    many = {"Point": [coordinates], "MultiPoint": coordinates}.get(str(geometry.get("type")))
    for point in many if isinstance(many, list) else ():
        if (
            isinstance(point, list)
            and len(point) >= 2
            and all(isinstance(value, int | float) and math.isfinite(value) for value in point[:2])
        ):
            yield float(point[0]), float(point[1])
