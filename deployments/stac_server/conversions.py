"""Named conversions of files that cannot be served as they are into GeoTIFFs that can.

A conversion takes one source file and yields files; each carries the named groups it adds (``band``,
``time``), from which the rule's templates make scenes. Values are kept: a cast that would change one is
refused.
"""

from __future__ import annotations

import re
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from catalog.errors import UsageError


@dataclass(frozen=True)
class Converted:
    """One file that a conversion made."""

    path: Path
    groups: dict[str, str] = field(default_factory=dict)
    lineage: str = ""


Conversion = Callable[[Path, dict[str, Any], Path], Iterator[Converted]]
"""(source file, options, folder to write to) → files."""

CONVERSIONS: dict[str, Conversion] = {}


def conversion(name: str) -> Callable[[Conversion], Conversion]:
    """Register a conversion under the name that ``archive.yaml`` uses."""

    def register(function: Conversion) -> Conversion:
        CONVERSIONS[name] = function
        return function

    return register


def find_conversion(name: str) -> Conversion:
    """A conversion by name.

    Raises
    ------
    UsageError: ``unknown-conversion``, naming those that exist.
    """
    if name not in CONVERSIONS:
        raise UsageError(
            "unknown-conversion",
            f"there is no conversion {name!r}; known: {', '.join(sorted(CONVERSIONS))}",
            subject=name,
            next_step="correct `convert` in archive.yaml",
        )
    return CONVERSIONS[name]


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SeriesOptions(_Options):
    """Of ``netcdf-series``."""

    variables: list[str]
    optional: bool = False
    """Leave out variables that a file does not have."""
    time: str = "timestamp"
    dtype: str | None = None
    """Type to store, where it holds every value exactly."""
    signed: bool = False
    """Read unsigned integers as the signed ones whose bits they are (negative reflectance that wrapped)."""
    nodata: float | None = None
    masks: list[str] = []
    """Quality variables: written without the bands' nodata."""


@conversion("netcdf-series")
def netcdf_series(source: Path, options: dict[str, Any], folder: Path) -> Iterator[Converted]:
    """Variables ``(time, y, x)`` of a NetCDF-4 file with ``x`` and ``y`` → a GeoTIFF per variable and time.

    Read through GDAL's HDF5 driver, which gives rows in file order. (Its netCDF driver turns such rasters
    upside down where it does not understand their grid mapping, as in the WorldCereal files.) Adds the groups
    ``band`` and ``time`` (``20170804T105328``; for series dated by day, ``…T000000``).
    """
    wanted = _options(SeriesOptions, options)
    grid = _series_grid(source)
    times = _series_times(source, wanted.time)
    target = folder / source.parent.name / source.stem
    target.mkdir(parents=True, exist_ok=True)
    lineage = f"bands and dates of {source.name} (NetCDF) as GeoTIFFs, values unchanged"
    if wanted.signed:
        lineage += ", unsigned 16-bit read as the signed numbers they wrap"
    for variable in _present(source, wanted):
        cube = _hdf5(source, variable)
        if len(cube) != len(times):
            raise _unusable(source, f"{variable} has {len(cube)} layers for {len(times)} times")
        if wanted.signed:
            cube = cube.view(np.dtype(f"i{cube.dtype.itemsize}"))
        if wanted.dtype:
            cube = exact_cast(cube, wanted.dtype, source, wanted.nodata)
        for when, layer in zip(times, cube, strict=True):
            stamp = when.strftime("%Y%m%dT%H%M%S")
            path = target / f"{stamp}_{variable}.tif"
            if not path.exists():
                nodata = None if variable in wanted.masks else wanted.nodata
                write_geotiff(path, layer[np.newaxis], nodata=nodata, **grid)
            yield Converted(path, {"band": variable, "time": stamp}, lineage)


class CastOptions(_Options):
    """Of ``float-tiles-to-int16``."""

    nodata: float = -32768
    ascending: bool = False
    """Sort bands by the wavelength in their tags."""


