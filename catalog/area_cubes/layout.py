"""How an area cube is laid out: one group per product and native resolution, each a dataset of its own.

::

    /                          format, format_version
    /PRODUCT/                  the product's definition, the grid, which scenes were refused and why
    /PRODUCT/r10m/             pixels                          raw numbers       (time, band, y, x)
                               quality                         catalog.quality   (time, y, x), on its own grid
                               time, platform, scenes, resampled, nodata_fraction, cloud_fraction   (time)
                               scale, offset [, k1, k2]        raw → physical    (time, band)
                               band, center_nm, fwhm_nm                          (band)
                               x, y, spatial_ref               centres of pixels, and their CRS
    /PRODUCT/steps/            time, documents (JSON list of Scene.to_dict)      (time)
    /embeddings/ENCODER@V/     embedding                       (time, feature, y, x), with x, y, spatial_ref

Pixels are stored as the archive has them. Scale and offset are arrays, because they change with the
processing baseline; so there are no ``scale_factor`` attributes. There is no ``_FillValue`` either, so that
xarray keeps integers. One chunk holds one time; all chunks carry a CRC-32C.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from catalog.errors import CubeError
from catalog.grids import Grid
from catalog.products.model import Product, array_name
from catalog.quality import FLAGS

FORMAT = "swath-area-cube"
FORMAT_VERSION = 1
STEPS = "steps"
EMBEDDINGS = "embeddings"
CHUNK_BYTES = 16 << 20
"""Raw bytes of a chunk at most; hyperspectral products are cut along the bands."""
COLUMN_CHUNK = 1024
TIME = {"units": "microseconds since 1970-01-01T00:00:00", "calendar": "proleptic_gregorian"}
CALIBRATION = {
    "scale": "factor of the raw number",
    "offset": "added after the factor",
    "k1": "Planck constant K1 of a thermal band",
    "k2": "Planck constant K2 of a thermal band",
}
STEP_COLUMNS: dict[str, tuple[str, dict[str, Any]]] = {
    "time": ("int64", {"standard_name": "time", "long_name": "sensing time of the first scene", **TIME}),
    "platform": ("string", {"long_name": "platform"}),
    "scenes": (
        "string",
        {"long_name": "ids of the scenes, in the order in which they fill pixels"},
    ),
    "resampled": ("bool", {"long_name": "whether any scene was resampled instead of copied"}),
    "nodata_fraction": ("float64", {"long_name": "share of pixels without a measurement"}),
    "cloud_fraction": (
        "float64",
        {"long_name": "cloudy share of the valid pixels; NaN where no QA layer tells"},
    ),
}


def open_root(store: Any, *, write: bool = False) -> zarr.Group:
    """The root group, made where a repository is still empty and ``write`` is set.

    Raises
    ------
    CubeError: ``not-an-area-cube``.
    """
    root = zarr.open_group(store, mode="a" if write else "r", zarr_format=3)
    if write and not root.attrs and not list(root.keys()):
        root.update_attributes({"format": FORMAT, "format_version": FORMAT_VERSION})
    if root.attrs.get("format") != FORMAT or root.attrs.get("format_version") != FORMAT_VERSION:
        raise CubeError(
            "not-an-area-cube",
            f"the repository holds {root.attrs.get('format', 'no format')}, not {FORMAT} {FORMAT_VERSION}",
            next_step="name an area cube of this version of Swath",
        )
    return root


def group_path(product: str, gsd_m: float) -> str:
    """``sentinel-2-l2a/r10m``: what xarray opens."""
    return f"{product}/{array_name(gsd_m)}"


def quality_gsd_m(product: Product) -> float:
    """Ground sampling of the quality flags: the QA layer's, or the finest band's."""
    return product.qa.gsd_m if product.qa else product.resolutions_m[0]


def create_product(
    root: zarr.Group, product: Product, grids: Mapping[float, Grid], chunks_px: Mapping[float, int]
) -> None:
    """Make a product's groups, all of length 0 along ``time``.

    Parameters
    ----------
    grids:     ground sampling → the area's grid: of each native resolution, and of the QA layer
    chunks_px: ground sampling → side of a chunk, pixels
    """
    group = root.create_group(
        product.id,
        attributes={
            "title": product.title,
            "licence": product.licence,
            "attribution": product.attribution,
            "product": json.dumps(product.model_dump(mode="json"), sort_keys=True),
            "grids": {f"{gsd:g}": grid_document(grid) for gsd, grid in grids.items()},
            "chunks_px": {f"{gsd:g}": side for gsd, side in chunks_px.items()},
            "refused": {},
        },
    )
    for gsd, grid in grids.items():
        own = group.create_group(
            array_name(gsd), attributes={"Conventions": "CF-1.10", "title": f"{product.title}, {gsd:g} m"}
        )
        coordinates(own, grid)
        columns(own, STEP_COLUMNS)
        names = ["spatial_ref", *(name for name in STEP_COLUMNS if name != "time")]
        if product.bands_at(gsd):
            names += _bands(own, product, gsd, grid, chunks_px[gsd])
        if gsd == quality_gsd_m(product):
            _quality(own, grid, chunks_px[gsd])
        own.update_attributes({"coordinates": " ".join(names)})
    steps = group.create_group(STEPS)
    columns(steps, {"time": STEP_COLUMNS["time"], "documents": ("string", {"long_name": "scenes, as JSON"})})


def create_embedding(
    root: zarr.Group,
    name: str,
    grid: Grid,
    features: int,
    dtype: str,
    chunk_px: int,
    attributes: dict[str, Any],
) -> zarr.Group:
    """Make the group of an encoder's embeddings, of length 0 along ``time``."""
    own = root.require_group(EMBEDDINGS).create_group(name, attributes=attributes)
    coordinates(own, grid)
    columns(
        own,
        {
            "time": STEP_COLUMNS["time"],
            "scenes": STEP_COLUMNS["scenes"],
            "source": ("string", {"long_name": "digest of the scenes that the time step was made of"}),
        },
    )
    own.create_array(
        "embedding",
        shape=(0, features, *grid.shape),
        chunks=(1, features, min(chunk_px, grid.shape[0]), min(chunk_px, grid.shape[1])),
        dtype=dtype,
        fill_value=np.dtype(dtype).type(np.nan),
        compressors=_codecs(),
        dimension_names=("time", "feature", "y", "x"),
        attributes={
            "long_name": "embedding of the window around each pixel; NaN where too little of it is valid",
            "grid_mapping": "spatial_ref",
        },
    )
    own.update_attributes({"coordinates": "spatial_ref scenes source"})
    return own


