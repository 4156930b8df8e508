"""Quality flags of a window: what the QA layer says, and where there is no measurement at all.

The ``nodata`` flag means *no band holds a measurement here*. A pixel that lacks single bands (SLC-off gaps
that differ by band, a dark pixel clipped to 0, EnMAP's empty water-vapour bands) keeps its flag clear:
``catalog.radiometry.to_physical`` finds those band by band from the nodata value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.products import Product
from catalog.quality import CLOUDY, FLAGS, quality_flags
from catalog.scenes import Scene
from tasks.readers.plan import quality_files


def empty_pixels(values: NDArray[Any], nodata: float | None) -> NDArray[np.bool_]:
    """Pixels ``(y, x)`` where no band of ``values (band, y, x)`` holds a measurement."""
    empty = np.zeros(values.shape[1:], np.bool_)
    if values.dtype.kind == "f":
        empty |= np.isnan(values).all(axis=0)
    if nodata is not None and not np.isnan(nodata):
        empty |= (values == nodata).all(axis=0)
    return empty


def on_shape(mask: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask of the same ground on another number of pixels: True where *all* of the ground below is True."""
    if mask.shape == shape:
        return mask
    (height, width), (rows, cols) = mask.shape, shape
    if height % rows == 0 and width % cols == 0:
        blocks = mask.reshape(rows, height // rows, cols, width // cols)
        return np.asarray(blocks.all(axis=(1, 3)))
    row = np.minimum(((np.arange(rows) + 0.5) * height / rows).astype(int), height - 1)
    col = np.minimum(((np.arange(cols) + 0.5) * width / cols).astype(int), width - 1)
    return np.asarray(mask[np.ix_(row, col)])


def window_flags(
    product: Product,
    empty: Mapping[float, NDArray[np.bool_]],
    quality: Mapping[str | None, NDArray[Any]],
    outside: NDArray[np.bool_] | None,
    shape: tuple[int, int],
) -> NDArray[np.uint8]:
    """``catalog.quality`` flags ``(y, x)``.

    Parameters
    ----------
    empty:   ground sampling → ``empty_pixels`` of its bands
    quality: raw QA values by meaning (``None`` for a layer in one file); empty without a QA layer
    outside: pixels outside the QA layer's raster
    shape:   (height, width) of the flags
    """
    flags = np.zeros(shape, np.uint8)
    if product.qa is not None and quality:
        raw: Any = quality[None] if None in quality else dict(quality)
        flags |= quality_flags(product.qa, raw)
    nothing = np.ones(shape, np.bool_)
    for mask in empty.values():
        nothing &= on_shape(mask, shape)
    if outside is not None:
        # What a fill value would mean as a class is no statement of the QA layer.
        flags[outside] = 0
        nothing |= outside
    flags[nothing] |= FLAGS["nodata"]
    return flags


def nodata_fraction(flags: NDArray[np.uint8]) -> float:
    """Share of pixels without a measurement."""
    return float(np.mean((flags & FLAGS["nodata"]) != 0))


def cloud_fraction(product: Product, flags: NDArray[np.uint8], scene: Scene | None = None) -> float:
    """Share of the valid pixels under cloud, shadow or cirrus; NaN where no QA layer tells.

    ``scene`` is asked whether it has the layer, where its product can do without.
    """
    if not tells_cloud(product, scene):
        return float("nan")
    valid = (flags & FLAGS["nodata"]) == 0
    return float(np.mean((flags[valid] & CLOUDY) != 0)) if valid.any() else 0.0


def tells_cloud(product: Product, scene: Scene | None = None) -> bool:
    """Whether a product's QA layer knows cloud, and the scene has one."""
    if product.qa is None or (scene is not None and not quality_files(scene, product)):
        return False
    return bool({"cloud", "shadow", "cirrus"} & {*product.qa.meanings, *product.qa.flags})
