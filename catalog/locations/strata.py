"""Class rasters that places are drawn by: the class at a place, whatever CRS the raster is in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog.errors import UsageError
from catalog.recipes import Area, LocationRequest
from catalog.windows import transformer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_PIXELS = 1_000_000_000
"""A raster is held in memory whole."""
NO_CLASS = -(2**31)


@dataclass(frozen=True)
class ClassRaster:
    """A raster of classes in memory."""

    path: Path
    crs: str
    to_pixel: tuple[float, float, float, float, float, float]
    """Affine from CRS coordinates to (column, row)."""
    classes: NDArray[Any]
    known: NDArray[np.bool_] | None
    """Where the raster holds a class; everywhere if None."""
    bbox: tuple[float, float, float, float]
    """Degrees; west > east across the antimeridian."""

    def at(self, longitude: NDArray[np.float64], latitude: NDArray[np.float64]) -> NDArray[np.int64]:
        """The class at each place; ``NO_CLASS`` outside and where there is none."""
        import numpy as np

        x, y = transformer("EPSG:4326", self.crs).transform(longitude, latitude)
        a, b, c, d, e, f = self.to_pixel
        with np.errstate(invalid="ignore"):
            column, row = np.floor(a * x + b * y + c), np.floor(d * x + e * y + f)
        height, width = self.classes.shape
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        found = np.full(len(longitude), NO_CLASS, np.int64)
        j, i = row[inside].astype(np.int64), column[inside].astype(np.int64)
        values = self.classes[j, i].astype(np.int64)
        found[inside] = values if self.known is None else np.where(self.known[j, i], values, NO_CLASS)
        return found

    def present(self) -> list[int]:
        """The classes that occur."""
        import numpy as np

        values = self.classes if self.known is None else self.classes[self.known]
        return [int(value) for value in np.unique(values)]

    def area(self) -> Area:
        return Area(bbox=self.bbox)


def read_class_raster(path: Path) -> ClassRaster:
    """Read the first band of a raster of integers.

    Raises
    ------
    UsageError: ``unreadable-class-raster``.
    """
    import numpy as np
    import rasterio
    from rasterio.errors import RasterioError
    from rasterio.warp import transform_bounds

    def refused(why: str) -> UsageError:
        return UsageError(
            "unreadable-class-raster",
            why,
            subject="locations.class_raster",
            next_step="give a GeoTIFF with a coordinate system and integer classes in its first band",
        )

    if not path.is_file():
        raise refused(f"there is no file {path}")
    try:
        with rasterio.open(path) as opened:
            if opened.crs is None:
                raise refused(f"{path.name} states no coordinate system")
            if np.dtype(opened.dtypes[0]).kind not in "iu":
                raise refused(f"{path.name} holds {opened.dtypes[0]}, not integer classes")
            if opened.width * opened.height > MAX_PIXELS:
                raise refused(
                    f"{path.name} has {opened.width} × {opened.height} pixels, more than {MAX_PIXELS:,}: "
                    "make it coarser"
                )
            classes = opened.read(1)
            mask = opened.read_masks(1) != 0
            west, south, east, north = transform_bounds(
                opened.crs, "EPSG:4326", *opened.bounds, densify_pts=101
            )
            code = opened.crs.to_epsg()
            crs = f"EPSG:{code}" if code is not None else str(opened.crs.to_wkt())
            inverse = ~opened.transform
    except RasterioError as error:
        raise refused(f"cannot read {path.name}: {' '.join(str(error).split())}") from error
    bbox = max(-180.0, west), max(-90.0, south), min(180.0, east), min(90.0, north)
    known = None if mask.all() else mask
    return ClassRaster(path, crs, tuple(inverse)[:6], classes, known, bbox)


def class_quotas(request: LocationRequest, raster: ClassRaster) -> dict[int, int]:
    """How many places each class gets.

    Raises
    ------
    UsageError: ``no-such-class``, for a class that the raster does not hold.
    """
    present = raster.present()
    missing = sorted(set(request.class_counts) - set(present))
    if missing or not present:
        raise UsageError(
            "no-such-class",
            f"{raster.path.name} holds no class {', '.join(map(str, missing[:8]))}"
            if missing
            else f"{raster.path.name} holds no class at all",
            subject="locations.class_counts",
            next_step=f"choose of {', '.join(map(str, present[:20]))}" if present else "give another raster",
        )
    if request.class_counts:
        return dict(request.class_counts)
    share, rest = divmod(request.max_count or 0, len(present))
    # The first classes get the remainder, so that a larger max_count takes nothing from any of them.
    return {value: share + (place < rest) for place, value in enumerate(present)}
