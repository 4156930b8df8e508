"""How a cube is laid out: groups, arrays, dimensions, codecs, and what is written beside the pixels.

::

    /                              format, format_version
    /locations/                    id, epsg, x, y, size_m, longitude, latitude, split, block   (location)
    /PRODUCT/                      the product's definition, licence, attribution
        r10m …                     raw pixels                        (sample, band_10m, y_10m, x_10m)
        quality                    flags of catalog.quality, uint8   (sample, y_20m, x_20m)
        sample, location, scene, time, epsg, resampled, position_error_m, nodata_fraction,
        cloud_fraction, sha256, superseded_by              columns   (sample)
        scale, offset [, k1, k2]   what turns raw into physical      (sample, band)
        affine_10m …               a, b, c, d, e, f                  (sample, affine)
        band, center_nm, fwhm_nm, gsd_m                              (band)
        band_10m, center_nm_10m, fwhm_nm_10m …                       (band_10m)
    /PRODUCT/scenes/               scene, document (JSON of Scene.to_dict)                     (scene)

Text is Zarr's variable-length ``string``; xarray reads it as numpy's ``StringDType``. Times are int64
microseconds with CF units, which xarray decodes. No ``_FillValue`` is set, so xarray keeps raw integers.
All chunks carry a CRC-32C, so that a flipped bit is an error at the first read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from catalog.cubes.columns import CHUNK as COLUMN_CHUNK
from catalog.cubes.columns import COLUMNS, LATER
from catalog.errors import CubeError
from catalog.products.model import Product, array_name
from catalog.quality import FLAGS

FORMAT = "swath-cube"
FORMAT_VERSION = 1
LOCATIONS = "locations"
SCENES = "scenes"

CHUNK_BYTES = 4 << 20
"""Raw bytes that a pixel chunk of the largest array aims at: long chunks read faster, short ones cost less
when a commit writes the last of them again (docs/cubes.md has the figures)."""
MAX_CHUNK_SAMPLES = 256
LOCATION_CHUNK = 2048
DOCUMENT_CHUNK = 64
TABLE_CHUNK_BYTES = 1 << 20


CALIBRATION = {
    "scale": "factor of the raw number",
    "offset": "added after the factor",
    "k1": "Planck constant K1 of a thermal band",
    "k2": "Planck constant K2 of a thermal band",
}
OPTIONAL = ("k1", "k2", *LATER)
"""There only if a sample of the product brought them, or was written since they exist."""

CONVERSIONS = {
    "linear": "physical = raw * scale + offset",
    "sentinel-2-offset": "reflectance = raw * scale + offset; the offset depends on the processing baseline",
    "landsat-toa": "physical = raw * scale + offset; thermal bands: kelvin = k2 / ln(k1 / physical + 1)",
    "power-to-db": "dB = 10 * log10(raw * scale + offset) where positive",
    "amplitude-to-db": "dB = 20 * log10(raw * scale + offset) where positive",
    "db-linear": "dB = raw * scale + offset",
}

LOCATION_COLUMNS = {
    "id": "string",
    "epsg": "int32",
    "x": "float64",
    "y": "float64",
    "size_m": "float64",
    "longitude": "float64",
    "latitude": "float64",
    "split": "string",
    "block": "string",
}

Shape = tuple[int, int]


def suffix(gsd_m: float) -> str:
    """``10m`` of ``r10m``: what tells the dimensions of two resolutions apart."""
    return array_name(gsd_m)[1:]


def affine_name(gsd_m: float) -> str:
    return f"affine_{suffix(gsd_m)}"


def sample_arrays(product: Product) -> set[str]:
    """Every array of a product that has one entry per sample; ``OPTIONAL`` ones may be missing."""
    return (
        {column.name for column in COLUMNS}
        | set(CALIBRATION)
        | {"quality"}
        | {name(gsd) for gsd in product.resolutions_m for name in (array_name, affine_name)}
    )


def default_chunk_samples(product: Product, shapes: Mapping[float, Shape]) -> int:
    """Samples per chunk, a power of two: the largest array's chunk comes near ``CHUNK_BYTES``."""
    itemsize = np.dtype(product.dtype).itemsize
    largest = max(len(product.bands_at(gsd)) * math.prod(shapes[gsd]) * itemsize for gsd in shapes)
    return int(2 ** min(math.log2(MAX_CHUNK_SAMPLES), max(0, round(math.log2(CHUNK_BYTES / largest)))))


def open_root(store: Any, *, write: bool = False) -> zarr.Group:
    """The root group, made where a repository is still empty and ``write`` is set.

    Raises
    ------
    CubeError: ``not-a-cube``, the repository holds something else, or a later format.
    """
    root = zarr.open_group(store, mode="a" if write else "r", zarr_format=3)
    if write and not root.attrs and not list(root.keys()):
        root.update_attributes({"format": FORMAT, "format_version": FORMAT_VERSION})
    if root.attrs.get("format") != FORMAT or root.attrs.get("format_version") != FORMAT_VERSION:
        raise CubeError(
            "not-a-cube",
            f"the repository holds {root.attrs.get('format', 'no format')} "
            f"{root.attrs.get('format_version', '')}, not {FORMAT} {FORMAT_VERSION}",
            next_step="name a cube of this version of Swath",
        )
    return root


