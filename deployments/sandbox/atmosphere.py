"""Sun, clouds, their shadows and haze, and the light that reaches a sensor from every pixel of the ground."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from catalog.grids import Grid
from deployments.sandbox.landscape import MARGIN, STEP_M, Ground, fractal_field
from deployments.sandbox.seasons import BY_DAY, GRASS, URBAN, Weather, cover_tables
from deployments.sandbox.spectra import COVERS, VEILS, Array, band_spectra, diffuse_share


@dataclass(frozen=True)
class Sun:
    """Where the sun stands, degrees; azimuth clockwise from north."""

    elevation: float
    azimuth: float

    @property
    def zenith(self) -> float:
        return 90.0 - self.elevation


def sun_position(when: datetime, longitude: float, latitude: float) -> Sun:
    """The sun's place in the sky to about 0.1 degree (low-precision formula of the Astronomical Almanac)."""
    days = (when.astimezone(UTC) - datetime(2000, 1, 1, 12, tzinfo=UTC)).total_seconds() / 86400
    anomaly = math.radians((357.528 + 0.9856003 * days) % 360)
    ecliptic = math.radians(
        (280.460 + 0.9856474 * days + 1.915 * math.sin(anomaly) + 0.020 * math.sin(2 * anomaly)) % 360
    )
    tilt = math.radians(23.439 - 4e-7 * days)
    ascension = math.atan2(math.cos(tilt) * math.sin(ecliptic), math.cos(ecliptic))
    declination = math.asin(math.sin(tilt) * math.sin(ecliptic))
    sidereal = math.radians((280.46062 + 360.98564737 * days + longitude) % 360)
    hour, phi = sidereal - ascension, math.radians(latitude)
    elevation = math.asin(
        math.sin(phi) * math.sin(declination) + math.cos(phi) * math.cos(declination) * math.cos(hour)
    )
    azimuth = math.atan2(
        -math.sin(hour), math.tan(declination) * math.cos(phi) - math.sin(phi) * math.cos(hour)
    )
    return Sun(math.degrees(elevation), math.degrees(azimuth) % 360)


@dataclass(frozen=True)
class SkyRequest:
    """How much of the sky is covered, and by what."""

    cloud: float = 0.0
    """Share of the scene under opaque cloud, 0-1."""
    cirrus: float = 0.0
    """Strength of thin cirrus, 0-1."""
    cell_m: float = 1700.0
    """Size of the largest clouds."""
    base_m: float = 1400.0
    """Height of the clouds over the ground, which throws their shadows aside."""


@dataclass(frozen=True)
class Sky:
    """Opacity of the veils and light in the shadows, ``(y, x)`` with the ground's margin."""

    cloud: Array
    cirrus: Array
    lit: Array
    """Share of the sun's direct light that comes through, 0 in the core of a shadow."""


def make_sky(request: SkyRequest, shape: tuple[int, int], sun: Sun, rng: np.random.Generator) -> Sky:
    """Clouds with soft edges; the field is periodic, so shadows also fall in from clouds beyond the edge."""
    one, none = np.ones(shape, np.float32), np.zeros(shape, np.float32)
    cloud, cirrus, lit = none, none, one
    if request.cloud > 0:
        field = fractal_field(rng, shape, 3.7, request.cell_m / STEP_M, 7.0)
        if request.cloud >= 1:
            cloud = np.clip(0.93 + 0.05 * field, 0.75, 1)
        else:
            edge = np.quantile(field[::3, ::3], 1 - request.cloud)
            cloud = np.clip((field - edge) / 0.4 + 0.15, 0, 1)
        reach = request.base_m * math.tan(math.radians(min(sun.zenith, 78))) / STEP_M
        down = round(reach * math.cos(math.radians(sun.azimuth)))
        right = -round(reach * math.sin(math.radians(sun.azimuth)))
        lit = 1 - np.float32(0.96) * np.roll(cloud, (down, right), (0, 1))
    if request.cirrus > 0:
        field = fractal_field(rng, shape, 3.2, 300, 16, stretch=(0.8, 1.7))
        cirrus = request.cirrus * np.clip(0.26 + 0.24 * field, 0, 0.7)
    return Sky(cloud.astype(np.float32), cirrus.astype(np.float32), lit.astype(np.float32))


@dataclass(frozen=True)
class Light:
    """What reaches the sensor, as weights of spectra: linear, so that every sensor may average it as it sees.

    ``weights`` is ``(layer, y, x)``: covers in sunlight, the same covers in skylight, then the veils.
    """

    covers: tuple[str, ...]
    weights: Array
    sky: Sky

    def reflectance(
        self, weights: Array, centers_nm: Sequence[float], fwhm_nm: Sequence[float], gain: Array | None = None
    ) -> Array:
        """Surface reflectance in bands ``(band, y, x)`` of weights averaged onto some grid."""
        spectra = band_spectra(self.covers, centers_nm, fwhm_nm)
        veils = band_spectra(VEILS, centers_nm, fwhm_nm)
        diffuse = diffuse_share(centers_nm)[:, None]
        mixing = np.concatenate([spectra * (1 - diffuse), spectra * diffuse, veils], axis=1)
        if gain is not None:
            mixing = mixing * gain[:, None]
        layers, height, width = weights.shape
        flat = mixing.astype(np.float32) @ weights.reshape(layers, height * width)
        return np.asarray(flat.reshape(-1, height, width), np.float32)