@conversion("float-tiles-to-int16")
def float_tiles_to_int16(source: Path, options: dict[str, Any], folder: Path) -> Iterator[Converted]:
    """A float GeoTIFF of whole numbers → int16, as the product was before somebody's tool made it float.

    EnMAP-Box writes the VNIR detector's bands before the SWIR one's, the product has them by wavelength:
    ``ascending`` puts them back. Band tags (wavelength, fwhm) go along.
    """
    import rasterio

    wanted = _options(CastOptions, options)
    path = folder / source.parent.name / f"{source.stem}.tif"
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(source) as opened:
        values = exact_cast(opened.read(), "int16", source, wanted.nodata)
        tags = [dict(opened.tags(index)) for index in opened.indexes]
        grid = {"crs": opened.crs, "transform": opened.transform}
    if wanted.ascending:
        if not all("wavelength" in tag for tag in tags):
            raise _unusable(source, "its bands have no `wavelength` tags to sort them by")
        order = sorted(range(len(tags)), key=lambda index: float(tags[index]["wavelength"]))
        values, tags = values[order], [tags[index] for index in order]
    write_geotiff(path, values, nodata=wanted.nodata, tags=tags, **grid)
    told = ", bands in ascending order of wavelength" if wanted.ascending else ""
    yield Converted(path, {}, f"{source.name} from float32 to int16, values unchanged{told}")


@conversion("jp2-to-geotiff")
def jp2_to_geotiff(source: Path, options: dict[str, Any], folder: Path) -> Iterator[Converted]:
    """A JPEG 2000 band of a SAFE product → a tiled GeoTIFF, decoded once instead of at every window."""
    import rasterio

    _options(_Options, options)
    path = folder / source.parent.name / f"{source.stem}.tif"
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(source) as opened:
        write_geotiff(
            path, opened.read(), crs=opened.crs, transform=opened.transform, nodata=opened.nodata, tiled=True
        )
    yield Converted(path, {}, f"{source.name} decoded from JPEG 2000, values unchanged")


LARGEST_GROWTH = 1000
"""How many times larger than packed a member may be; DEFLATE reaches 1032, on nothing but zeros."""


class ZipOptions(_Options):
    """Of ``unpack-zip``."""

    members: str
    """Regular expression over member names; its named groups are added."""


@conversion("unpack-zip")
def unpack_zip(source: Path, options: dict[str, Any], folder: Path) -> Iterator[Converted]:
    """GeoTIFFs inside a zip file → the same files, byte for byte.

    Members lie side by side in one folder, wherever their names lead; one that would take another's place, or
    that grows a thousandfold (a zip bomb), is refused.
    """
    pattern = re.compile(_options(ZipOptions, options).members)
    target = folder / source.stem
    target.mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()
    with zipfile.ZipFile(source) as packed:
        for member in sorted(packed.infolist(), key=lambda member: member.filename):
            name = member.filename
            match = pattern.fullmatch(name)
            if match is None or member.is_dir():
                continue
            plain = PurePosixPath(name.replace("\\", "/")).name
            if plain in ("", ".", "..") or plain in taken:
                raise _unusable(source, f"its member {name!r} has no file name of its own")
            if member.file_size > LARGEST_GROWTH * max(member.compress_size, 2**20):
                raise _unusable(source, f"its member {name!r} grows to {member.file_size} bytes")
            taken.add(plain)
            path = target / plain
            with packed.open(member) as packed_file, path.open("wb") as sink:
                shutil.copyfileobj(packed_file, sink, 2**20)
            groups = {key: value for key, value in match.groupdict().items() if value is not None}
            yield Converted(path, groups, f"{name} out of {source.name}, bytes unchanged")


def exact_cast(values: NDArray[Any], dtype: str, source: Path, nodata: float | None = None) -> NDArray[Any]:
    """Cast, or refuse: no value may change but NaN, which becomes ``nodata``."""
    if np.issubdtype(values.dtype, np.floating) and nodata is not None:
        values = np.where(np.isnan(values), nodata, values)
    with np.errstate(invalid="ignore"):
        cast = values.astype(dtype)
    if not np.array_equal(cast.astype(np.float64), values.astype(np.float64)):
        raise _unusable(source, f"its values do not fit {dtype} exactly")
    return cast


