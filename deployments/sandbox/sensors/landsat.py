"""Landsat Collection 2 Level 2: the reflectances of TM, ETM+ or OLI, temperature and QA_PIXEL at 30 m."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, gaussian_filter

from catalog.grids import Grid, north_up
from deployments.sandbox.atmosphere import Light, average, seen_mask
from deployments.sandbox.landscape import Ground
from deployments.sandbox.observation import Observation
from deployments.sandbox.seasons import Weather
from deployments.sandbox.sensors import Picture, Raster
from deployments.sandbox.sensors.landsat_instruments import INSTRUMENTS, Instrument
from deployments.sandbox.sensors.scan_lines import missing_lines
from deployments.sandbox.spectra import Array

SCALE, OFFSET = 2.75e-5, -0.2
KELVIN_SCALE, KELVIN_OFFSET = 0.00341802, 149.0
NOISE_FLOOR, NOISE_SHARE = 0.0007, 0.004
GSD_M = 30.0
BLUR_PX = 0.4
"""Width (standard deviation) of the optics' point spread, pixels."""


def scene_grid(square: Grid) -> Grid:
    """Pixel *centres* lie on multiples of 30 m, so edges lie at 15 m; reaches 15 m over the square."""
    _, _, west, _, _, north = square.affine
    side = round(square.shape[0] * square.resolution[0] / GSD_M) + 1
    return north_up(square.epsg, west - 15, north + 15, GSD_M, (side, side))


def simulate(
    ground: Ground,
    light: Light,
    seen: Observation,
    day: Weather,
    sun_elevation: float,
    rng: np.random.Generator,
    truth: dict[str, Array] | None = None,
) -> Picture:
    """All band files of one scene and its QA_PIXEL; ``truth`` is filled with what the numbers stand for."""
    instrument = INSTRUMENTS[seen.platform]
    bands = instrument.surface
    grid = scene_grid(ground.grid)
    weights = average(light.weights, ground, grid)
    values = light.reflectance(
        weights, [band[1] for band in bands.values()], [band[2] for band in bands.values()]
    )
    values = gaussian_filter(values, (0, BLUR_PX, BLUR_PX), truncate=3.4)
    values += rng.standard_normal(values.shape, dtype=np.float32) * (NOISE_FLOOR + NOISE_SHARE * values)
    if seen.role == "reprocessed":
        values = values * np.float32(1.004)
    inside = seen.footprint.covers(grid, ground.grid)

    def numbers(physical: Array, scale: float, offset: float, place: int) -> NDArray[np.uint16]:
        raw = np.rint((physical - np.float32(offset)) * np.float32(1 / scale))
        there = inside & ~missing_lines(seen, grid, place)
        return np.where(there, np.clip(raw, 1, 65535), 0).astype(np.uint16)

    rasters = {
        name: Raster(numbers(band, SCALE, OFFSET, place)[None], grid, 0)
        for place, (name, band) in enumerate(zip(bands, values, strict=True))
    }
    asset, _, sampling = instrument.thermal
    kelvin = temperature(ground, light, weights, day, sun_elevation, grid, rng, sampling)
    rasters[asset] = Raster(numbers(kelvin, KELVIN_SCALE, KELVIN_OFFSET, len(bands))[None], grid, 0)
    if truth is not None:
        truth |= {**dict(zip(bands, values, strict=True)), asset: kelvin}
    reflectance = dict(zip(bands, values, strict=True))
    quality = qa_pixel(light, ground, reflectance, inside, grid, rng, instrument)
    gaps = np.logical_and.reduce([missing_lines(seen, grid, place) for place in range(len(bands) + 1)])
    quality = np.where(gaps, 1, quality).astype(np.uint16)
    rasters["qa_pixel"] = Raster(quality[None], grid, 1, quality=True)
    return Picture(rasters, facts_of(quality))


def facts_of(quality: NDArray[np.uint16]) -> dict[str, float]:
    """Per cent of cloud (of what was seen) and of fill, by QA_PIXEL."""
    seen = (quality & 1) == 0
    valid = max(int(seen.sum()), 1)
    cloud = 100 * float(((quality & 0b1000) != 0)[seen].sum()) / valid
    return {"cloud": cloud, "nodata": 100 * (1 - valid / seen.size)}


def temperature(
    ground: Ground,
    light: Light,
    weights: Array,
    day: Weather,
    sun_elevation: float,
    grid: Grid,
    rng: np.random.Generator,
    sampling_m: float,
) -> Array:
    """Surface temperature, kelvin: sunlit bare and built-up ground is hot, plants are cool."""
    heating = np.array(
        [
            {"soil": 22, "roof": 25, "asphalt": 27, "dry": 17, "water": 1, "snow": -4}.get(name, 9)
            for name in light.covers
        ],
        np.float32,
    )
    sun = np.float32(max(np.sin(np.radians(sun_elevation)), 0))
    warm = np.tensordot(heating, weights[: len(light.covers)], axes=1) * sun
    height = average(ground.height_m, ground, grid)
    kelvin = day.air_kelvin + warm - 0.0065 * (height - 520) - 38 * weights[-2] - 14 * weights[-1]
    kelvin = gaussian_filter(kelvin, sampling_m / GSD_M / 2.3548)
    return np.asarray(kelvin + 0.15 * rng.standard_normal(kelvin.shape), np.float32)


def qa_pixel(
    light: Light,
    ground: Ground,
    bands: dict[str, Array],
    inside: NDArray[np.bool_],
    grid: Grid,
    rng: np.random.Generator,
    instrument: Instrument,
) -> NDArray[np.uint16]:
    """QA_PIXEL as the Collection 2 bit table has it; clear land is 21824, clear water 21952, fill 1."""
    cloud, cirrus, lit = (
        average(layer, ground, grid) for layer in (light.sky.cloud, light.sky.cirrus, light.sky.lit)
    )
    is_cloud = seen_mask(cloud, 0.30, rng)
    near_cloud = binary_dilation(is_cloud, iterations=2) & ~is_cloud
    is_shadow = seen_mask(1 - lit, 0.36, rng) & ~is_cloud
    is_cirrus = seen_mask(cirrus, 0.10, rng, 0.03) & ~is_cloud
    if not instrument.sees_cirrus:
        # TM and ETM+ have no band for it: its bits stay empty.
        is_cirrus = np.zeros(is_cirrus.shape, np.bool_)
    green, nir, swir = bands["green"], bands["nir08"], bands["swir16"]
    is_water = ((green - nir) > 0.15 * np.maximum(green + nir, 0.01)) & (nir < 0.10) & ~is_cloud
    is_snow = ((green - swir) > 0.42 * np.maximum(green + swir, 0.01)) & (green > 0.25) & ~is_cloud

    def confidence(high: NDArray[np.bool_], bit: int) -> NDArray[np.uint16]:
        return np.where(high, 3 << bit, 1 << bit).astype(np.uint16)

    quality = confidence(is_cloud, 8) | confidence(is_shadow, 10)
    quality |= confidence(is_snow, 12)
    if instrument.sees_cirrus:
        quality |= confidence(is_cirrus, 14)
    for flag, bit in (
        (near_cloud, 1),
        (is_cirrus, 2),
        (is_cloud, 3),
        (is_shadow, 4),
        (is_snow, 5),
        (~is_cloud, 6),
        (is_water, 7),
    ):
        quality |= np.where(flag, 1 << bit, 0).astype(np.uint16)
    return np.where(inside, quality, 1).astype(np.uint16)
