"""One window of one open file: copied bit for bit where the grids coincide, resampled once where not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from rasterio.warp import reproject
from rasterio.windows import Window

from catalog.errors import SceneError
from catalog.grids import Grid
from catalog.products import Product

if TYPE_CHECKING:
    from rasterio.io import DatasetReader


def read_window(
    dataset: DatasetReader,
    numbers: Sequence[int],
    source: Grid | None,
    target: Grid,
    *,
    dtype: str | None,
    fill: float,
    nodata: float | None,
    kernel: str,
) -> tuple[NDArray[Any], NDArray[np.bool_], bool]:
    """Bands of a file on a target grid.

    Parameters
    ----------
    numbers: band numbers in the file, from 1
    source:  the file's own grid, None where it is located by ground-control points
    dtype:   of the values; the file's own if None
    fill:    value of pixels outside the raster
    nodata:  value that is left out of interpolation

    Returns
    -------
    values ``(band, y, x)``; pixels that lie outside the raster ``(y, x)``; whether they were resampled
    """
    dtype = dtype or str(dataset.dtypes[numbers[0] - 1])
    offset = source.window_offset(target) if source else None
    if offset is not None and source is not None:
        return (*_copy(dataset, numbers, source, target, offset, dtype, fill), False)
    return (*_resample(dataset, numbers, target, dtype, fill, nodata, kernel), True)


def _copy(
    dataset: DatasetReader,
    numbers: Sequence[int],
    source: Grid,
    target: Grid,
    offset: tuple[int, int],
    dtype: str,
    fill: float,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    row, col = offset
    height, width = target.shape
    values = np.full((len(numbers), height, width), fill, dtype)
    outside = np.ones((height, width), np.bool_)
    top, left = max(row, 0), max(col, 0)
    bottom, right = min(row + height, source.shape[0]), min(col + width, source.shape[1])
    if top < bottom and left < right:
        inside = (slice(top - row, bottom - row), slice(left - col, right - col))
        values[:, *inside] = dataset.read(list(numbers), window=Window(left, top, right - left, bottom - top))
        outside[inside] = False
    return values, outside


def _resample(
    dataset: DatasetReader,
    numbers: Sequence[int],
    target: Grid,
    dtype: str,
    fill: float,
    nodata: float | None,
    kernel: str,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    height, width = target.shape
    if dataset.crs is None and dataset.gcps[0]:
        return _resample_by_points(dataset, numbers, target, dtype, fill, nodata, kernel)
    # Bands are valid or not one by one: a gap in one must not eat into its neighbours.
    with WarpedVRT(
        dataset,
        crs=f"EPSG:{target.epsg}",
        transform=Affine(*target.affine),
        height=height,
        width=width,
        resampling=Resampling[kernel],
        src_nodata=nodata,
        nodata=nodata,
        add_alpha=nodata is None,
        UNIFIED_SRC_NODATA="NO",
    ) as warped:
        values = warped.read(list(numbers)).astype(dtype, copy=False)
        if nodata is None:
            outside = warped.read(warped.count) == 0
            values[:, outside] = fill
        else:
            outside = np.logical_and.reduce(values == nodata, axis=0)
    return values, outside


def _resample_by_points(
    dataset: DatasetReader,
    numbers: Sequence[int],
    target: Grid,
    dtype: str,
    fill: float,
    nodata: float | None,
    kernel: str,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """As ``_resample``, by a spline through ground-control points, which a warped VRT ignores."""
    values = np.full((len(numbers), *target.shape), fill, dtype)
    reproject(
        rasterio.band(dataset, list(numbers)),
        values,
        dst_crs=f"EPSG:{target.epsg}",
        dst_transform=Affine(*target.affine),
        src_nodata=nodata,
        dst_nodata=nodata,
        resampling=Resampling[kernel],
        SRC_METHOD="GCP_TPS",
        UNIFIED_SRC_NODATA="NO",
    )
    return values, np.logical_and.reduce(values == fill, axis=0)


def fill_value(product: Product) -> float:
    """What stands where a scene has no pixel: the product's nodata value, else NaN or 0."""
    if product.nodata is not None:
        return product.nodata
    return float("nan") if np.dtype(product.dtype).kind == "f" else 0.0


def check_bands(dataset: DatasetReader, product: Product, numbers: Sequence[int], scene_id: str) -> None:
    """Refuse a file that does not hold what the product says.

    Raises
    ------
    SceneError: ``unexpected-bands``, ``unexpected-dtype`` or ``unexpected-nodata``.
    """
    advice = "correct the product file, or give the archive its own"
    name = dataset.name.split("?")[0].split("#")[0].rsplit("/", 1)[-1]
    if max(numbers) > dataset.count:
        raise SceneError(
            "unexpected-bands",
            f"{name} holds {dataset.count} bands, not {max(numbers)}",
            subject=scene_id,
            next_step=advice,
        )
    dtypes = {dataset.dtypes[number - 1] for number in numbers}
    foreign = sorted(dtype for dtype in dtypes if not np.can_cast(dtype, product.dtype, "safe"))
    if foreign:
        raise SceneError(
            "unexpected-dtype",
            f"{name} holds {foreign[0]}, and {product.id} is {product.dtype}",
            subject=scene_id,
            next_step=advice,
        )
    stated = dataset.nodatavals[numbers[0] - 1]
    if stated is None or product.nodata is None or np.isnan(stated):
        return
    if stated != product.nodata:
        raise SceneError(
            "unexpected-nodata",
            f"{name} marks nodata with {stated:g}, and {product.id} with {product.nodata:g}",
            subject=scene_id,
            next_step=advice,
        )
