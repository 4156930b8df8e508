"""The year on the ground: what covers each land-cover class on which day, its weather and its echo."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from functools import cache

import numpy as np
from numpy.typing import NDArray

from deployments.sandbox.spectra import COVERS, URBAN_MIX, Array, band_spectra

CLASSES = {
    1: "water",
    2: "broadleaf forest",
    3: "conifer forest",
    4: "grassland",
    5: "winter crop",
    6: "summer crop",
    7: "bare soil",
    8: "urban",
}
"""Value in the label raster → name."""
WATER, BROADLEAF, CONIFER, GRASS, WINTER_CROP, SUMMER_CROP, BARE, URBAN = range(1, 9)
_DAYS = np.arange(366.0)
BY_DAY = ("herb", "broadleaf", "needle", "dry", "soil")
"""Covers whose share follows the calendar; the others stand still."""


def _rise_and_fall(rise: float, rise_days: float, fall: float, fall_days: float) -> NDArray[np.float64]:
    """0 → 1 → 0 over the year: a double logistic in days of the year."""
    up = 1 / (1 + np.exp(-(_DAYS - rise) / rise_days))
    down = 1 / (1 + np.exp(-(_DAYS - fall) / fall_days))
    return np.asarray(up - down)


@cache
def cover_tables() -> dict[str, Array]:
    """Cover name → its share by class and day of the year, ``(class + 1, 366)``.

    The two crops have the same yearly mean of every cover: they differ in their season alone.
    """
    tables = {name: np.zeros((len(CLASSES) + 1, 366)) for name in COVERS}
    tables["water"][WATER] = 1.0

    leaf = 0.10 + 0.90 * _rise_and_fall(114, 6, 296, 9)
    tables["broadleaf"][BROADLEAF] = 0.74 * leaf
    tables["dry"][BROADLEAF] = 0.06 + 0.34 * (1 - leaf)
    tables["soil"][BROADLEAF] = 0.04
    young = 0.86 + 0.14 * _rise_and_fall(135, 12, 280, 20)
    tables["needle"][CONIFER] = 0.80 * young
    tables["dry"][CONIFER] = 0.05
    tables["soil"][CONIFER] = 0.03

    sward = 0.44 + 0.44 * _rise_and_fall(92, 9, 300, 14) - 0.22 * _rise_and_fall(166, 3, 184, 6)
    tables["herb"][GRASS] = sward
    tables["dry"][GRASS] = 0.72 * (1 - sward)
    tables["soil"][GRASS] = 0.28 * (1 - sward)

    winter = (
        0.88 * _rise_and_fall(84, 9, 178, 6)
        + 0.13 * (_rise_and_fall(-60, 10, 90, 12) + _rise_and_fall(302, 9, 470, 10))
        + 0.06 * _rise_and_fall(212, 8, 246, 6)
    )
    stubble = 0.62 * _rise_and_fall(184, 5, 240, 5)
    harvest = _summer_harvest(float(winter.mean()))
    summer = 0.90 * _rise_and_fall(158, 8, harvest, 6)
    straw = _rise_and_fall(harvest + 6, 5, harvest + 62, 5)
    straw *= stubble.mean() / straw.mean()
    for crop, green, dead in ((WINTER_CROP, winter, stubble), (SUMMER_CROP, summer, straw)):
        tables["herb"][crop] = green
        tables["dry"][crop] = dead
        tables["soil"][crop] = 1 - green - dead

    weeds = (1 - sum(URBAN_MIX.values())) * (0.45 + 0.55 * _rise_and_fall(95, 12, 290, 16))
    tables["herb"][BARE] = weeds
    tables["soil"][BARE] = sum(URBAN_MIX.values())
    tables["herb"][URBAN] = weeds
    for cover, share in URBAN_MIX.items():
        tables[cover][URBAN] = share
    return {name: np.asarray(table, np.float32) for name, table in tables.items()}


def _summer_harvest(mean_green: float) -> float:
    """Day on which the summer crop is cut, so that its yearly mean of green is that of the winter crop."""
    low, high = 180.0, 330.0
    for _ in range(50):
        middle = (low + high) / 2
        if 0.90 * _rise_and_fall(158, 8, middle, 6).mean() < mean_green:
            low = middle
        else:
            high = middle
    return low


def class_spectrum(
    class_id: int, day: int, centers_nm: tuple[float, ...], fwhm_nm: tuple[float, ...]
) -> NDArray[np.float64]:
    """Mean reflectance of a class on a day of the year, without shade, weather or noise, ``(band,)``."""
    shares = np.array([cover_tables()[name][class_id, day % 366] for name in COVERS], float)
    return np.asarray(band_spectra(COVERS, centers_nm, fwhm_nm) @ shares, float)


@dataclass(frozen=True)
class Weather:
    """What one day adds to the season; the same for every sensor."""

    day: int
    """Day of the year, 0-365."""
    shift_days: float
    """How late this year's season is."""
    moisture: float
    """Of the topsoil, 0 dry to 1 wet."""
    air_kelvin: float
    snow_line_m: float
    """Ground above it is white."""


def weather(when: datetime, snow_line_m: float = 9999.0) -> Weather:
    """Weather of a day: slow in time, so that sensors a few days apart see the same ground."""
    t = when.timestamp() / 86400
    day = when.timetuple().tm_yday - 1
    wave = math.sin(t / 11.3) * 0.5 + math.sin(t / 4.7 + 1.1) * 0.3 + math.sin(t / 29.0 + 0.3) * 0.4
    winter = math.cos(2 * math.pi * (day - 15) / 365.25)
    return Weather(
        day=day,
        shift_days=7 * math.sin(when.year * 2.4),
        moisture=float(np.clip(0.45 + 0.25 * winter + 0.25 * wave, 0, 1)),
        air_kelvin=283.0 - 10.5 * winter + 2.0 * wave,
        snow_line_m=snow_line_m,
    )


@cache
def echo_tables() -> dict[str, Array]:
    """``vv`` and ``vh``: C-band gamma0 in dB by class and day, on dry soil, ``(class + 1, 366)``.

    Levels after the usual ranges: smooth water far below the noise of land, forest volume around -9/-15 dB,
    standing cereals darken VV as their stalks stand up, maize brightens VH, built-up land is brightest.
    """
    covers = cover_tables()
    vv, vh = np.full_like(covers["herb"], -12.0), np.full_like(covers["herb"], -19.0)
    vv[WATER], vh[WATER] = -19.5, -26.5
    leaf = covers["broadleaf"][BROADLEAF] / 0.74
    vv[BROADLEAF], vh[BROADLEAF] = -8.6 - 0.5 * leaf, -14.4 + 0.5 * leaf
    vv[CONIFER], vh[CONIFER] = -9.3, -14.6
    vv[GRASS], vh[GRASS] = -12.6 + 1.6 * covers["herb"][GRASS], -20.4 + 2.6 * covers["herb"][GRASS]
    stalks = np.clip(covers["herb"][WINTER_CROP] - 0.3, 0, None) / 0.6
    vv[WINTER_CROP], vh[WINTER_CROP] = -11.2 - 4.6 * stalks, -19.5 - 1.2 * stalks
    maize = covers["herb"][SUMMER_CROP] / 0.9
    vv[SUMMER_CROP], vh[SUMMER_CROP] = -11.2 + 1.8 * maize, -19.8 + 4.6 * maize
    vv[BARE], vh[BARE] = -11.4, -20.6
    vv[URBAN], vh[URBAN] = -7.0, -13.5
    return {"vv": np.asarray(vv, np.float32), "vh": np.asarray(vh, np.float32)}
