"""Made-up Sentinel-2 tiles for the cubing benchmark: 12 single-band COGs, and the windows wanted from them.

The size of a real tile (10,980 pixels at 10 m), the layout that archives use (blocks of 512 pixels, DEFLATE,
horizontal differencing, uint16), and values with as much noise as makes DEFLATE halve them.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine
from rasterio.warp import transform

from catalog.grids import Grid, north_up
from catalog.products import Product, load_product
from catalog.scenes import Scene, SceneAsset
from tasks.readers import WindowRequest

EPSG, WEST, NORTH = 32632, 600_000.0, 5_400_000.0
SIDE_M = 109_800
WINDOW_M = 2_640
"""264, 132 and 44 pixels at 10, 20 and 60 m: 778 kB a sample."""
BLOCK = 512
SCENES = 4
"""Three scenes of twelve bands are read one after the other: 36 files."""
SEED = 20_240_501


@cache
def product() -> Product:
    """Sentinel-2 L2A without its QA layer, which the other readers are not asked for."""
    return load_product("sentinel-2-l2a").model_copy(update={"qa": None})


def write_tile(folder: Path) -> None:
    """One COG for each band."""
    bands = product().bands
    with ThreadPoolExecutor(2) as pool:
        list(
            pool.map(lambda pair: _write_band(folder, pair[1].name, pair[1].gsd_m, pair[0]), enumerate(bands))
        )


def _write_band(folder: Path, name: str, gsd_m: float, number: int) -> None:
    side = round(SIDE_M / gsd_m)
    with rasterio.open(
        folder / f"{name}.tif",
        "w",
        driver="COG",
        height=side,
        width=side,
        count=1,
        dtype="uint16",
        nodata=0,
        crs=f"EPSG:{EPSG}",
        transform=Affine(*grid(gsd_m).affine),
        compress="DEFLATE",
        predictor=2,
        level=1,
        blocksize=BLOCK,
        overviews="NONE",
    ) as file:
        file.write(_texture(side, SEED + number), 1)


def _texture(side: int, seed: int) -> NDArray[np.uint16]:
    """Fields with edges between them, and noise; a patch is repeated, with another level each time."""
    rng = np.random.default_rng(seed)
    patch = 1024
    y, x = np.mgrid[0:patch, 0:patch]
    field = rng.integers(300, 3000, (32, 32))[y // 32, x // 32]
    values = np.maximum(field + 200 * np.sin(y / 40) * np.cos(x / 55) + rng.normal(0, 14, (patch, patch)), 1)
    repeats = -(-side // patch)
    whole = np.tile(values.astype(np.uint16), (repeats, repeats))[:side, :side]
    levels = rng.integers(1000, 4000, (repeats, repeats), dtype=np.uint16)
    for row in range(repeats):
        for col in range(repeats):
            whole[row * patch : (row + 1) * patch, col * patch : (col + 1) * patch] += levels[row, col]
    return whole


def grid(gsd_m: float) -> Grid:
    """A band's grid."""
    side = round(SIDE_M / gsd_m)
    return north_up(EPSG, WEST, NORTH, gsd_m, (side, side))


def scenes(url: str, label: str) -> list[Scene]:
    """Scenes whose addresses no client has seen before: nothing is answered from a cache."""
    return [scene(url, f"{label}-{number}") for number in range(SCENES)]


def scene(url: str, name: str) -> Scene:
    """The tile, as if it were one of its own below ``url/name/``."""
    west, south, east, north = grid(60).bounds
    xs, ys = transform(f"EPSG:{EPSG}", "EPSG:4326", [west, east, east, west], [south, south, north, north])
    ring = [[x, y] for x, y in zip([*xs, xs[0]], [*ys, ys[0]], strict=True)]
    return Scene(
        id=name,
        product="sentinel-2-l2a",
        archive="sandbox",
        collection="sentinel-2-l2a",
        platform="sentinel-2a",
        sensed=datetime(2024, 6, 1, 10, tzinfo=UTC),
        tile="32UPU",
        geometry={"type": "Polygon", "coordinates": [ring]},
        bbox=(min(xs), min(ys), max(xs), max(ys)),
        assets={
            band.name: SceneAsset(band.name, f"{url}/{name}/{band.name}.tif", (band.name,), grid(band.gsd_m))
            for band in product().bands
        },
        epsg=EPSG,
        baseline="05.10",
        origin="simulated",
    )


def windows(count: int, number: int) -> list[WindowRequest]:
    """Places drawn anywhere in scene ``number``, on the 60 m raster that all bands share."""
    rng = np.random.default_rng((SEED, number))
    steps = (SIDE_M - WINDOW_M) // 60
    corners = rng.integers(0, steps + 1, (count, 2)) * 60
    return [
        WindowRequest(
            f"{number}-{place}",
            {
                gsd: north_up(EPSG, WEST + east, NORTH - south, gsd, (round(WINDOW_M / gsd),) * 2)
                for gsd in product().resolutions_m
            },
        )
        for place, (east, south) in enumerate(corners.tolist())
    ]
