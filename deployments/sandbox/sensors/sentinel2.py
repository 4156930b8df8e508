"""Sentinel-2 L2A: 12 bands at 10, 20 and 60 m, the -1000 offset by baseline, and a scene classification."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, gaussian_filter, shift

from catalog.grids import Grid, north_up
from deployments.sandbox.atmosphere import Light, average, seen_mask
from deployments.sandbox.landscape import Ground
from deployments.sandbox.plan import Observation
from deployments.sandbox.sensors import Picture, Raster
from deployments.sandbox.spectra import Array

# name: (gsd m, S2A centre nm, S2A FWHM nm, S2B centre, S2B FWHM), from the published spectral responses.
BANDS: dict[str, tuple[int, float, float, float, float]] = {
    "B01": (60, 442.7, 20, 442.3, 20),
    "B02": (10, 492.4, 64, 492.2, 65),
    "B03": (10, 559.8, 35, 559.0, 35),
    "B04": (10, 664.6, 31, 664.9, 30),
    "B05": (20, 704.1, 14, 703.9, 14),
    "B06": (20, 740.5, 14, 739.2, 14),
    "B07": (20, 782.8, 19, 779.7, 20),
    "B08": (10, 832.8, 105, 832.9, 105),
    "B8A": (20, 864.7, 20, 864.0, 21),
    "B09": (60, 945.1, 19, 943.1, 20),
    "B11": (20, 1613.7, 90, 1610.4, 94),
    "B12": (20, 2202.4, 173, 2185.7, 184),
}
NOISE_FLOOR, NOISE_SHARE = 0.0006, 0.004
QUANTIFICATION = 10_000
BLUR_PX = 0.45
"""Width (standard deviation) of the optics' point spread, pixels of each band."""


def offset_dn(baseline: str) -> int:
    """What is added to every digital number: 1000 from baseline 04.00 on, whatever the sensing date."""
    return 1000 if baseline >= "04.00" else 0


def simulate(
    ground: Ground,
    light: Light,
    seen: Observation,
    rng: np.random.Generator,
    truth: dict[str, Array] | None = None,
) -> Picture:
    """All band files of one granule and its SCL; ``truth`` is filled with what the numbers stand for."""
    grids = {gsd: granule_grid(ground.grid, gsd) for gsd in (10, 20, 60)}
    rasters: dict[str, Raster] = {}
    reflectance: dict[str, Array] = {}
    gain, bias = (1.006, 0.0008) if seen.role == "reprocessed" else (1.0, 0.0)
    for gsd, grid in grids.items():
        weights = average(light.weights, ground, grid)
        names = [name for name, band in BANDS.items() if band[0] == gsd]
        first = 1 if seen.platform == "sentinel-2a" else 3
        values = light.reflectance(
            weights, [BANDS[name][first] for name in names], [BANDS[name][first + 1] for name in names]
        )
        values = gaussian_filter(values, (0, BLUR_PX, BLUR_PX), truncate=3.4)
        noise = rng.standard_normal(values.shape, dtype=np.float32)
        values += noise * (NOISE_FLOOR + NOISE_SHARE * values)
        if gain != 1.0:
            values = values * np.float32(gain) + np.float32(bias)
        inside = seen.footprint.covers(grid, ground.grid)
        for name, band in zip(names, values, strict=True):
            reflectance[name] = band
            numbers = np.rint(band * QUANTIFICATION) + offset_dn(seen.version)
            # Without an offset, what the atmospheric correction makes negative is cut off; 0 is no data.
            numbers = np.where(inside, np.clip(numbers, 1, 65535), 0).astype(np.uint16)
            rasters[name] = Raster(numbers[None], grid, 0 if seen.nodata_tag else None)
            if truth is not None:
                truth[name] = band
    scl = _classify(ground, light, seen, reflectance, grids[20], rng)
    rasters["SCL"] = Raster(scl[None], grids[20], 0 if seen.nodata_tag else None, quality=True)
    return Picture(rasters, _facts(scl))


def granule_grid(square: Grid, gsd: int) -> Grid:
    """The square in pixels of one size."""
    _, _, west, _, _, north = square.affine
    side = round(square.shape[0] * square.resolution[0] / gsd)
    return north_up(square.epsg, west, north, float(gsd), (side, side))


def _halve(values: Array) -> Array:
    total = values[0::2, 0::2] + values[1::2, 0::2] + values[0::2, 1::2] + values[1::2, 1::2]
    return np.asarray(total / 4, np.float32)


def _classify(
    ground: Ground,
    light: Light,
    seen: Observation,
    reflectance: dict[str, Array],
    grid: Grid,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """The scene classification a processor would make of the pixels: good, not perfect."""
    blue, green, red, nir = (_halve(reflectance[name]) for name in ("B02", "B03", "B04", "B08"))
    swir = reflectance["B11"]
    ndvi = (nir - red) / np.maximum(nir + red, 0.01)
    ndwi = (green - nir) / np.maximum(green + nir, 0.01)
    scl = np.where(ndvi > 0.38, 4, 5).astype(np.uint8)
    scl[(ndvi < 0.30) & (rng.random(scl.shape, dtype=np.float32) < 0.012)] = 7
    scl[(nir < 0.09) & (ndwi < 0.2)] = 2
    scl[(ndwi > 0.15) & (nir < 0.10)] = 6
    scl[((green - swir) / np.maximum(green + swir, 0.01) > 0.42) & (green > 0.25)] = 11
    cloud, cirrus, lit = (
        average(layer, ground, grid) for layer in (light.sky.cloud, light.sky.cirrus, light.sky.lit)
    )
    # Shadows are found where geometry says they should be, a pixel or so off, and grown a little.
    shade = shift(1 - lit, (0.8, -0.6), order=1, mode="nearest")
    shadow = seen_mask(shade, 0.34, rng) & (scl != 11)
    scl[shadow & binary_dilation(nir < 0.22, iterations=1)] = 3
    scl[seen_mask(cirrus, 0.11, rng, 0.03)] = 10
    scl[seen_mask(cloud, 0.16, rng)] = 8
    scl[seen_mask(cloud, 0.50, rng)] = 9
    # Bright roofs and fields pass for cloud now and then.
    scl[(blue > 0.145) & (cloud < 0.02) & (scl == 5) & (rng.random(scl.shape, dtype=np.float32) < 0.25)] = 8
    scl[~seen.footprint.covers(grid, ground.grid)] = 0
    return scl


def _facts(scl: NDArray[np.uint8]) -> dict[str, float]:
    count = np.bincount(scl.ravel(), minlength=12).astype(float)
    valid = max(count[1:].sum(), 1.0)
    share = {f"scl_{value}": 100 * count[value] / valid for value in range(1, 12)}
    return {
        **share,
        "nodata": 100 * count[0] / scl.size,
        "cloud": share["scl_8"] + share["scl_9"] + share["scl_10"],
    }
