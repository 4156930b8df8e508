"""EnMAP L2A: one file of 224 bands at 30 m in a rotated footprint, and its quality layers."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from catalog.grids import Grid, north_up
from deployments.sandbox.atmosphere import Light, average, seen_mask
from deployments.sandbox.landscape import Ground
from deployments.sandbox.plan import Observation
from deployments.sandbox.sensors import Picture, Raster
from deployments.sandbox.spectra import Array

SCALE, NODATA = 1e-4, -32768
GSD_M = 30.0
BLUR_PX = 0.5
"""Width (standard deviation) of the optics' point spread and of orthorectification, pixels."""
EDGE_M = 15.0
"""Pixel edges lie here modulo 30 m, as in the archive's items: pixel centres lie on multiples of 30 m."""


@dataclass(frozen=True)
class EnmapBands:
    """The 224 bands in file order (ascending wavelength, so the two detectors interleave around 950 nm)."""

    centers_nm: tuple[float, ...]
    fwhm_nm: tuple[float, ...]
    swir: tuple[bool, ...]


@cache
def enmap_bands(version: str = "01.04.02") -> EnmapBands:
    """Wavelengths as a processor version has them: another list before 01.04 than since."""
    path = Path(__file__).with_name("enmap_bands.csv" if version >= "01.04" else "enmap_bands_2022.csv")
    with path.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    return EnmapBands(
        tuple(float(row["center_nm"]) for row in rows),
        tuple(float(row["fwhm_nm"]) for row in rows),
        tuple(row["detector"] == "SWIR" for row in rows),
    )


def scene_grid(square: Grid) -> Grid:
    """The raster that bounds the tile."""
    _, _, west, _, _, north = square.affine
    side = round(square.shape[0] * square.resolution[0] / GSD_M) + (1 if EDGE_M else 0)
    return north_up(square.epsg, west - EDGE_M, north + EDGE_M, GSD_M, (side, side))


def simulate(
    ground: Ground,
    light: Light,
    seen: Observation,
    sun_elevation: float,
    rng: np.random.Generator,
    truth: dict[str, Array] | None = None,
) -> Picture:
    """The spectral image and the quality layers of one tile; ``truth`` is filled with its reflectance."""
    bands, grid = enmap_bands(seen.version), scene_grid(ground.grid)
    weights = gaussian_filter(average(light.weights, ground, grid), (0, BLUR_PX, BLUR_PX), truncate=3.4)
    inside = seen.footprint.covers(grid, ground.grid)
    floor, share, wobble = _noise_model(bands)
    by_night = sun_elevation <= 0
    gain = (1 + wobble * np.float32(rng.normal())).astype(np.float32)
    if seen.role == "reprocessed":
        gain = gain * np.float32(0.995)
    values = light.reflectance(weights, bands.centers_nm, bands.fwhm_nm, gain)
    if by_night:
        values *= 0
        share = share * 0
    noise = rng.standard_normal(values.shape, dtype=np.float32)
    # Detector columns differ by a little for the whole scene: stripes along the track.
    noise += np.float32(0.35) * rng.standard_normal((values.shape[0], 1, values.shape[2]), dtype=np.float32)
    values += noise * (floor[:, None, None] + share[:, None, None] * values)
    if truth is not None:
        truth["image"] = values.copy()
    values *= np.float32(1 / SCALE)
    np.rint(values, out=values)
    np.clip(values, -2000, 20000, out=values)
    image = values.astype(np.int16)
    image[:, ~inside] = NODATA
    rasters = {"image": Raster(image, grid, NODATA)}
    layers = _quality(light, ground, weights, inside, grid, rng, by_night)
    for name, layer in layers.items():
        rasters[name] = Raster(layer[None], grid, 3 if name == "quality_classes" else None, quality=True)
    valid = max(int(inside.sum()), 1)

    def percent(name: str, value: int = 1) -> float:
        return 100 * float((layers[name][inside] == value).sum()) / valid

    return Picture(
        rasters,
        {
            "cloud": percent("quality_cloud"),
            "shadow": percent("quality_cloud_shadow"),
            "haze": percent("quality_haze"),
            "cirrus": percent("quality_cirrus"),
            "snow": percent("quality_snow"),
            "water": percent("quality_classes", 2),
            "nodata": 100 * (1 - valid / inside.size),
        },
    )


def _noise_model(bands: EnmapBands) -> tuple[Array, Array, Array]:
    """Noise floor, noise share of the signal, and how far a scene's water-vapour residue may push a band."""
    nm = np.array(bands.centers_nm)
    floor = np.where(np.array(bands.swir), 0.0009, 0.0006) + 0.0022 * np.exp(-(nm - 418) / 25)
    floor += 0.0016 * np.clip((nm - 2150) / 300, 0, 1) ** 2
    share = np.full(nm.shape, 0.0025)
    wobble = np.full(nm.shape, 0.002)
    # Oxygen at 760 nm and water vapour at 820, 940, 1130, 1380 and 1850 nm leave less light to measure.
    for centre, width, noise, residue in (
        (761, 4, 0.012, 0.03),
        (820, 10, 0.004, 0.01),
        (943, 18, 0.012, 0.05),
        (1130, 22, 0.012, 0.04),
        (1385, 34, 0.22, 0.25),
        (1850, 62, 0.22, 0.25),
    ):
        depth = np.exp(-0.5 * ((nm - centre) / width) ** 2)
        share += noise * depth
        wobble += residue * depth
        floor += 0.04 * noise * depth
    return floor.astype(np.float32), share.astype(np.float32), wobble.astype(np.float32)


def _quality(
    light: Light,
    ground: Ground,
    weights: Array,
    inside: NDArray[np.bool_],
    grid: Grid,
    rng: np.random.Generator,
    by_night: bool,
) -> dict[str, NDArray[np.uint8]]:
    """0/1 masks (0 outside the tile), and classes: 1 land, 2 water, 3 background, 0 undecided."""
    cloud, cirrus, lit = (
        average(layer, ground, grid) for layer in (light.sky.cloud, light.sky.cirrus, light.sky.lit)
    )
    green, nir, swir = light.reflectance(weights, (560.0, 865.0, 1610.0), (10.0, 10.0, 10.0))
    is_cloud = seen_mask(cloud, 0.28, rng)
    masks = {
        "quality_cloud": is_cloud,
        "quality_cloud_shadow": seen_mask(1 - lit, 0.36, rng) & ~is_cloud,
        "quality_haze": seen_mask(cloud, 0.08, rng, 0.03) & ~is_cloud,
        "quality_cirrus": seen_mask(cirrus, 0.10, rng, 0.03) & ~is_cloud,
        "quality_snow": ((green - swir) > 0.42 * np.maximum(green + swir, 0.01)) & (green > 0.25) & ~is_cloud,
    }
    water = ((green - nir) > 0.15 * np.maximum(green + nir, 0.01)) & (nir < 0.10) & ~is_cloud
    classes = np.where(is_cloud, 0, np.where(water, 2, 1)).astype(np.uint8)
    classes[~inside] = 3
    if by_night:
        classes[inside] = 0
    return {
        "quality_classes": classes,
        **{name: (mask & inside & (not by_night)).astype(np.uint8) for name, mask in masks.items()},
    }