def shine(ground: Ground, day: Weather, sun: Sun, sky: Sky) -> Light:
    """Light of one day over one square."""
    tables = cover_tables()
    season = (day.day - ground.late_days - np.int16(round(day.shift_days))) % 366
    at = ground.classes.astype(np.int32) * 366 + season
    tan_zenith = math.tan(math.radians(min(sun.zenith, 70)))
    # Shade between crowns and houses deepens with a low sun.
    tone = 1 + ground.texture * np.float32(0.55 + 0.45 * tan_zenith)
    shares: dict[str, Array] = {name: tables[name].ravel()[at] * tone for name in BY_DAY}
    for name in ("herb", "broadleaf", "needle"):
        shares[name] *= ground.vigour
    town = ground.classes == URBAN
    shares["herb"] = np.where(town, shares["herb"] * ground.garden / 0.12, shares["herb"])
    shares["soil"] *= ground.soil_tone * np.float32(1 - 0.36 * day.moisture)
    wet_stone = np.float32(1 - 0.36 * day.moisture)
    shares["asphalt"] = ground.asphalt * tone * wet_stone
    shares["roof"] = ground.roof * ground.soil_tone * tone * wet_stone
    shares["water"] = tables["water"].ravel()[at] * tone
    if day.snow_line_m < 9000:
        under_trees = np.where(ground.classes >= GRASS, 0.92, 0.35).astype(np.float32)
        depth = np.clip((ground.height_m - np.float32(day.snow_line_m)) / 45 + 0.5, 0, 1)
        snow = np.where(ground.classes == 1, 0, depth * under_trees).astype(np.float32)
        for name in shares:
            shares[name] *= 1 - snow
        shares["snow"] = snow * tone
    covers = tuple(name for name in COVERS if name in shares)

    zenith, azimuth = math.radians(sun.zenith), math.radians(sun.azimuth)
    toward_x, toward_y = math.sin(zenith) * math.sin(azimuth), math.sin(zenith) * math.cos(azimuth)
    cosine = math.cos(zenith) - ground.slope_x * np.float32(toward_x) - ground.slope_y * np.float32(toward_y)
    cosine /= np.sqrt(1 + ground.slope_x**2 + ground.slope_y**2)
    # A level-2 product is normalised for a flat earth, so slopes keep their shading.
    shading = np.clip(cosine / max(math.cos(zenith), 0.05), 0.05, 2.2)
    through = (1 - sky.cloud) * (1 - sky.cirrus)
    direct = shading * sky.lit * through
    count = len(covers)
    weights = np.empty((2 * count + 2, *ground.shape), np.float32)
    for index, name in enumerate(covers):
        np.multiply(shares[name], direct, out=weights[index])
        np.multiply(shares[name], through, out=weights[count + index])
    weights[-2], weights[-1] = sky.cloud, sky.cirrus * (1 - sky.cloud)
    return Light(covers, weights, sky)


def average(values: Array, ground: Ground, target: Grid) -> Array:
    """Area means of 10 m values ``(…, y, x)`` (with margin) on a coarser grid of the same zone.

    The target's edges may lie half-way in a 10 m pixel, as Landsat's and EnMAP's do.
    """
    factor = round(target.resolution[0] / STEP_M)
    left = (target.affine[2] - ground.grid.affine[2]) / STEP_M + MARGIN
    top = (ground.grid.affine[5] - target.affine[5]) / STEP_M + MARGIN
    return _average_axis(
        _average_axis(values, -2, top, factor, target.shape[0]), -1, left, factor, target.shape[1]
    )


def _average_axis(values: Array, axis: int, start: float, factor: int, count: int) -> Array:
    first = math.floor(start + 1e-6)
    part = start - first
    if first < 0 or first + count * factor + (part > 1e-6) > values.shape[axis]:
        raise ValueError("the target grid reaches over the simulated ground")

    def every(offset: int) -> Array:
        picked: list[slice] = [slice(None)] * values.ndim
        picked[axis] = slice(first + offset, first + offset + (count - 1) * factor + 1, factor)
        return values[tuple(picked)]

    if part < 1e-6:
        if factor == 1:
            return every(0)
        total = every(0) + every(1)
        inner = range(2, factor)
    else:
        total = np.float32(1 - part) * every(0) + np.float32(part) * every(factor)
        inner = range(1, factor)
    for offset in inner:
        total += every(offset)
    total *= np.float32(1 / factor)
    return np.asarray(total)


def seen_mask(
    opacity: Array, threshold: float, rng: np.random.Generator, wobble: float = 0.10
) -> NDArray[np.bool_]:
    """A mask as a processor would draw it: right in the core, wrong here and there along thin edges."""
    shape = (opacity.shape[0], opacity.shape[1])
    return np.asarray(opacity + np.float32(wobble) * fractal_field(rng, shape, 2.4, 10, 3) > threshold)
