"""The instruments of Landsat 5, 7, 8 and 9: their bands, and what a number of a Level-1 file means."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class Level1Band:
    """One file of a Level-1 scene."""

    band: str
    """As in the MTL, e.g. ``B6_VCID_1``."""
    center_nm: float
    fwhm_nm: float
    radiance: tuple[float, float] | None = None
    """(gain, bias), W m⁻² sr⁻¹ µm⁻¹ per number; None where the scale is one of reflectance (OLI)."""
    irradiance: float = 0.0
    """Of the sun outside the atmosphere, W m⁻² µm⁻¹."""
    kelvin: tuple[float, float] | None = None
    """(K1, K2) of a thermal band."""

    def coefficients(self, when: datetime) -> dict[str, float]:
        """The MTL's coefficients for a sensing time, without the sine of the sun's elevation."""
        if self.kelvin is not None and self.radiance is not None:
            (gain, bias), (k1, k2) = self.radiance, self.kelvin
            return {"radiance_mult": gain, "radiance_add": bias, "k1": k1, "k2": k2}
        unit = math.pi * sun_distance(when) ** 2 / self.irradiance
        mult, add = OLI_REFLECTANCE if self.radiance is None else (part * unit for part in self.radiance)
        return {
            "reflectance_mult": mult,
            "reflectance_add": add,
            "radiance_mult": mult / unit,
            "radiance_add": add / unit,
        }


@dataclass(frozen=True)
class Instrument:
    """What one kind of Landsat carries."""

    letters: str
    """With which its product ids begin."""
    title: str
    """As the Level-2 catalogue names its bands."""
    names: tuple[str, ...]
    surface: dict[str, tuple[str, float, float]]
    """Level-2 asset → (band, centre nm, FWHM nm)."""
    thermal: tuple[str, str, int]
    """Level-2 asset, band and native sampling (m) of surface temperature."""
    level_1: dict[str, Level1Band] = field(default_factory=dict)
    """Level-1 asset → band."""
    largest: int = 65535
    """Number that a Level-1 file can hold at most."""
    sees_cirrus: bool = False


def sun_distance(when: datetime) -> float:
    """From the Earth, astronomical units, to a few parts in ten thousand."""
    return 1 - 0.01672 * math.cos(math.radians(0.9856 * (when.timetuple().tm_yday - 4)))


OLI_REFLECTANCE = (2e-5, -0.1)
"""REFLECTANCE_MULT and _ADD of every OLI band of Collection 2."""

_OLI = {
    "coastal": ("B1", 442.9, 16.0, 1895.6),
    "blue": ("B2", 482.7, 60.0, 2004.6),
    "green": ("B3", 561.3, 57.0, 1820.7),
    "red": ("B4", 654.6, 38.0, 1549.4),
    "nir08": ("B5", 864.6, 28.0, 951.2),
    "swir16": ("B6", 1609.1, 85.0, 247.6),
    "swir22": ("B7", 2201.2, 187.0, 85.5),
}

OLI = Instrument(
    "LC",
    "OLI",
    ("oli", "tirs"),
    {key: band[:3] for key, band in _OLI.items()},
    ("lwir11", "ST_B10", 100),
    {
        **{key: Level1Band(*band[:3], irradiance=band[3]) for key, band in _OLI.items()},
        "pan": Level1Band("B8", 591.7, 172.0, irradiance=1723.9),
        "cirrus": Level1Band("B9", 1373.4, 20.0, irradiance=367.0),
        "lwir11": Level1Band("B10", 10900.0, 590.0, (3.342e-4, 0.1), kelvin=(774.8853, 1321.0789)),
        "lwir12": Level1Band("B11", 12000.0, 1000.0, (3.342e-4, 0.1), kelvin=(480.8883, 1201.1442)),
    },
    sees_cirrus=True,
)

# Gains, biases and irradiances of TM and ETM+ after Chander, Markham and Helder, Remote Sensing of
# Environment
# 113 (2009) 893; the gain states of ETM+ are those of land in summer.
TM = Instrument(
    "LT",
    "TM",
    ("tm",),
    {
        "blue": ("B1", 490.0, 70.0),
        "green": ("B2", 560.0, 80.0),
        "red": ("B3", 660.0, 60.0),
        "nir08": ("B4", 830.0, 140.0),
        "swir16": ("B5", 1650.0, 200.0),
        "swir22": ("B7", 2220.0, 270.0),
    },
    ("lwir", "ST_B6", 120),
    {
        "blue": Level1Band("B1", 490.0, 70.0, (0.765827, -2.29), 1983.0),
        "green": Level1Band("B2", 560.0, 80.0, (1.448189, -4.29), 1796.0),
        "red": Level1Band("B3", 660.0, 60.0, (1.043976, -2.21), 1536.0),
        "nir08": Level1Band("B4", 830.0, 140.0, (0.876024, -2.39), 1031.0),
        "swir16": Level1Band("B5", 1650.0, 200.0, (0.120354, -0.49), 220.0),
        "lwir": Level1Band("B6", 11450.0, 2100.0, (0.055376, 1.18), kelvin=(607.76, 1260.56)),
        "swir22": Level1Band("B7", 2220.0, 270.0, (0.065551, -0.22), 83.44),
    },
    largest=255,
)

ETM = Instrument(
    "LE",
    "ETM",
    ("etm+",),
    {
        "blue": ("B1", 480.0, 70.0),
        "green": ("B2", 560.0, 80.0),
        "red": ("B3", 660.0, 60.0),
        "nir08": ("B4", 840.0, 130.0),
        "swir16": ("B5", 1650.0, 200.0),
        "swir22": ("B7", 2200.0, 280.0),
    },
    ("lwir", "ST_B6", 60),
    {
        "blue": Level1Band("B1", 480.0, 70.0, (0.778740, -6.98), 1997.0),
        "green": Level1Band("B2", 560.0, 80.0, (0.798819, -7.20), 1812.0),
        "red": Level1Band("B3", 660.0, 60.0, (0.621654, -5.62), 1533.0),
        "nir08": Level1Band("B4", 840.0, 130.0, (0.969291, -6.07), 1039.0),
        "swir16": Level1Band("B5", 1650.0, 200.0, (0.126220, -1.13), 230.8),
        "lwir": Level1Band("B6_VCID_1", 11340.0, 2050.0, (0.067087, -0.07), kelvin=(666.09, 1282.71)),
        "lwir_high": Level1Band("B6_VCID_2", 11340.0, 2050.0, (0.037205, 3.16), kelvin=(666.09, 1282.71)),
        "swir22": Level1Band("B7", 2200.0, 280.0, (0.043898, -0.39), 84.9),
        "pan": Level1Band("B8", 710.0, 380.0, (0.975591, -5.68), 1362.0),
    },
    largest=255,
)

INSTRUMENTS = {"landsat-5": TM, "landsat-7": ETM, "landsat-8": OLI, "landsat-9": OLI}
"""By platform."""
