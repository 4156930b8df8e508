"""Label sets: classes on the ground, with class table, licence and lineage, read on the grid of a sample."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from catalog.errors import UsageError
from catalog.grids import Grid
from catalog.settings import load_settings
from catalog.windows import transformer

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

IGNORE = -1
"""Where nothing is known, in every label array."""


class LabelSet(BaseModel):
    """One label set file.

    ``raster``: class values in one or more rasters, in any CRS. ``points`` and ``polygons``: GeoJSON whose
    property ``field`` holds a class value or name. ``tags``: a CSV or JSON file that gives classes to named
    scenes, tiles or locations as a whole.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    kind: Literal["raster", "points", "polygons", "tags"]
    path: str | None = Field(None, description="one file, or a pattern like `labels/*.tif`")
    paths: tuple[str, ...] = ()
    href: str | None = Field(None, description="http(s) or s3 address of one raster")
    classes: dict[int, str] = Field(min_length=1, description="value → name; other values are ignored")
    ignore: tuple[int, ...] = ()
    field: str = Field("class", description="property (GeoJSON) or column (CSV) that holds the class")
    key: str = Field("id", description="column of the tagged thing's name, for `tags` in CSV")
    epsg: int | None = Field(None, description="CRS of rasters or GeoJSON that state none")
    licence: str
    attribution: str = ""
    lineage: str = ""
    caveat: str = ""
    folder: Path = Field(Path(), description="where relative paths start; set when the file is read")

    @model_validator(mode="after")
    def _says_where_it_lies(self) -> LabelSet:
        if not (self.path or self.paths or self.href):
            raise ValueError("a label set names `path`, `paths` or `href`")
        if self.href is not None and urlsplit(self.href).scheme not in ("http", "https", "s3"):
            raise ValueError("href is http, https or s3")
        if any(value < 0 for value in self.classes):
            raise ValueError("class values are not negative")
        return self

    @property
    def known(self) -> tuple[int, ...]:
        """Class values that count, ascending."""
        return tuple(sorted(set(self.classes) - set(self.ignore)))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what the labels are: the description and the bytes of local files, wherever they lie."""
        digest = hashlib.sha256(self.model_dump_json(exclude={"folder"}).encode())
        for file in self.files():
            if Path(file).is_file():
                digest.update(Path(file).read_bytes())
        return digest.hexdigest()

    def files(self) -> tuple[str, ...]:
        """Files and addresses, patterns resolved.

        Raises
        ------
        UsageError: ``labels-not-found``.
        """
        found = [self.href] if self.href else []
        for pattern in (*([self.path] if self.path else []), *self.paths):
            fitting = _fitting(self.folder, pattern)
            if not fitting:
                raise UsageError(
                    "labels-not-found",
                    f"{pattern} fits no file in {self.folder}",
                    subject=self.name,
                    next_step="correct the label set file, or fetch what it names",
                )
            found += [str(path) for path in fitting]
        return tuple(dict.fromkeys(found))


def read_label_set(name_or_path: str | Path, base: Path | None = None) -> LabelSet:
    """A label set by the path of its file, or by name.

    A name is looked for as ``<name>.yaml`` in ``base``, ``base/labels`` and ``SWATH_HOME/labels``. Paths in
    the file start from the file's own folder, or else from ``base``.

    Raises
    ------
    UsageError: ``unknown-label-set``, ``invalid-label-set``.
    """
    base = Path.cwd() if base is None else base
    folders = (base, base / "labels", load_settings().home / "labels")
    named = Path(name_or_path)
    tried = [named, base / named, *(folder / f"{name_or_path}.yaml" for folder in folders)]
    path = next((one for one in tried if one.suffix in (".yaml", ".yml") and one.is_file()), None)
    if path is None:
        known = sorted({one.stem for folder in folders[1:] for one in folder.glob("*.yaml")})
        raise UsageError(
            "unknown-label-set",
            f"there is no label set {str(name_or_path)!r}; known here: {', '.join(known) or 'none'}",
            subject=str(name_or_path),
            next_step="name one of those, or give the path of a label set file",
        )
    try:
        read = LabelSet.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (ValidationError, yaml.YAMLError) as error:
        raise UsageError(
            "invalid-label-set",
            str(error).replace("\n", " "),
            subject=path.name,
            next_step="correct the file; the schema is catalog/labels.py",
        ) from error
    patterns = (*([read.path] if read.path else []), *read.paths)
    beside = path.resolve().parent
    at_home = all(_fitting(beside, pattern) for pattern in patterns)
    return read.model_copy(update={"folder": beside if at_home else base.resolve()})


def label_window(label_set: LabelSet, grid: Grid) -> NDArray[np.int32]:
    """Class values on a grid ``(y, x)``, -1 where nothing is known; never a mixture of two classes.

    A raster pixel counts where its area holds the grid pixel's centre (nearest); a point fills the pixel it
    lies in; a polygon the pixels whose centres it holds. Where several files tell, the first does.

    Raises
    ------
    UsageError: ``labels-have-no-place`` for ``tags``; ``unreadable-labels``.
    """
    if label_set.kind == "tags":
        raise UsageError(
            "labels-have-no-place",
            "tags belong to whole samples; read them with tag_classes",
            subject=label_set.name,
            next_step="use an evaluation of patches by tag",
        )
    window = np.full(grid.shape, IGNORE, np.int32)
    for file in label_set.files():
        part = (
            _raster_window(label_set, file, grid)
            if label_set.kind == "raster"
            else _vector_window(label_set, file, grid)
        )
        if part is not None:
            window = np.where((window == IGNORE) & np.isin(part, label_set.known), part, window)
        if (window != IGNORE).all():
            break
    return window


def patch_label(window: NDArray[Any], min_share: float = 0.0) -> int:
    """The class of most known pixels; -1 where none is known, or where its share is below ``min_share``.

    Of equally frequent classes, the lower value.
    """
    known = window[window != IGNORE]
    if known.size == 0:
        return IGNORE
    values, counts = np.unique(known, return_counts=True)
    most = int(np.argmax(counts))
    return int(values[most]) if counts[most] >= min_share * known.size else IGNORE


def tag_classes(label_set: LabelSet) -> dict[str, tuple[int, ...]]:
    """Name of a scene, tile or location → its classes, of a label set of ``tags``.

    JSON is one object of name → class or list of classes; CSV has the columns ``key`` and ``field``, one
    class a row, several rows for several classes. Classes are values or names.
    """
    found: dict[str, set[int]] = {}
    for file in label_set.files():
        for name, stated in _tags(label_set, Path(file)):
            value = _class_value(label_set, stated)
            if value is not None:
                found.setdefault(name, set()).add(value)
    return {name: tuple(sorted(values)) for name, values in found.items()}


def _fitting(folder: Path, pattern: str) -> list[Path]:
    direct = folder / pattern
    if direct.is_file():
        return [direct]
    if Path(pattern).is_absolute() or not any(sign in pattern for sign in "*?["):
        return []
    return sorted(path for path in folder.glob(pattern) if path.is_file())


def _raster_window(label_set: LabelSet, file: str, grid: Grid) -> NDArray[np.int32] | None:
    import rasterio
    from rasterio.errors import RasterioError
    from rasterio.windows import Window

    path = Path(file)
    changed = path.stat().st_mtime_ns if path.is_file() else 0
    try:
        if not _reaches(_extent(file, changed, label_set.epsg), grid):
            return None
        with rasterio.open(file) as opened:
            # Which raster pixel holds each grid pixel's centre, each by its own coordinates.
            x, y = _centres(grid, _crs(opened, label_set.epsg))
            to_pixel = ~opened.transform
            columns = np.floor(to_pixel.a * x + to_pixel.b * y + to_pixel.c + 1e-9)
            rows = np.floor(to_pixel.d * x + to_pixel.e * y + to_pixel.f + 1e-9)
            inside = (columns >= 0) & (columns < opened.width) & (rows >= 0) & (rows < opened.height)
            if not inside.any():
                return None
            columns, rows = columns[inside].astype(np.int64), rows[inside].astype(np.int64)
            left, top = int(columns.min()), int(rows.min())
            part = Window(left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1)
            read = opened.read(1, window=part)[rows - top, columns - left]
            seen = opened.read_masks(1, window=part)[rows - top, columns - left] != 0
    except RasterioError as error:
        raise _unreadable(label_set, file, error) from error
    if read.dtype.kind == "f":
        seen &= np.isfinite(read) & (read == np.round(read))
    window = np.full(grid.shape, IGNORE, np.int32)
    window[inside] = np.where(seen, np.where(seen, read, 0).astype(np.int64), IGNORE)
    return window


def _centres(grid: Grid, crs: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates of a grid's pixel centres ``(y, x)`` in another CRS."""
    a, b, c, d, e, f = grid.affine
    column, row = np.meshgrid(np.arange(grid.shape[1]) + 0.5, np.arange(grid.shape[0]) + 0.5)
    x, y = a * column + b * row + c, d * column + e * row + f
    if crs == f"EPSG:{grid.epsg}":
        return x, y
    moved_x, moved_y = transformer(grid.epsg, crs).transform(x, y)
    return moved_x, moved_y


