"""What the loader benchmark loads: native-resolution Sentinel-2 samples of real texture, radar beside them.

Two dates of 13 bands at 10, 20 and 60 m, cut at random from the real scenes of the change-detection set where
their folder is there (``SWATH_REALDATA``, or ``shared/data`` beside the repository), else from simulated
ground. The radar is always simulated: four-look speckle over the brightness of band 4, as float32.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from catalog.cubes import Cube, open_cube
from catalog.products import Product, load_product
from catalog.samples import Location, Sample
from catalog.scenes import Scene

SIDE_M = 2640
DATES = 2
START = datetime(2024, 1, 10, 10, 30, tzinfo=UTC)
OPTICAL, RADAR = "sentinel-2-l1c", "sentinel-1-rtc"
CITIES = "change-detection/ChenHongruixuan__ChangeDetectionRepository/OSCD/images"

Scenery = list[list[dict[float, NDArray[np.uint16]]]]
"""Place → date → native ground sampling in metres → raw numbers ``(band, y, x)`` of a whole scene."""


def scenery() -> tuple[Scenery, str]:
    """Ground to cut from, and what it is."""
    repository = Path(__file__).parents[2]
    folder = Path(os.environ.get("SWATH_REALDATA") or repository.parent / "shared" / "data") / CITIES
    product = load_product(OPTICAL)
    cities = [_city(path, product) for path in sorted(folder.glob("*/"))]
    if cities:
        return cities, f"real Sentinel-2 L1C of {len(cities)} cities, two dates"
    return [_simulated(product, seed) for seed in range(6)], "simulated"


def make_cube(places: int, ground: Scenery, *, name: str = "loader") -> Cube:
    """A cube under ``SWATH_HOME`` with both products at the same places and dates, chunked by default."""
    products = [load_product(OPTICAL), load_product(RADAR)]
    cube = open_cube(name, create=True, products=products)
    with cube.write("benchmark") as writer:
        writer.add_locations(_location(number) for number in range(places))
        for product in products:
            scenes = [_scene(product, date) for date in range(DATES)]
            writer.append(product, _samples(product, places, ground), scenes)
    return cube


def _samples(product: Product, places: int, ground: Scenery) -> Iterator[Sample]:
    for place in range(places):
        where = _location(place)
        for date in range(DATES):
            optical = cut(ground, place, date)
            pixels: dict[float, NDArray[Any]] = dict(optical)
            if product.id == RADAR:
                pixels = {10.0: _radar(optical[10.0][2], np.random.default_rng([2, place, date]))}
            quality_side = round(SIDE_M / (product.qa.gsd_m if product.qa else 10))
            yield Sample(
                product=product.id,
                scene=f"{product.id}-{date}",
                location=where.id,
                sensed=START + timedelta(days=180 * date),
                epsg=where.epsg,
                pixels=pixels,
                affines={gsd: (gsd, 0.0, where.x, 0.0, -gsd, where.y) for gsd in pixels},
                quality=np.zeros((quality_side, quality_side), np.uint8),
                scale=np.full(len(product.bands), 1e-4 if product.id == OPTICAL else 1.0),
                offset=np.zeros(len(product.bands)),
                nodata_fraction=0.0,
                cloud_fraction=0.0,
            )


def cut(ground: Scenery, place: int, date: int) -> dict[float, NDArray[np.uint16]]:
    """One sample's raw numbers; a place is cut from the same window of both dates."""
    random = np.random.default_rng([1, place])
    scene = ground[place % len(ground)][date]
    coarse = scene[60.0].shape[1:]
    side = SIDE_M // 60
    row, col = (int(random.integers(0, length - side + 1)) for length in coarse)
    turns, flip = int(random.integers(4)), bool(random.integers(2))
    parts = {}
    for gsd, values in scene.items():
        factor = round(60 / gsd)
        window = values[:, row * factor : (row + side) * factor, col * factor : (col + side) * factor]
        window = np.rot90(window, turns, (1, 2))
        parts[gsd] = np.ascontiguousarray(window[..., ::-1] if flip else window)
    return parts


def _radar(brightness: NDArray[np.uint16], random: np.random.Generator) -> NDArray[np.float32]:
    looks = 4
    speckle = random.gamma(looks, 1 / looks, (2, *brightness.shape))
    level = np.stack([brightness / 2e4, brightness / 1e5]) + 1e-3
    return (level * speckle).astype(np.float32)


def _city(folder: Path, product: Product) -> list[dict[float, NDArray[np.uint16]]]:
    dates = []
    for which in (1, 2):
        files = {path.stem.rpartition("_")[2]: path for path in (folder / f"imgs_{which}").glob("*.tif")}
        bands: dict[float, list[NDArray[Any]]] = {}
        for band in product.bands:
            with rasterio.open(files[band.name]) as opened:
                bands.setdefault(band.gsd_m, []).append(opened.read(1))
        # The crops end at odd pixels: what all grids cover is kept.
        rows, cols = (
            min(values.shape[axis] * int(gsd) // 60 for gsd, held in bands.items() for values in held)
            for axis in (0, 1)
        )
        parts = {}
        for gsd, held in bands.items():
            factor = round(60 / gsd)
            parts[gsd] = np.stack([values[: rows * factor, : cols * factor] for values in held])
        dates.append(parts)
    common = tuple(min(date[60.0].shape[axis] for date in dates) for axis in (1, 2))
    return [
        {
            gsd: values[:, : common[0] * round(60 / gsd), : common[1] * round(60 / gsd)]
            for gsd, values in date.items()
        }
        for date in dates
    ]


def _simulated(product: Product, seed: int) -> list[dict[float, NDArray[np.uint16]]]:
    """Power-law texture with the noise of a sensor: as hard to compress as the real one, about."""
    random = np.random.default_rng([3, seed])
    side = 9 * SIDE_M // 60 // 6 * 6
    frequency = np.fft.fftfreq(side)
    power = np.hypot(frequency[:, None], frequency[None]) ** -1.4 if side else frequency
    power[0, 0] = 0
    dates = []
    for _ in range(DATES):
        parts: dict[float, NDArray[np.uint16]] = {}
        for gsd in product.resolutions_m:
            factor, made = round(gsd / 10), []
            for _ in product.bands_at(gsd):
                field = np.fft.ifft2(power * np.fft.fft2(random.normal(size=(side, side)))).real
                field = 1500 + 500 * field / field.std()
                field = field.reshape(side // factor, factor, side // factor, factor).mean((1, 3))
                made.append(np.clip(field + random.normal(0, 12, field.shape), 1, 20_000))
            parts[gsd] = np.stack(made).astype(np.uint16)
        dates.append(parts)
    return dates


def _location(number: int) -> Location:
    return Location(
        id=f"place-{number:06d}",
        epsg=32633,
        x=400_000.0 + number % 60 * SIDE_M,
        y=5_400_000.0 + number // 60 * SIDE_M,
        size_m=SIDE_M,
        longitude=13.6 + number % 60 * 0.036,
        latitude=48.7 + number // 60 * 0.0237,
        split="pretrain",
        block=f"block-{number // 60:04d}",
    )


def _scene(product: Product, date: int) -> Scene:
    return Scene(
        id=f"{product.id}-{date}",
        product=product.id,
        archive="made-up",
        collection=product.id,
        platform="made-up",
        sensed=START + timedelta(days=180 * date),
        tile="33UWP",
        geometry={"type": "Point", "coordinates": [15.0, 48.7]},
        bbox=(13.6, 48.6, 16.0, 49.4),
        assets={},
        epsg=32633,
        origin="simulated",
    )