def write_geotiff(
    path: Path,
    values: NDArray[Any],
    *,
    crs: Any,
    transform: Any,
    nodata: float | None,
    tiled: bool = False,
    tags: list[dict[str, str]] | None = None,
) -> None:
    """Write ``(band, y, x)``, DEFLATE, under a temporary name first: a file that is there is whole."""
    import rasterio

    count, height, width = values.shape
    layout: dict[str, Any] = {"tiled": True, "blockxsize": 256, "blockysize": 256} if tiled else {}
    partial = path.with_name(f".{path.name}.partial")
    with rasterio.open(
        partial,
        "w",
        driver="GTiff",
        dtype=values.dtype.name,
        count=count,
        height=height,
        width=width,
        crs=crs,
        transform=transform,
        nodata=nodata,
        compress="deflate",
        **layout,
    ) as opened:
        opened.write(values)
        for band, tag in enumerate(tags or (), start=1):
            opened.update_tags(band, **tag)
    partial.replace(path)


def read_netcdf_layer(source: Path, variable: str) -> tuple[NDArray[Any], dict[str, Any]]:
    """One variable ``(y, x)`` without a time, and its ``crs`` and ``transform``."""
    return _hdf5(source, variable)[0], _series_grid(source)


def _present(source: Path, wanted: SeriesOptions) -> list[str]:
    import rasterio

    if not wanted.optional:
        return wanted.variables
    with _quiet_about_georeferencing(), rasterio.open(source) as opened:
        names = {name.rpartition(":")[2] for name in opened.subdatasets}
    return [variable for variable in wanted.variables if variable in names]


def _hdf5(source: Path, variable: str) -> NDArray[Any]:
    """An HDF5 dataset as ``(layer, y, x)``."""
    import rasterio

    try:
        with _quiet_about_georeferencing(), rasterio.open(f'HDF5:"{source}"://{variable}') as opened:
            values: NDArray[Any] = opened.read()
            return values
    except rasterio.errors.RasterioIOError as error:
        raise _unusable(source, f"variable {variable} cannot be read: {error}") from error


def _series_grid(source: Path) -> dict[str, Any]:
    """CRS and affine from the global attribute ``epsg`` and the pixel centres in ``x`` and ``y``."""
    import rasterio

    with _quiet_about_georeferencing(), rasterio.open(source) as opened:
        tags = opened.tags()
    epsg = tags.get("NC_GLOBAL#epsg") or tags.get("epsg")
    if epsg is None:
        raise _unusable(source, "no global attribute `epsg`")
    x, y = _hdf5(source, "x").ravel(), _hdf5(source, "y").ravel()
    step_x, step_y = float(x[1] - x[0]), float(y[1] - y[0])
    if step_y >= 0 or not (np.allclose(np.diff(x), step_x) and np.allclose(np.diff(y), step_y)):
        raise _unusable(source, "its x and y are no north-up grid with even steps")
    return {
        "crs": f"EPSG:{int(epsg)}",
        "transform": rasterio.Affine(
            step_x, 0, float(x[0]) - step_x / 2, 0, step_y, float(y[0]) - step_y / 2
        ),
    }


def _series_times(source: Path, name: str) -> list[datetime]:
    """Times of a series: numbers with CF units, or texts."""
    import rasterio

    with _quiet_about_georeferencing(), rasterio.open(source) as opened:
        first = opened.subdatasets[0]
    with _quiet_about_georeferencing(), rasterio.open(first) as opened:
        tags = opened.tags()
    values = tags.get(f"NETCDF_DIM_{name}_VALUES", "").strip("{}").split(",")
    units = tags.get(f"{name}#units")
    try:
        if units is None:
            return [datetime.fromisoformat(value).replace(tzinfo=UTC) for value in values]
        unit, _, origin = units.partition(" since ")
        start = datetime.fromisoformat(origin).replace(tzinfo=UTC)
        return [start + timedelta(**{unit: float(value)}) for value in values]
    except (ValueError, TypeError) as error:
        raise _unusable(source, f"dimension {name} holds no times that are understood: {error}") from error


@contextmanager
def _quiet_about_georeferencing() -> Iterator[None]:
    """Rasterio warns at each HDF5 dataset that it has no geotransform; the grid is read from x and y."""
    from rasterio.errors import NotGeoreferencedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _options[Kind: BaseModel](kind: type[Kind], options: dict[str, Any]) -> Kind:
    try:
        return kind.model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            "invalid-archive-file",
            f"options.{name}: {first['msg']}",
            subject="options",
            next_step=f"correct options.{name} in archive.yaml",
        ) from error


def _unusable(source: Path, message: str) -> UsageError:
    return UsageError(
        "unusable-file",
        message,
        subject=str(source),
        next_step="leave the file out of `files`, or choose another conversion",
    )
