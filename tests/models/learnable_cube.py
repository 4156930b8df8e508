"""A small real cube of made-up ground that an encoder can learn from: places differ, dates change them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from catalog.cubes import Cube, open_cube
from catalog.products import Product, load_product
from catalog.quality import FLAGS
from catalog.samples import Location, Sample
from catalog.scenes import Scene

START = datetime(2024, 3, 1, 10, 20, 30, tzinfo=UTC)
SIZE_M = 480.0


def location(number: int, *, size_m: float = SIZE_M, split: str | None = None) -> Location:
    split = split or (("test", "probe")[number // 5 % 2] if number % 5 == 4 else "pretrain")
    return Location(
        id=f"place-{number:04d}",
        epsg=32633,
        x=500_000.0 + number * size_m,
        y=5_400_000.0,
        size_m=size_m,
        longitude=15.0 + number * 0.006,
        latitude=48.7,
        split=split,
        block=f"block-{number // 5}",
    )


def scene(number: int, product: Product) -> Scene:
    return Scene(
        id=f"{product.id}-{number}",
        product=product.id,
        archive="made-up",
        collection=product.id,
        platform="made-up",
        sensed=START + timedelta(days=60 * number),
        tile="33UXP",
        geometry={"type": "Point", "coordinates": [15.0, 48.7]},
        bbox=(14.9, 48.6, 15.9, 48.8),
        assets={},
        epsg=32633,
        origin="simulated",
    )


def sample(
    product: Product, scene_number: int, place: int, *, wedge: bool = False, size_m: float = SIZE_M
) -> Sample:
    """Two covers with spectra and a texture of the place's own; a season for all places, and noise."""
    ground = np.random.default_rng([place, 1])
    day = np.random.default_rng([scene_number, 2])
    noise = np.random.default_rng([place, scene_number, 3])
    where = location(place, size_m=size_m)
    wavelengths = np.array([band.center_nm for band in product.bands])
    covers = np.stack([_spectrum(ground, wavelengths) for _ in range(2)])
    season = _spectrum(day, wavelengths)
    waves = ground.uniform(0.004, 0.03, 2)
    phase = ground.uniform(0, 2 * np.pi, 2)
    scale, offset = product.radiometry.scale, 0.0
    pixels: dict[float, Any] = {}
    for gsd in product.resolutions_m:
        side = round(size_m / gsd)
        metres = (np.arange(side) + 0.5) * gsd
        share = 0.5 + 0.25 * (
            np.sin(metres[:, None] * waves[0] + phase[0]) + np.sin(metres[None] * waves[1] + phase[1])
        )
        at = [product.band_names.index(band.name) for band in product.bands_at(gsd)]
        clean = covers[0, at, None, None] * share + covers[1, at, None, None] * (1 - share)
        clean = clean + 0.3 * season[at, None, None]
        dirty = clean + noise.normal(0, 0.005, clean.shape)
        values = np.clip(np.round(dirty / scale), 1, 20_000).astype(product.dtype)
        if wedge:
            values[:, :, : side // 4] = product.nodata
        pixels[gsd] = values
    quality_side = round(size_m / (product.qa.gsd_m if product.qa else max(product.resolutions_m)))
    quality = np.zeros((quality_side, quality_side), np.uint8)
    if wedge:
        quality[:, : quality_side // 4] = FLAGS["nodata"]
        quality[-2:, -2:] = FLAGS["cloud"]
    return Sample(
        product=product.id,
        scene=f"{product.id}-{scene_number}",
        location=where.id,
        sensed=START + timedelta(days=60 * scene_number),
        epsg=where.epsg,
        pixels=pixels,
        affines={gsd: (gsd, 0.0, where.x, 0.0, -gsd, where.y) for gsd in product.resolutions_m},
        quality=quality,
        scale=np.full(len(product.bands), scale),
        offset=np.full(len(product.bands), offset),
        nodata_fraction=0.25 if wedge else 0.0,
        cloud_fraction=0.0,
    )


def make_cube(
    name: str = "learnable",
    product_id: str = "sentinel-2-l2a",
    *,
    places: int = 20,
    dates: int = 3,
    chunk_samples: int = 8,
) -> Cube:
    """A cube under ``SWATH_HOME``; every fifth place is not for pretraining, every seventh has one date."""
    product = load_product(product_id)
    cube = open_cube(name, create=True, chunk_samples=chunk_samples)
    with cube.write("made up") as writer:
        writer.add_locations(location(number) for number in range(places))
        writer.append(
            product,
            (
                sample(product, number, place, wedge=(place + number) % 4 == 0)
                for place in range(places)
                for number in range(1 if place % 7 == 6 else dates)
            ),
            [scene(number, product) for number in range(dates)],
        )
    return cube


def _spectrum(rng: np.random.Generator, wavelengths: Any) -> Any:
    """A smooth reflectance between about 0.05 and 0.6."""
    level, slope, bump = rng.uniform(0.08, 0.25), rng.uniform(-0.05, 0.15), rng.uniform(0, 0.25)
    centre, width = rng.uniform(500, 2200), rng.uniform(150, 600)
    return np.clip(
        level + slope * (wavelengths - 1400) / 1000 + bump * np.exp(-(((wavelengths - centre) / width) ** 2)),
        0.02,
        0.8,
    )
