"""Puts one window together from the parts that were read of a scene's files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.products import Product
from tasks.readers.contract import WindowPixels, WindowRequest
from tasks.readers.flags import empty_pixels, window_flags
from tasks.readers.plan import BandFile, QualityFile, quality_gsd_m

Part = tuple[NDArray[Any], NDArray[np.bool_], bool]
"""Values ``(band, y, x)``, pixels outside the file ``(y, x)``, whether they were interpolated."""


def assembled(
    product: Product,
    window: WindowRequest,
    bands: Iterable[BandFile],
    quality: Iterable[QualityFile],
    part_of: Callable[[str, float | None], Part],
) -> WindowPixels:
    """One window; ``part_of`` gives what was read of a file (by asset key) at a sampling, None for flags."""
    files = list(bands)
    pixels: dict[float, NDArray[Any]] = {}
    empty: dict[float, NDArray[np.bool_]] = {}
    resampled = False
    for gsd in product.resolutions_m:
        shape = window.grids[gsd].shape
        values = np.empty((len(product.bands_at(gsd)), *shape), product.dtype)
        nowhere = np.ones(shape, np.bool_)
        for file in files:
            if gsd not in file.layers:
                continue
            read, outside, interpolated = part_of(file.asset.key, gsd)
            values[[place for place, _ in file.layers[gsd]]] = read
            nowhere &= outside
            resampled |= interpolated
        pixels[gsd] = values
        empty[gsd] = empty_pixels(values, product.nodata) | nowhere
    gsd = quality_gsd_m(product)
    raw: dict[str | None, NDArray[Any]] = {}
    outside_all: NDArray[np.bool_] | None = None
    for layer in quality:
        read, outside, _ = part_of(layer.asset.key, None)
        raw.update((meaning, read[0]) for meaning in layer.meanings)
        outside_all = outside if outside_all is None else outside_all | outside
    flags = window_flags(product, empty, raw, outside_all, window.grids[gsd].shape)
    return WindowPixels(window.location, window.grids, pixels, flags, gsd, resampled)