def _crs(opened: DatasetReader, epsg: int | None) -> str:
    if opened.crs is not None:
        code = opened.crs.to_epsg()
        return f"EPSG:{code}" if code is not None else str(opened.crs.to_wkt())
    if epsg is not None:
        return f"EPSG:{epsg}"
    raise UsageError(
        "unreadable-labels",
        "the raster states no CRS",
        subject=Path(opened.name).name,
        next_step="give the label set an `epsg`",
    )


@lru_cache(maxsize=1024)
def _extent(file: str, changed: int, epsg: int | None) -> tuple[float, float, float, float]:
    """Bounds in degrees: most rasters of a large set are far from a window and need not be opened for it."""
    import rasterio
    from rasterio.warp import transform_bounds

    with rasterio.open(file) as opened:
        bounds: tuple[float, float, float, float] = transform_bounds(
            _crs(opened, epsg), "EPSG:4326", *opened.bounds, densify_pts=21
        )
    return bounds


def _reaches(extent: tuple[float, float, float, float], grid: Grid) -> bool:
    from rasterio.warp import transform_bounds

    left, bottom, right, top = extent
    west, south, east, north = transform_bounds(f"EPSG:{grid.epsg}", "EPSG:4326", *grid.bounds, densify_pts=5)
    if left > right or west > east:  # across the antimeridian: no telling by degrees
        return True
    return bool(west <= right and east >= left and south <= top and north >= bottom)