def array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    """An array of a group; chunks that equal the fill value are written too (-0.0 is not 0.0)."""
    return cast("zarr.Array[Any]", group[name]).with_config({"write_empty_chunks": True})


def subgroup(group: zarr.Group, name: str) -> zarr.Group:
    return cast("zarr.Group", group[name])


def declare_product(root: zarr.Group, product: Product) -> zarr.Group:
    """The product's group, made where it is missing.

    Raises
    ------
    CubeError: ``product-changed``, the cube holds samples of another definition of this product.
    """
    if product.id == LOCATIONS:
        raise CubeError(
            "bad-product-id", "this name is taken in every cube", subject=product.id, next_step="rename it"
        )
    if product.id in root:
        group = subgroup(root, product.id)
        check_definition(read_product(group), product)
        return group
    return root.create_group(
        product.id,
        attributes={
            "title": product.title,
            "sensor": product.sensor,
            "level": product.level,
            "licence": product.licence,
            "attribution": product.attribution,
            # Text, because NetCDF and other formats take no nested attributes.
            "product": json.dumps(product.model_dump(mode="json"), sort_keys=True),
        },
    )


def check_definition(held: Product, product: Product) -> None:
    """Refuse samples that would be read wrongly beside those held; titles and notes may differ.

    Raises
    ------
    CubeError: ``product-changed``.
    """
    if _pixels_of(held) != _pixels_of(product):
        raise CubeError(
            "product-changed",
            "the cube holds samples of a product with other bands, type, nodata or radiometric rule",
            subject=product.id,
            next_step="undo the change of the product file, give it a new id, or start a new cube",
        )


def read_product(group: zarr.Group) -> Product:
    """The definition a product's samples were written with."""
    return Product.model_validate(json.loads(str(group.attrs["product"])))


def create_arrays(
    group: zarr.Group,
    product: Product,
    shapes: Mapping[float, Shape],
    quality_shape: Shape,
    chunk_samples: int | None,
) -> None:
    """Make a product's arrays, all of length 0 along ``sample``; shapes are (height, width) in pixels."""
    length = chunk_samples or default_chunk_samples(product, shapes)
    for column in COLUMNS:
        create_column(group, column.name)
    for name in CALIBRATION:
        if name not in OPTIONAL:
            create_calibration(group, product, name)
    _band_coordinates(group, product, None)
    coordinates = [column.name for column in COLUMNS] + ["center_nm", "fwhm_nm", "gsd_m"]
    for gsd, shape in shapes.items():
        tag = suffix(gsd)
        _band_coordinates(group, product, gsd)
        coordinates += [f"center_nm_{tag}", f"fwhm_nm_{tag}", affine_name(gsd)]
        _column(
            group,
            affine_name(gsd),
            "float64",
            ("sample", "affine"),
            {"long_name": "x = a*col + b*row + c, y = d*col + e*row + f: a, b, c, d, e, f"},
            width=6,
        )
        bands = product.bands_at(gsd)
        group.create_array(
            array_name(gsd),
            shape=(0, len(bands), *shape),
            chunks=(length, len(bands), *shape),
            dtype=np.dtype(product.dtype),
            fill_value=_fill(product),
            compressors=_pixel_codecs(),
            dimension_names=("sample", f"band_{tag}", f"y_{tag}", f"x_{tag}"),
            attributes=_pixel_attributes(product, gsd),
        )
    quality_gsd = product.qa.gsd_m if product.qa else product.resolutions_m[0]
    tag = suffix(quality_gsd) if shapes.get(quality_gsd) == quality_shape else "quality"
    group.create_array(
        "quality",
        shape=(0, *quality_shape),
        chunks=(length, *quality_shape),
        dtype="uint8",
        fill_value=FLAGS["nodata"],
        compressors=_pixel_codecs(),
        dimension_names=("sample", f"y_{tag}", f"x_{tag}"),
        attributes={
            "long_name": "quality flags",
            "flag_masks": list(FLAGS.values()),
            "flag_meanings": " ".join(FLAGS),
        },
    )
    group.update_attributes({"coordinates": " ".join(coordinates)})
    scenes = group.create_group(SCENES)
    for name in ("scene", "document"):
        _column(scenes, name, "string", ("scene",), {}, chunk=DOCUMENT_CHUNK)


def create_calibration(group: zarr.Group, product: Product, name: str, samples: int = 0) -> None:
    """Make ``scale``, ``offset``, ``k1`` or ``k2``; ``samples`` there already have NaN."""
    _column(
        group,
        name,
        "float64",
        ("sample", "band"),
        {"long_name": CALIBRATION[name], "conversion": CONVERSIONS[product.radiometry.rule]},
        width=len(product.bands),
        length=samples,
    )


