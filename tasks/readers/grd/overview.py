"""A coarse look at a ground-range scene: its overview, calibrated, for what the gate judges."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from catalog.products import Product
from catalog.scenes import Scene
from tasks.readers.assets import OpenAsset
from tasks.readers.flags import empty_pixels, window_flags
from tasks.readers.grd.border import border_noise
from tasks.readers.grd.calibration import noise_power, sigma_nought
from tasks.readers.grd.scene_annotation import read_annotation
from tasks.readers.grd.windows import check_measurement, checked_geometry
from tasks.readers.http_ranges import ATTEMPTS
from tasks.readers.plan import BandFile, band_files
from tasks.readers.window import fill_value

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

    from catalog.archives import Archive

LEVEL_BOX_PX = 3
"""An overview's pixel is a mean of many already."""

Thin = Callable[["DatasetReader", list[int], tuple[int, int]], NDArray[Any]]
"""Bands of a file at a small shape, ``(band, line, pixel)``."""


def decimated_sigma0(
    scene: Scene,
    product: Product,
    archive: Archive,
    thin: Thin,
    *,
    side_px: int,
    attempts: int = ATTEMPTS,
    pause_s: float = 0.5,
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """All bands as linear power ``(band, line, pixel)`` and the quality flags ``(line, pixel)``.

    An overview holds means of amplitudes, whose square falls short of the mean power by the speckle's share:
    at most 0.3 dB for the 4.4 looks of an IW scene.

    Raises
    ------
    SceneError: as ``tasks.readers.grd.windows.read_ground_range``.
    """
    files = band_files(scene, product)
    annotation = read_annotation(scene, [file.asset.key for file in files], archive)
    checked_geometry(annotation, scene.id)
    shape = min(side_px, annotation.product.lines), min(side_px, annotation.product.samples)
    values = np.empty((len(product.bands), *shape), product.dtype)

    def read(file: BandFile) -> None:
        with ExitStack() as stack:
            asset = OpenAsset(scene.id, file.asset, file.label, archive, attempts=attempts, pause_s=pause_s)
            stack.callback(asset.close)
            ((place, number),) = next(iter(file.layers.values()))

            def work(dataset: DatasetReader) -> NDArray[Any]:
                check_measurement(dataset, annotation=annotation, scene_id=scene.id)
                return np.asarray(thin(dataset, [number], shape)[0])

            values[place] = calibrated(asset.use(work), file.asset.key)

    def calibrated(dn: NDArray[Any], key: str) -> NDArray[Any]:
        lines, pixels = (
            (np.arange(count) + 0.5) * size / count - 0.5
            for count, size in zip(
                dn.shape, (annotation.product.lines, annotation.product.samples), strict=True
            )
        )
        noise = annotation.noise[key]
        outside = border_noise(
            dn, noise_power(lines, pixels, noise), (0, 0), (dn.shape[0], dn.shape[1]), box_px=LEVEL_BOX_PX
        )
        power = sigma_nought(dn, lines, pixels, annotation.calibration[key], noise)
        return np.where(outside, fill_value(product), power)

    with ThreadPoolExecutor(len(files), thread_name_prefix="swath-overview") as pool:
        list(pool.map(read, files))
    empty = {0.0: empty_pixels(values, product.nodata)}
    return values, window_flags(product, empty, {}, None, shape)
