"""Reflectance at the top of the atmosphere: the same light with the air between ground and sensor left in."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deployments.sandbox.atmosphere import Light
from deployments.sandbox.spectra import (
    VEILS,
    WAVELENGTHS_NM,
    Array,
    diffuse_share,
    full_spectra,
    response,
)

AEROSOL_550 = 0.10
"""Optical depth of haze at 550 nm."""
# Oxygen at 761 nm, water vapour at 720, 820, 940, 1130, 1380, 1850 and beyond 2500 nm, carbon dioxide at
# 2010 nm:
# (centre nm, width nm, optical depth on the way down and up with the sun at 60 degrees).
_GASES = (
    (600, 60, 0.03),
    (720, 9, 0.08),
    (761, 4, 1.0),
    (820, 13, 0.14),
    (941, 22, 0.85),
    (1130, 26, 0.80),
    (1378, 42, 9.0),
    (1855, 62, 9.0),
    (2010, 16, 0.35),
    (2560, 90, 2.5),
)
HIGH_HAZE = 0.0012
"""Reflectance of what always floats above the water vapour: the darkest that a cirrus band ever sees."""
_ABOVE = {"cloud": 0.6, "cirrus": 0.012}
"""Share of the gases that lies above a veil."""


def rayleigh_depth(nm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Optical depth of clean air (Leckner 1978)."""
    return np.asarray(0.008735 * (nm / 1000) ** -4.08)


def toa_reflectance(
    light: Light,
    weights: Array,
    centers_nm: Sequence[float],
    fwhm_nm: Sequence[float],
    sun_elevation: float,
) -> Array:
    """What a sensor without atmospheric correction sees, ``(band, y, x)``, per unit of irradiance on a level
    plane.

    Light scattered by air and haze on its way (more of it in the blue, and with a low sun), what is left of
    the ground's light, and gases that take their bands away. ``weights`` are ``Light.weights`` on some grid.
    """
    nm = WAVELENGTHS_NM
    sine = max(math.sin(math.radians(sun_elevation)), 0.1)
    way = (1 / sine + 1) / (1 / math.sin(math.radians(60)) + 1)
    gases = sum(depth * np.exp(-0.5 * ((nm - centre) / width) ** 2) for centre, width, depth in _GASES)
    gases = np.asarray(gases) * way
    air, haze = rayleigh_depth(nm), AEROSOL_550 * (550 / nm) ** 1.3
    through = np.exp(-(0.5 * air + 0.16 * haze) * (1 / sine + 1))
    # Single scattering towards the zenith; half of the gases lie below what scatters.
    path = (air * 0.75 * (1 + sine**2) + haze * 0.22) / (4 * sine) * np.exp(-0.5 * gases) + HIGH_HAZE

    covers = full_spectra(light.covers) * (through * np.exp(-gases))[:, None]
    diffuse = np.asarray(diffuse_share(nm.tolist()), float)[:, None]
    veils = full_spectra(VEILS) * np.stack(
        [np.exp(-_ABOVE[name] * gases) * (through if name == "cloud" else 1) for name in VEILS], axis=1
    )
    mixing = np.concatenate([covers * (1 - diffuse), covers * diffuse, veils, path[:, None]], axis=1)
    bands = (response(centers_nm, fwhm_nm) @ mixing).astype(np.float32)
    layers, height, width = weights.shape
    flat = bands[:, :-1] @ weights.reshape(layers, height * width)
    values = flat.reshape(-1, height, width)
    # A cloud hides the air below it.
    values += bands[:, -1, None, None] * (1 - np.float32(0.6) * weights[-2])
    return np.asarray(values, np.float32)
