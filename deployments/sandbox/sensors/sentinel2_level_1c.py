"""Sentinel-2 L1C: 13 bands at the top of the atmosphere, and no scene classification."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from deployments.sandbox.atmosphere import Light, average
from deployments.sandbox.landscape import Ground
from deployments.sandbox.observation import Observation
from deployments.sandbox.sensors import Picture, Raster
from deployments.sandbox.sensors.sentinel2 import BANDS as LEVEL_2A_BANDS
from deployments.sandbox.sensors.sentinel2 import (
    BLUR_PX,
    NOISE_FLOOR,
    NOISE_SHARE,
    QUANTIFICATION,
    granule_grid,
    offset_dn,
)
from deployments.sandbox.spectra import Array
from deployments.sandbox.top_of_atmosphere import toa_reflectance

BANDS = dict(
    sorted({**LEVEL_2A_BANDS, "B10": (60, 1373.5, 29, 1376.9, 30)}.items(), key=lambda entry: entry[1][1])
)
"""As at Level 2A, and B10, in which only cirrus is seen."""
CIRRUS_FLOOR = 0.0003
"""Noise of B10, whose signal is small: without an offset hardly a number is cut off at the lowest."""


def simulate(
    ground: Ground,
    light: Light,
    seen: Observation,
    sun_elevation: float,
    rng: np.random.Generator,
    truth: dict[str, Array] | None = None,
) -> Picture:
    """All band files of one granule; ``truth`` is filled with the values before they are numbers."""
    rasters: dict[str, Raster] = {}
    gain, bias = (1.006, 0.0008) if seen.role == "reprocessed" else (1.0, 0.0)
    first = 1 if seen.platform == "sentinel-2a" else 3
    for gsd in (10, 20, 60):
        grid = granule_grid(ground.grid, gsd)
        names = [name for name, band in BANDS.items() if band[0] == gsd]
        values = toa_reflectance(
            light,
            average(light.weights, ground, grid),
            [BANDS[name][first] for name in names],
            [BANDS[name][first + 1] for name in names],
            sun_elevation,
        )
        values = gaussian_filter(values, (0, BLUR_PX, BLUR_PX), truncate=3.4)
        noise = rng.standard_normal(values.shape, dtype=np.float32)
        floors = np.array([CIRRUS_FLOOR if name == "B10" else NOISE_FLOOR for name in names], np.float32)
        values += noise * (floors[:, None, None] + NOISE_SHARE * values)
        values = values * np.float32(gain) + np.float32(bias)
        inside = seen.footprint.covers(grid, ground.grid)
        for name, band in zip(names, values, strict=True):
            numbers = np.rint(band * QUANTIFICATION) + offset_dn(seen.version)
            numbers = np.where(inside, np.clip(numbers, 1, 65535), 0).astype(np.uint16)
            rasters[name] = Raster(numbers[None], grid, 0 if seen.nodata_tag else None)
            if truth is not None:
                truth[name] = band
    cloud = 100 * float((average(light.sky.cloud, ground, granule_grid(ground.grid, 20)) > 0.4).mean())
    return Picture(rasters, {"cloud": cloud, "nodata": 100 * float((~inside).mean())})
