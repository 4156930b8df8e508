"""Landsat Collection 2 Level 1: every band at the top of the atmosphere, and the MTL that goes with it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from catalog.grids import Grid, north_up
from deployments.sandbox.atmosphere import Light, Sun, average
from deployments.sandbox.landscape import MARGIN, STEP_M, Ground
from deployments.sandbox.observation import Observation
from deployments.sandbox.seasons import Weather
from deployments.sandbox.sensors import Picture, Raster
from deployments.sandbox.sensors.landsat import (
    BLUR_PX,
    NOISE_FLOOR,
    NOISE_SHARE,
    facts_of,
    qa_pixel,
    scene_grid,
    temperature,
)
from deployments.sandbox.sensors.landsat_instruments import INSTRUMENTS, Instrument, Level1Band
from deployments.sandbox.sensors.landsat_mtl import mtl_documents
from deployments.sandbox.sensors.scan_lines import missing_lines
from deployments.sandbox.spectra import Array
from deployments.sandbox.top_of_atmosphere import toa_reflectance

PAN_M = 15.0
QUARTER = 4
"""Parts of a 10 m pixel: in 2.5 m the edges of pan pixels, at 7.5 m modulo 15 m, are whole numbers."""
THERMAL_SAMPLING_M = {"landsat-5": 120, "landsat-7": 60, "landsat-8": 100, "landsat-9": 100}
AIR_KELVIN = 0.06
"""How much of the difference to 265 K the air takes from what the ground radiates."""


def simulate(
    ground: Ground,
    light: Light,
    seen: Observation,
    day: Weather,
    sun: Sun,
    rng: np.random.Generator,
    truth: dict[str, Array] | None = None,
) -> Picture:
    """All files of one scene; ``truth`` is filled with the values before they are numbers.

    Reflectance is stated for the sun in the zenith's place: the number of a dark winter day is smaller than
    its reflectance says, by the sine of the sun's elevation, which the MTL states.
    """
    instrument = INSTRUMENTS[seen.platform]
    grid = scene_grid(ground.grid)
    inside = seen.footprint.covers(grid, ground.grid)
    weights = average(light.weights, ground, grid)
    reflective = {
        key: band for key, band in instrument.level_1.items() if band.kelvin is None and key != "pan"
    }
    values = toa_reflectance(
        light,
        weights,
        [band.center_nm for band in reflective.values()],
        [band.fwhm_nm for band in reflective.values()],
        sun.elevation,
    )
    values = gaussian_filter(values, (0, BLUR_PX, BLUR_PX), truncate=3.4)
    values += rng.standard_normal(values.shape, dtype=np.float32) * (NOISE_FLOOR + NOISE_SHARE * values)
    if seen.role == "reprocessed":
        values = values * np.float32(1.004)
    physical: dict[str, Array] = dict(zip(reflective, values, strict=True))

    kelvin = temperature(
        ground, light, weights, day, sun.elevation, grid, rng, THERMAL_SAMPLING_M[seen.platform]
    )
    kelvin = np.asarray(kelvin - AIR_KELVIN * (kelvin - 265), np.float32)
    thermal = [key for key, band in instrument.level_1.items() if band.kelvin is not None]
    for key in thermal:
        # The second thermal window is a little less clear.
        physical[key] = kelvin - np.float32(0.8) if key == "lwir12" else kelvin
    grids = dict.fromkeys(physical, grid)
    if "pan" in instrument.level_1:
        grids["pan"] = pan_grid(ground.grid)
        physical["pan"] = _pan(ground, light, instrument.level_1["pan"], sun, grids["pan"], rng)

    sine = math.sin(math.radians(sun.elevation))
    rasters: dict[str, Raster] = {}
    for place, (key, band) in enumerate(instrument.level_1.items()):
        there = seen.footprint.covers(grids[key], ground.grid) & ~missing_lines(seen, grids[key], place)
        numbers = np.clip(_numbers(physical[key], band, seen, sine), 1, instrument.largest)
        pixels = np.where(there, numbers, 0).astype(np.uint8 if instrument.largest == 255 else np.uint16)
        rasters[key] = Raster(pixels[None], grids[key], 0)
    if truth is not None:
        truth |= physical
    quality = qa_pixel(light, ground, _surface(light, weights, instrument), inside, grid, rng, instrument)
    gaps = [missing_lines(seen, grid, place) for place in range(len(instrument.level_1))]
    quality = np.where(np.logical_and.reduce(gaps), 1, quality).astype(np.uint16)
    rasters["qa_pixel"] = Raster(quality[None], grid, 1, quality=True)
    return Picture(rasters, facts_of(quality), mtl_documents(seen, sun, instrument))


def pan_grid(square: Grid) -> Grid:
    """Pixel centres lie on multiples of 15 m: half a pixel beside those of 30 m."""
    _, _, west, _, _, north = square.affine
    side = 2 * round(square.shape[0] * square.resolution[0] / 30.0) + 1
    return north_up(square.epsg, west - 7.5, north + 7.5, PAN_M, (side, side))


def _pan(
    ground: Ground, light: Light, band: Level1Band, sun: Sun, grid: Grid, rng: np.random.Generator
) -> Array:
    fine = toa_reflectance(light, light.weights, [band.center_nm], [band.fwhm_nm], sun.elevation)[0]
    fine = np.repeat(np.repeat(fine, QUARTER, axis=0), QUARTER, axis=1)
    part = STEP_M / QUARTER
    left = round((grid.affine[2] - ground.grid.affine[2]) / part) + MARGIN * QUARTER
    top = round((ground.grid.affine[5] - grid.affine[5]) / part) + MARGIN * QUARTER
    factor = round(PAN_M / part)
    rows, cols = grid.shape
    blocks = fine[top : top + rows * factor, left : left + cols * factor]
    values = blocks.reshape(rows, factor, cols, factor).mean(axis=(1, 3))
    values = gaussian_filter(values, BLUR_PX, truncate=3.4)
    noise = rng.standard_normal(values.shape, dtype=np.float32)
    return np.asarray(values + noise * (NOISE_FLOOR + NOISE_SHARE * values), np.float32)


def _numbers(values: Array, band: Level1Band, seen: Observation, sine: float) -> NDArray[np.float64]:
    facts = band.coefficients(seen.when)
    if band.kelvin is not None:
        radiance = facts["k1"] / (np.exp(facts["k2"] / values.astype(np.float64)) - 1)
        return np.rint((radiance - facts["radiance_add"]) / facts["radiance_mult"])
    return np.rint((values.astype(np.float64) * sine - facts["reflectance_add"]) / facts["reflectance_mult"])


def _surface(light: Light, weights: Array, instrument: Instrument) -> dict[str, Array]:
    """What the classification looks at: the reflectance of the ground, without noise."""
    bands = instrument.surface
    values = light.reflectance(
        weights, [band[1] for band in bands.values()], [band[2] for band in bands.values()]
    )
    return dict(zip(bands, values, strict=True))
