"""Which places a scene shows: an index over the places of a cube, asked scene by scene."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from catalog.samples import Location
from catalog.scenes import Scene
from tasks.readers.plan import FOOTPRINT_MARGIN_DEG, scene_footprint

Rows = NDArray[np.int64]


class PlaceIndex:
    """Places with an index over their outlines; made once for many scenes."""

    def __init__(self, locations: Sequence[Location]) -> None:
        import shapely

        self.locations = list(locations)
        self.row_of = {location.id: row for row, location in enumerate(self.locations)}
        outlines, self._owner = _outlines(self.locations)
        self._tree = shapely.STRtree(outlines)

    def __len__(self) -> int:
        return len(self.locations)

    def touched(self, scene: Scene) -> Rows:
        """Rows of the places whose sample may hold pixels of the scene, ascending."""
        footprint = scene_footprint(scene).buffer(FOOTPRINT_MARGIN_DEG)
        return np.unique(self._owner[self._tree.query(footprint, predicate="intersects")])

    def at(self, rows: Rows) -> list[Location]:
        """The places of some rows."""
        return [self.locations[row] for row in rows.tolist()]


def _outlines(locations: Sequence[Location]) -> tuple[NDArray[np.object_], Rows]:
    """Outlines in degrees, and the row of the place each belongs to; two where the antimeridian cuts one."""
    import shapely

    from catalog.locations import location_wgs84_polygon
    from catalog.windows import to_degrees

    polygons: list[NDArray[np.object_]] = [np.empty(0, object)]
    owners: list[Rows] = [np.empty(0, np.int64)]
    epsg = np.asarray([location.epsg for location in locations], np.int64)
    for code in np.unique(epsg).tolist():
        rows = np.flatnonzero(epsg == code)
        x, y, half = np.asarray(
            [(locations[row].x, locations[row].y, locations[row].size_m / 2) for row in rows.tolist()]
        ).T
        longitude, latitude = to_degrees(
            code,
            np.stack([x - half, x + half, x + half, x - half], axis=1),
            np.stack([y - half, y - half, y + half, y + half], axis=1),
        )
        cut = np.ptp(longitude, axis=1) > 180
        polygons.append(shapely.polygons(np.stack([longitude[~cut], latitude[~cut]], axis=2)))
        owners.append(rows[~cut])
        for row in rows[cut].tolist():
            parts = shapely.geometry.shape(location_wgs84_polygon(locations[row])).geoms
            polygons.append(np.asarray(list(parts), object))
            owners.append(np.full(len(parts), row, np.int64))
    return np.concatenate(polygons), np.concatenate(owners)
