"""Reflectance spectra of what covers the ground, and what a band of given centre and width sees of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

Array = NDArray[np.float32]

COVERS = ("herb", "broadleaf", "needle", "dry", "soil", "water", "asphalt", "roof", "snow")
"""What a pixel can be made of; the rest of it is shade, which reflects nothing."""
VEILS = ("cloud", "cirrus")
"""What can lie between the ground and the sensor."""

WAVELENGTHS_NM = np.arange(380.0, 2521.0, 2.0)

# (wavelength nm, reflectance) knots drawn by hand after the well-known shapes: chlorophyll absorption at 450
# and 670 nm with the green peak between, red edge around 718 nm, leaf-water dips at 970, 1190, 1450 and
# 1940 nm, ligno-cellulose at 2100 and 2300 nm, clay at 2200 nm, ice at 1030, 1270, 1500 and 2000 nm.
_GREEN_LEAF = (
    (380, 0.032), (450, 0.036), (500, 0.042), (530, 0.075), (552, 0.098), (575, 0.078), (610, 0.056),
    (645, 0.045), (672, 0.034), (688, 0.045), (700, 0.105), (712, 0.195), (724, 0.305), (738, 0.405),
    (755, 0.455), (780, 0.475), (850, 0.487), (915, 0.490), (945, 0.476), (972, 0.455), (1005, 0.470),
    (1070, 0.485), (1110, 0.470), (1150, 0.425), (1195, 0.400), (1265, 0.425), (1300, 0.410),
    (1345, 0.335), (1390, 0.195), (1430, 0.105), (1455, 0.095), (1500, 0.140), (1560, 0.215),
    (1650, 0.275), (1690, 0.270), (1780, 0.235), (1850, 0.165), (1900, 0.060), (1940, 0.042),
    (1990, 0.060), (2070, 0.100), (2140, 0.125), (2210, 0.140), (2260, 0.128), (2330, 0.100),
    (2400, 0.070), (2460, 0.050), (2520, 0.040),
)  # fmt: skip
_DRY = (
    (380, 0.070), (450, 0.095), (550, 0.165), (650, 0.225), (700, 0.255), (800, 0.320), (900, 0.360),
    (1000, 0.392), (1100, 0.415), (1200, 0.412), (1300, 0.430), (1390, 0.410), (1450, 0.345),
    (1500, 0.360), (1600, 0.418), (1670, 0.428), (1730, 0.402), (1800, 0.405), (1880, 0.360),
    (1935, 0.265), (2000, 0.275), (2050, 0.272), (2100, 0.248), (2200, 0.292), (2270, 0.262),
    (2310, 0.250), (2380, 0.235), (2450, 0.215), (2520, 0.200),
)  # fmt: skip
_SOIL = (
    (380, 0.050), (450, 0.068), (500, 0.086), (560, 0.118), (620, 0.148), (700, 0.180), (800, 0.212),
    (870, 0.228), (950, 0.248), (1050, 0.274), (1200, 0.305), (1350, 0.326), (1395, 0.300),
    (1420, 0.292), (1500, 0.322), (1600, 0.342), (1750, 0.350), (1870, 0.338), (1925, 0.262),
    (1960, 0.272), (2050, 0.312), (2130, 0.322), (2170, 0.310), (2205, 0.286), (2240, 0.306),
    (2300, 0.302), (2400, 0.280), (2520, 0.255),
)  # fmt: skip
_WATER = (
    (380, 0.030), (450, 0.036), (500, 0.042), (550, 0.046), (580, 0.039), (620, 0.026), (665, 0.020),
    (705, 0.017), (740, 0.009), (800, 0.008), (860, 0.006), (940, 0.004), (1100, 0.003), (1600, 0.002),
    (2200, 0.002), (2520, 0.002),
)  # fmt: skip
_ASPHALT = (
    (380, 0.062), (450, 0.072), (550, 0.086), (650, 0.097), (800, 0.110), (1000, 0.124), (1300, 0.140),
    (1600, 0.152), (1730, 0.150), (1900, 0.150), (2100, 0.150), (2200, 0.146), (2310, 0.136),
    (2450, 0.136), (2520, 0.135),
)  # fmt: skip
_SNOW = (
    (380, 0.94), (500, 0.95), (600, 0.94), (700, 0.92), (800, 0.88), (900, 0.82), (960, 0.78),
    (1030, 0.66), (1090, 0.70), (1200, 0.44), (1270, 0.36), (1330, 0.40), (1400, 0.22), (1500, 0.06),
    (1600, 0.09), (1700, 0.13), (1830, 0.20), (1930, 0.06), (2020, 0.03), (2250, 0.12), (2400, 0.06),
    (2520, 0.03),
)  # fmt: skip
_CLOUD = (
    (380, 0.80), (500, 0.80), (700, 0.80), (900, 0.78), (1100, 0.76), (1250, 0.74), (1380, 0.55),
    (1500, 0.50), (1650, 0.62), (1800, 0.54), (1950, 0.34), (2100, 0.40), (2220, 0.46), (2400, 0.36),
    (2520, 0.30),
)  # fmt: skip
_CIRRUS = (
    (380, 0.62), (500, 0.58), (700, 0.54), (900, 0.50), (1100, 0.47), (1380, 0.42), (1500, 0.22),
    (1650, 0.32), (1950, 0.12), (2200, 0.24), (2520, 0.16),
)  # fmt: skip

URBAN_MIX = {"roof": 0.44, "asphalt": 0.44}
"""Mean cover of built-up land; the rest is garden. Bare land has the same share of sparse herbs."""


def _curve(knots: Sequence[tuple[float, float]]) -> NDArray[np.float64]:
    x, y = np.array(knots, float).T
    return np.asarray(PchipInterpolator(x, y)(WAVELENGTHS_NM))


@cache
def _library() -> dict[str, NDArray[np.float64]]:
    leaf, soil, asphalt = _curve(_GREEN_LEAF), _curve(_SOIL), _curve(_ASPHALT)
    visible = 1 / (1 + np.exp((WAVELENGTHS_NM - 715) / 12))
    # Roofs are of the local clay: the mean of built-up land then equals that of bare land in every band, and
    # only its texture (and its radar echo) tells the two apart.
    mineral = sum(URBAN_MIX.values())
    roof = (mineral * soil - URBAN_MIX["asphalt"] * asphalt) / URBAN_MIX["roof"]
    return {
        "herb": leaf,
        "broadleaf": leaf * (0.92 - 0.06 * visible),
        # Needles: less scattering within the leaf, and a clumped canopy that traps light.
        "needle": leaf * (0.86 - 0.10 * visible) * (1 - 0.08 * (WAVELENGTHS_NM > 1300)),
        "dry": _curve(_DRY),
        "soil": soil,
        "water": _curve(_WATER),
        "asphalt": asphalt,
        "roof": roof,
        "snow": _curve(_SNOW),
        "cloud": _curve(_CLOUD),
        "cirrus": _curve(_CIRRUS),
    }


def response(centers_nm: Sequence[float], fwhm_nm: Sequence[float]) -> NDArray[np.float64]:
    """Gaussian band responses that sum to one, ``(band, wavelength)``."""
    sigma = np.asarray(fwhm_nm, float)[:, None] / 2.3548
    weights = np.exp(-0.5 * ((WAVELENGTHS_NM[None] - np.asarray(centers_nm, float)[:, None]) / sigma) ** 2)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def band_spectra(names: Sequence[str], centers_nm: Sequence[float], fwhm_nm: Sequence[float]) -> Array:
    """Reflectance of the named covers in bands, ``(band, cover)``."""
    library = np.stack([_library()[name] for name in names], axis=1)
    return np.asarray(response(centers_nm, fwhm_nm) @ library, np.float32)


def full_spectra(names: Sequence[str]) -> NDArray[np.float64]:
    """Reflectance of the named covers at ``WAVELENGTHS_NM``, ``(wavelength, cover)``."""
    return np.stack([_library()[name] for name in names], axis=1)


def diffuse_share(centers_nm: Sequence[float]) -> Array:
    """Share of the light from the sky, not the sun's disc: what is left in a shadow. ``(band,)``"""
    return np.asarray(np.clip(0.30 * (450 / np.asarray(centers_nm, float)) ** 1.5, 0.02, 0.45), np.float32)
