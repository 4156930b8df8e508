"""Sentinel-1 RTC: VV and VH gamma0, linear power at 10 m, with speckle and what terrain leaves over."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deployments.sandbox.landscape import MARGIN, Ground, fractal_field
from deployments.sandbox.plan import Observation
from deployments.sandbox.seasons import (
    BARE,
    GRASS,
    SUMMER_CROP,
    URBAN,
    WATER,
    WINTER_CROP,
    Weather,
    echo_tables,
)
from deployments.sandbox.sensors import Picture, Raster
from deployments.sandbox.spectra import Array

NODATA = -32768.0
LOOKS = (1.0, 1.0, 1.0, 1.0, 0.2207)
"""Weights of independent looks: their sum has an equivalent number of looks of 4.4, as IW GRDH."""
NOISE_FLOOR = {"vv": 10**-2.55, "vh": 10**-2.75}
TAGS = {"Scale": "linear", "SARPixelContent": "intensity"}


def simulate(
    ground: Ground,
    seen: Observation,
    day: Weather,
    rng: np.random.Generator,
    truth: dict[str, Array] | None = None,
) -> Picture:
    """Both polarisations of one scene; ``truth`` is filled with their power."""
    inner = slice(MARGIN, -MARGIN)
    grid = ground.grid
    # Ascending passes look to the east-north-east, descending ones to the west-north-west.
    look = math.radians(78.0 if seen.ascending else 282.0)
    tilt = ground.slope_x[inner, inner] * math.sin(look) + ground.slope_y[inner, inner] * math.cos(look)
    echo = echo_decibel(ground, seen, day, rng)
    inside = seen.footprint.covers(grid, grid)
    rasters: dict[str, Raster] = {}
    for name in ("vv", "vh"):
        # Flattening leaves a trace of the slopes: those that face the sensor stay a little brighter.
        decibel = echo[name] - 4.0 * np.tanh(2 * tilt)
        power = np.exp(decibel * np.float32(math.log(10) / 10)) + np.float32(NOISE_FLOOR[name])
        power *= speckle(rng, (decibel.shape[0], decibel.shape[1]))
        if seen.role == "reprocessed":
            power *= np.float32(1.009)
        pixels = np.where(inside, np.maximum(power, 1e-6), np.float32(NODATA)).astype(np.float32)
        rasters[name] = Raster(pixels[None], grid, NODATA, TAGS)
        if truth is not None:
            truth[name] = power
    return Picture(rasters, {"nodata": 100 * float((~inside).mean())})


def echo_decibel(
    ground: Ground, seen: Observation, day: Weather, rng: np.random.Generator
) -> dict[str, Array]:
    """What flat ground returns, gamma nought in decibels ``(y, x)`` without the margin, by polarisation."""
    inner = slice(MARGIN, -MARGIN)
    classes = ground.classes[inner, inner]
    season = (day.day - ground.late_days[inner, inner] - np.int16(round(day.shift_days))) % 366
    at = classes.astype(np.int32) * 366 + season
    tables = echo_tables()
    open_ground = np.isin(classes, (BARE, WINTER_CROP, SUMMER_CROP, GRASS))
    soaked = np.where(open_ground, 3.2 * (day.moisture - 0.4), 0).astype(np.float32)
    rough = 9.0 * (ground.soil_tone[inner, inner] - 1) * open_ground
    waves = np.where(classes == WATER, 2.5 * math.sin(seen.when.timestamp() / 1.7e5), 0).astype(np.float32)
    town = classes == URBAN
    corners = np.clip(fractal_field(rng, (classes.shape[0], classes.shape[1]), 0.6, 6, 2.5), -1, 3) ** 2
    houses = np.where(town, 7.5 * ground.roof[inner, inner] + 2.2 * corners - 4.5, 0).astype(np.float32)
    canopy = 10.0 * np.where(town, 0, ground.texture[inner, inner])
    pairs: tuple[tuple[str, Any], ...] = (("vv", soaked), ("vh", 0.6 * soaked))
    return {name: tables[name].ravel()[at] + wet + rough + waves + houses + canopy for name, wet in pairs}


def speckle(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Multiplicative speckle of mean 1: looks of a complex field as wide as the sensor's 20 m resolution."""
    padded = (shape[0] + 2, shape[1] + 2)
    total = np.zeros(shape, np.float32)
    for weight in LOOKS:
        for _ in range(2):
            field = rng.standard_normal(padded, dtype=np.float32)
            field = field[:-2] * np.float32(0.45) + field[1:-1] + field[2:] * np.float32(0.45)
            field = field[:, :-2] * np.float32(0.45) + field[:, 1:-1] + field[:, 2:] * np.float32(0.45)
            np.square(field, out=field)
            field *= np.float32(weight)
            total += field
    variance = (1 + 2 * 0.45**2) ** 2
    return np.asarray(total / np.float32(2 * variance * sum(LOOKS)), np.float32)