def grid_document(grid: Grid) -> dict[str, Any]:
    return {"epsg": grid.epsg, "affine": list(grid.affine), "shape": list(grid.shape)}


def grid_from(document: Mapping[str, Any]) -> Grid:
    """Read what ``grid_document`` wrote."""
    a, b, c, d, e, f = document["affine"]
    return Grid(int(document["epsg"]), (a, b, c, d, e, f), (document["shape"][0], document["shape"][1]))


def text(values: Sequence[Any]) -> NDArray[Any]:
    """Strings as Zarr's ``string`` type wants them."""
    return np.array(values, dtype=np.dtypes.StringDType())


def array(group: zarr.Group, path: str) -> zarr.Array[Any]:
    found = group[path]
    if not isinstance(found, zarr.Array):
        raise CubeError("not-an-area-cube", f"{path} is no array", subject=group.path)
    return found


def subgroup(group: zarr.Group, path: str) -> zarr.Group:
    found = group[path]
    if not isinstance(found, zarr.Group):
        raise CubeError("not-an-area-cube", f"{path} is no group", subject=group.path)
    return found


def columns(group: zarr.Group, wanted: Mapping[str, tuple[str, dict[str, Any]]]) -> None:
    """Make empty one-dimensional arrays along ``time``."""
    for name, (dtype, attributes) in wanted.items():
        _column(group, name, dtype, ("time",), (0,), attributes)