def _vector_window(label_set: LabelSet, file: str, grid: Grid) -> NDArray[np.int32] | None:
    import shapely
    from rasterio.features import rasterize
    from rasterio.transform import Affine

    shapes, values, tree = _shapes(label_set, file)
    own = label_set.epsg or 4326
    to_own, to_grid = transformer(grid.epsg, own), transformer(own, grid.epsg)
    reached = shapely.box(*to_own.transform_bounds(*grid.bounds, densify_pts=5))
    rows = sorted(tree.query(reached, predicate="intersects").tolist())
    if not rows:
        return None
    moved = shapely.transform(shapes[rows], lambda x, y: to_grid.transform(x, y), interleaved=False)
    # Later shapes overwrite earlier ones in GDAL; the first of the file is to stand.
    pairs = [(shape, values[row]) for row, shape in zip(rows, moved, strict=True)][::-1]
    window: NDArray[np.int32] = rasterize(
        pairs, out_shape=grid.shape, fill=IGNORE, transform=Affine(*grid.affine), dtype="int32"
    )
    return window


@lru_cache(maxsize=4)
def _read_shapes(file: str, changed: int, field: str) -> tuple[Any, list[Any], Any]:
    import shapely

    document = json.loads(Path(file).read_text(encoding="utf-8"))
    features = [f for f in document["features"] if f.get("geometry")]
    shapes = np.asarray([shapely.geometry.shape(f["geometry"]) for f in features], dtype=object)
    stated = [(f.get("properties") or {}).get(field) for f in features]
    return shapes, stated, shapely.STRtree(shapes)


def _shapes(label_set: LabelSet, file: str) -> tuple[Any, list[int], Any]:
    try:
        shapes, stated, tree = _read_shapes(file, Path(file).stat().st_mtime_ns, label_set.field)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(label_set, file, error) from error
    values = [_class_value(label_set, value) for value in stated]
    return shapes, [IGNORE if value is None else value for value in values], tree


def _class_value(label_set: LabelSet, stated: Any) -> int | None:
    """A class by value or by name; None for what the class table does not hold."""
    if isinstance(stated, str):
        by_name = {name: value for value, name in label_set.classes.items()}
        if stated.strip() in by_name:
            value: Any = by_name[stated.strip()]
        else:
            try:
                value = float(stated)
            except ValueError:
                return None
    else:
        value = stated
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return int(value) if value == int(value) and int(value) in label_set.known else None


def _tags(label_set: LabelSet, path: Path) -> Iterator[tuple[str, Any]]:
    try:
        if path.suffix == ".json":
            document = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(document, Mapping):
                raise ValueError("not one object of name → classes")
            for name, stated in document.items():
                for one in stated if isinstance(stated, list) else [stated]:
                    yield str(name), one
        else:
            with path.open(encoding="utf-8", newline="") as lines:
                for row in csv.DictReader(lines):
                    yield row[label_set.key], row[label_set.field]
    except (OSError, ValueError, KeyError) as error:
        raise _unreadable(label_set, str(path), error) from error


def _unreadable(label_set: LabelSet, file: str, error: Exception) -> UsageError:
    return UsageError(
        "unreadable-labels",
        f"{Path(file).name}: {error}",
        subject=label_set.name,
        next_step="repair the file, or correct the label set",
    )
