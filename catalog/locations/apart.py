"""Which windows overlap or lie too close, on the ellipsoid and in whatever zones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from catalog.windows import Windows, from_degrees

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]
    Rows = NDArray[np.int64]

SLACK_M = 0.5
"""Windows that share an edge do not overlap, whatever rounding a projection adds."""
STRETCH = 1.002
"""True lengths exceed UTM ones by up to 0.04 %; chords are shorter than the ground between their ends."""
QUERY = 50_000
"""Windows whose neighbours are looked up at a time."""


@dataclass(frozen=True)
class Table:
    """Windows of one size in any zones, in order of precedence."""

    epsg: NDArray[np.int64]
    west: Numbers
    north: Numbers
    longitude: Numbers
    """Of the centre, degrees."""
    latitude: Numbers
    size_m: float

    def __len__(self) -> int:
        return len(self.epsg)

    def take(self, rows: Any) -> Table:
        return Table(
            self.epsg[rows],
            self.west[rows],
            self.north[rows],
            self.longitude[rows],
            self.latitude[rows],
            self.size_m,
        )

    def by_zone(self) -> Iterator[tuple[Rows, Windows]]:
        """The rows of each zone, ascending, and their windows."""
        import numpy as np

        for code in np.unique(self.epsg).tolist():
            rows = np.flatnonzero(self.epsg == code)
            yield rows, Windows(code, self.west[rows], self.north[rows], self.size_m)


def joined(tables: Sequence[Table]) -> Table:
    """Tables one below the other."""
    import numpy as np

    return Table(
        np.concatenate([table.epsg for table in tables]),
        np.concatenate([table.west for table in tables]),
        np.concatenate([table.north for table in tables]),
        np.concatenate([table.longitude for table in tables]),
        np.concatenate([table.latitude for table in tables]),
        tables[0].size_m,
    )


def as_table(parts: Sequence[Windows]) -> Table:
    """Windows of several zones as one table."""
    import numpy as np

    centres = [windows.centres_degrees() for windows in parts]
    return Table(
        np.concatenate([np.full(len(windows), windows.epsg, np.int64) for windows in parts]),
        np.concatenate([windows.west for windows in parts]),
        np.concatenate([windows.north for windows in parts]),
        np.concatenate([longitude for longitude, _ in centres]),
        np.concatenate([latitude for _, latitude in centres]),
        parts[0].size_m,
    )


def reach_m(size_m: float, min_distance_m: float | None) -> float:
    """Farther apart than this, no two centres are too close."""
    return max(size_m * 2**0.5 * STRETCH, min_distance_m or 0.0) + SLACK_M


def too_close(table: Table, min_distance_m: float | None, since: int = 0) -> Iterator[tuple[Rows, Rows]]:
    """Pairs (later row, earlier row) that overlap or whose centres are nearer than ``min_distance_m``.

    Only pairs whose later row is at least ``since``; ordered by that row, in parts.
    """
    import numpy as np
    from scipy.spatial import cKDTree

    points = _geocentric(table.longitude, table.latitude)
    every = cKDTree(points)
    reach = reach_m(table.size_m, min_distance_m)
    for start in range(since, len(table), QUERY):
        some = cKDTree(points[start : start + QUERY])
        near = some.sparse_distance_matrix(every, reach, output_type="ndarray")
        later, earlier = near["i"].astype(np.int64) + start, near["j"].astype(np.int64)
        mine = earlier < later
        later, earlier = later[mine], earlier[mine]
        hit = _overlap(table, later, earlier) | _nearer(table, later, earlier, min_distance_m)
        order = np.lexsort((earlier[hit], later[hit]))
        yield later[hit][order], earlier[hit][order]


def first_come(table: Table, min_distance_m: float | None) -> NDArray[np.bool_]:
    """Which windows are kept if each goes that is too close to an earlier one *that is kept*."""
    import numpy as np

    kept = np.ones(len(table), np.bool_)
    for later, earlier in too_close(table, min_distance_m):
        for one, other in zip(later.tolist(), earlier.tolist(), strict=True):
            if kept[other]:
                kept[one] = False
    return kept


def unrivalled(table: Table, min_distance_m: float | None, since: int) -> NDArray[np.bool_]:
    """Which windows from ``since`` on are too close to no earlier one, kept or not.

    Whether a place is kept then depends on what lies near it and on nothing else (a hard-core process of
    Matérn's second kind, 1960): a larger area or more draws change it nowhere.
    """
    import numpy as np

    kept = np.ones(len(table), np.bool_)
    for later, _ in too_close(table, min_distance_m, since):
        kept[later] = False
    return kept[since:]


def _overlap(table: Table, one: Rows, other: Rows) -> NDArray[np.bool_]:
    import numpy as np

    side = table.size_m - SLACK_M
    same = table.epsg[one] == table.epsg[other]
    hit = (
        same
        & (np.abs(table.west[one] - table.west[other]) < side)
        & (np.abs(table.north[one] - table.north[other]) < side)
    )
    across = np.flatnonzero(~same)
    if len(across):
        hit[across] = _overlap_across(table, one[across], other[across])
    return np.asarray(hit, np.bool_)


def _overlap_across(table: Table, one: Rows, other: Rows) -> NDArray[np.bool_]:
    """Overlap of windows of different zones, on the first one's plane."""
    import numpy as np
    import shapely

    hit = np.zeros(len(one), np.bool_)
    corners = np.empty((len(other), 4, 2))
    for rows, windows in table.take(other).by_zone():
        corners[rows] = np.stack(windows.corners_degrees(-SLACK_M / 2), axis=2)
    for rows, windows in table.take(one).by_zone():
        mine = shapely.polygons(np.stack(windows.corners(-SLACK_M / 2), axis=2))
        x, y = from_degrees(windows.epsg, corners[rows, :, 0], corners[rows, :, 1])
        hit[rows] = shapely.intersects(mine, shapely.polygons(np.stack([x, y], axis=2)))
    return np.asarray(hit, np.bool_)


def _nearer(table: Table, one: Rows, other: Rows, min_distance_m: float | None) -> NDArray[np.bool_]:
    import numpy as np
    from pyproj import Geod

    if min_distance_m is None or len(one) == 0:
        return np.zeros(len(one), np.bool_)
    _, _, distance = Geod(ellps="WGS84").inv(
        table.longitude[one], table.latitude[one], table.longitude[other], table.latitude[other]
    )
    return np.asarray(np.asarray(distance) < min_distance_m, np.bool_)


def _geocentric(longitude: Numbers, latitude: Numbers) -> Numbers:
    """x, y, z ``(place, 3)`` on the WGS 84 ellipsoid, metres."""
    import numpy as np

    a, e2 = 6_378_137.0, 0.0066943799901413165
    sin = np.sin(np.radians(latitude))
    normal = a / np.sqrt(1 - e2 * sin**2)
    across = normal * np.cos(np.radians(latitude))
    return np.stack(
        [
            across * np.cos(np.radians(longitude)),
            across * np.sin(np.radians(longitude)),
            normal * (1 - e2) * sin,
        ],
        axis=1,
    )