def create_column(group: zarr.Group, name: str, samples: int = 0) -> None:
    """Make one of ``COLUMNS``; ``samples`` there already have its fill value."""
    column = next(column for column in COLUMNS if column.name == name)
    _column(
        group,
        column.name,
        column.dtype,
        ("sample",),
        {"long_name": column.description},
        chunk=column.chunk,
        length=samples,
    )
    array(group, column.name).update_attributes(dict(column.attributes))


def create_locations(root: zarr.Group) -> zarr.Group:
    """Make the table of locations."""
    group = root.create_group(LOCATIONS)
    for name, dtype in LOCATION_COLUMNS.items():
        _column(group, name, dtype, ("location",), {}, chunk=LOCATION_CHUNK)
    return group


def append_rows(group: zarr.Group, values: Mapping[str, NDArray[Any] | Sequence[Any]]) -> None:
    """Append to arrays of a group along their first axis."""
    for name, rows in values.items():
        target = array(group, name)
        start = target.shape[0]
        target.resize((start + len(rows), *target.shape[1:]))
        target[start:] = text(rows) if target.dtype == np.dtypes.StringDType() else np.asarray(rows)


def text(values: NDArray[Any] | Sequence[Any]) -> NDArray[Any]:
    """Strings as Zarr's ``string`` type wants them."""
    return np.array(values, dtype=np.dtypes.StringDType())


def _column(
    group: zarr.Group,
    name: str,
    dtype: str,
    dimensions: tuple[str, ...],
    attributes: dict[str, Any],
    *,
    width: int | None = None,
    chunk: int = COLUMN_CHUNK,
    length: int = 0,
) -> None:
    if width is None:
        shape, chunks = (length,), (chunk,)
    else:
        rows = min(COLUMN_CHUNK, max(64, TABLE_CHUNK_BYTES // (8 * width)))
        shape, chunks = (length, width), (rows, width)  # type: ignore[assignment]
    fill: Any = {"string": "", "bool": False, "float64": np.nan}.get(dtype, 0)
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


def band_coordinates(product: Product, gsd: float | None) -> dict[str, tuple[list[Any], str, dict[str, Any]]]:
    """Name → (values, type, attributes) of what describes the bands of one sampling, or all for None."""
    bands = product.bands if gsd is None else product.bands_at(gsd)
    tail = "" if gsd is None else f"_{suffix(gsd)}"
    values: dict[str, tuple[list[Any], str, dict[str, Any]]] = {
        f"band{tail}": ([band.name for band in bands], "string", {"long_name": "band name"}),
        f"center_nm{tail}": (
            [band.center_nm or np.nan for band in bands],
            "float64",
            {"units": "nm", "long_name": "centre wavelength"},
        ),
        f"fwhm_nm{tail}": (
            [band.fwhm_nm or np.nan for band in bands],
            "float64",
            {"units": "nm", "long_name": "full width at half maximum"},
        ),
    }
    if gsd is None:
        values["gsd_m"] = (
            [band.gsd_m for band in bands],
            "float64",
            {"long_name": "native sampling, metres"},
        )
    return values


def _band_coordinates(group: zarr.Group, product: Product, gsd: float | None) -> None:
    dimension = "band" if gsd is None else f"band_{suffix(gsd)}"
    for name, (values, dtype, attributes) in band_coordinates(product, gsd).items():
        _column(group, name, dtype, (dimension,), attributes, chunk=len(values))
        append_rows(group, {name: values})


def _pixel_attributes(product: Product, gsd: float) -> dict[str, Any]:
    bands = product.bands_at(gsd)
    attributes: dict[str, Any] = {
        "long_name": f"raw pixels of {product.id} at {gsd:g} m, as the archive stores them",
        "band_names": [band.name for band in bands],
        "quantities": [band.quantity for band in bands],
        "gsd_m": gsd,
        "raw_units": "digital number" if np.dtype(product.dtype).kind in "iu" else "as delivered",
        "conversion": f"{CONVERSIONS[product.radiometry.rule]}; scale and offset by (sample, band)",
    }
    for key in ("center_nm", "fwhm_nm"):
        values = [getattr(band, key) for band in bands]
        if None not in values:
            attributes[key] = values
    if product.nodata is not None:
        # NaN is no JSON.
        attributes["nodata"] = "NaN" if math.isnan(product.nodata) else product.nodata
    return attributes


def _fill(product: Product) -> Any:
    dtype = np.dtype(product.dtype)
    if product.nodata is not None:
        return dtype.type(product.nodata)
    return dtype.type(np.nan) if dtype.kind == "f" else dtype.type(0)


def _pixel_codecs() -> list[Any]:
    # By bits: real pixels fill 12 of 16 bits at most, which makes it smaller, and no slower to read.
    return [BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"), Crc32cCodec()]


def _pixels_of(product: Product) -> str:
    """What decides how a product's samples are stored and read."""
    kept = product.model_dump(mode="json", include={"dtype", "nodata"})
    kept["rule"] = product.radiometry.rule
    kept["bands"] = [
        band.model_dump(mode="json", include={"name", "gsd_m", "quantity", "center_nm", "fwhm_nm"})
        for band in product.bands
    ]
    return json.dumps(kept, sort_keys=True)