def coordinates(group: zarr.Group, grid: Grid) -> None:
    """Write ``x`` and ``y`` (pixel centres) and ``spatial_ref`` (CF's grid mapping, and GDAL's affine)."""
    from pyproj import CRS

    a, _, west, _, e, north = grid.affine
    height, width = grid.shape
    for name, start, step, count in (("x", west, a, width), ("y", north, e, height)):
        direction = "easting" if name == "x" else "northing"
        _column(
            group,
            name,
            "float64",
            (name,),
            (count,),
            {
                "standard_name": f"projection_{name}_coordinate",
                "long_name": f"{direction} of pixel centres",
                "units": "m",
                "axis": name.upper(),
            },
        )
        array(group, name)[:] = start + step * (np.arange(count) + 0.5)
    crs = CRS.from_epsg(grid.epsg)
    reference = group.create_array(
        "spatial_ref",
        shape=(),
        dtype="int32",
        attributes={
            **crs.to_cf(),
            "spatial_ref": crs.to_wkt(),
            "GeoTransform": " ".join(f"{value!r}" for value in (west, a, 0.0, north, 0.0, e)),
            "proj:code": f"EPSG:{grid.epsg}",
        },
        dimension_names=(),
    )
    reference[...] = grid.epsg


def _bands(group: zarr.Group, product: Product, gsd: float, grid: Grid, side: int) -> list[str]:
    bands, dtype = product.bands_at(gsd), np.dtype(product.dtype)
    side_y, side_x = min(side, grid.shape[0]), min(side, grid.shape[1])
    deep = max(1, min(len(bands), CHUNK_BYTES // (side_y * side_x * dtype.itemsize)))
    attributes: dict[str, Any] = {
        "long_name": "raw numbers, as the archive stores them",
        "quantities": [band.quantity for band in bands],
        "radiometric_rule": product.radiometry.rule,
        "grid_mapping": "spatial_ref",
    }
    fill: Any = dtype.type(np.nan) if dtype.kind == "f" else dtype.type(0)
    if product.nodata is not None:
        # NaN is no JSON.
        attributes["nodata"] = "NaN" if math.isnan(product.nodata) else product.nodata
        fill = dtype.type(product.nodata)
    group.create_array(
        "pixels",
        shape=(0, len(bands), *grid.shape),
        chunks=(1, deep, side_y, side_x),
        dtype=dtype,
        fill_value=fill,
        compressors=_codecs(),
        dimension_names=("time", "band", "y", "x"),
        attributes=attributes,
    )
    _column(group, "band", "string", ("band",), (len(bands),), {"long_name": "band name"})
    array(group, "band")[:] = text([band.name for band in bands])
    for name, what in (("center_nm", "centre wavelength"), ("fwhm_nm", "full width at half maximum")):
        _column(group, name, "float64", ("band",), (len(bands),), {"long_name": what, "units": "nm"})
        array(group, name)[:] = [getattr(band, name) or np.nan for band in bands]
    thermal = product.radiometry.rule == "landsat-toa"
    calibration = [name for name in CALIBRATION if thermal or name not in ("k1", "k2")]
    for name in calibration:
        _column(group, name, "float64", ("time", "band"), (0, len(bands)), {"long_name": CALIBRATION[name]})
    return ["center_nm", "fwhm_nm", *calibration]


def _quality(group: zarr.Group, grid: Grid, side: int) -> None:
    group.create_array(
        "quality",
        shape=(0, *grid.shape),
        chunks=(1, min(side, grid.shape[0]), min(side, grid.shape[1])),
        dtype="uint8",
        fill_value=FLAGS["nodata"],
        compressors=_codecs(),
        dimension_names=("time", "y", "x"),
        attributes={
            "long_name": "quality flags",
            "flag_masks": list(FLAGS.values()),
            "flag_meanings": " ".join(FLAGS),
            "grid_mapping": "spatial_ref",
        },
    )


def _column(
    group: zarr.Group,
    name: str,
    dtype: str,
    dimensions: tuple[str, ...],
    shape: tuple[int, ...],
    attributes: dict[str, Any],
) -> None:
    fill: Any = {"string": "", "bool": False, "float64": np.nan}.get(dtype, 0)
    chunks = (shape[0] or COLUMN_CHUNK, *shape[1:])
    group.create_array(
        name,
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        fill_value=fill,
        compressors=[ZstdCodec(level=3), Crc32cCodec()],
        dimension_names=dimensions,
        attributes=attributes,
    )


def _codecs() -> list[Any]:
    return [BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"), Crc32cCodec()]
