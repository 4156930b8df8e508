"""Small Cloud-Optimized GeoTIFFs of one scene of any product, and the scene that describes them."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine

from catalog.archives import Archive, load_archive
from catalog.grids import Grid, north_up
from catalog.products import Product, load_product
from catalog.scenes import Scene, SceneAsset
from tasks.readers import WindowRequest
from tasks.readers.plan import quality_gsd_m

WEST, NORTH, EPSG = 600_000.0, 5_400_000.0, 32632
SIDE_M = 3_840.0


@functools.cache
def built_in(name: str) -> Product:
    """A built-in product; reading all the files for each use would take most of a test's time."""
    return load_product(name)


@dataclass(frozen=True)
class SceneFiles:
    """What was written."""

    scene: Scene
    arrays: dict[str, NDArray[Any]]
    """Band name → values ``(y, x)`` on the band's own grid; QA files by asset key."""

    def without(self, key: str) -> Scene:
        """The scene, had its item not named this asset."""
        return replace(self.scene, assets={k: v for k, v in self.scene.assets.items() if k != key})


def grid_at(
    gsd_m: float, *, west: float = WEST, north: float = NORTH, epsg: int = EPSG, side_m: float = SIDE_M
) -> Grid:
    side = round(side_m / gsd_m)
    return north_up(epsg, west, north, gsd_m, (side, side))


def request(
    product: Product, name: str, *, west: float, north: float, side_m: float = 480.0, epsg: int = EPSG
) -> WindowRequest:
    """A window that starts at a corner, on every grid the product needs."""
    sizes = {*product.resolutions_m, quality_gsd_m(product)}
    return WindowRequest(
        name, {gsd: grid_at(gsd, west=west, north=north, epsg=epsg, side_m=side_m) for gsd in sizes}
    )


def write_scene(
    folder: Path,
    url: str,
    product: Product,
    scene_id: str = "scene-1",
    *,
    seed: int = 0,
    west: float = WEST,
    north: float = NORTH,
    epsg: int = EPSG,
    cloud_percent: float = 10.0,
    baseline: str | None = "05.11",
    empty_columns: float = 0.0,
    side_m: float = SIDE_M,
) -> SceneFiles:
    """Write a scene's files below ``folder``, which is served at ``url``.

    ``empty_columns`` is the share of the raster, from the west, that holds nodata in every band.
    """
    rng = np.random.default_rng(seed)
    arrays: dict[str, NDArray[Any]] = {}
    assets: dict[str, SceneAsset] = {}

    def add(key: str, bands: tuple[str, ...], values: NDArray[Any], gsd: float, nodata: float | None) -> None:
        grid = grid_at(gsd, west=west, north=north, epsg=epsg, side_m=side_m)
        path = folder / scene_id / f"{key}.tif"
        write_cog(path, values, grid, nodata)
        assets[key] = SceneAsset(key, f"{url}/{scene_id}/{key}.tif", bands, grid, path.stat().st_size)

    stacked: dict[float, list[NDArray[Any]]] = {}
    for band in product.bands:
        side = round(side_m / band.gsd_m)
        values = landscape(rng, side, product)
        if product.nodata is not None:
            values[:, : int(side * empty_columns)] = product.nodata
        arrays[band.name] = values
        stacked.setdefault(band.gsd_m, []).append(values)
        if product.multiband_asset is None:
            add(band.asset or band.name, (band.name,), values[None], band.gsd_m, product.nodata)
    if product.multiband_asset is not None:
        gsd = product.bands[0].gsd_m
        add(product.multiband_asset, product.band_names, np.stack(stacked[gsd]), gsd, product.nodata)
    if product.qa is not None:
        side = round(side_m / product.qa.gsd_m)
        keys = {product.qa.asset} if product.qa.kind != "flags" else set(product.qa.flags.values())
        for key in sorted(key for key in keys if key):
            values = quality_values(rng, side, product, cloud_percent / 100)
            arrays[key] = values
            add(key, (), values[None], product.qa.gsd_m, None)
    polygon, bbox = _footprint(grid_at(10, west=west, north=north, epsg=epsg, side_m=side_m))
    scene = Scene(
        id=scene_id,
        product=product.id,
        archive="sandbox",
        collection=product.id,
        platform=product.platforms[0],
        sensed=datetime(2022, 6, 15, 10, 20, 30, tzinfo=UTC),
        tile="32UPU",
        geometry=polygon,
        bbox=bbox,
        assets=assets,
        epsg=epsg,
        cloud_cover_percent=cloud_percent,
        sun_elevation_deg=50.0,
        baseline=baseline,
        origin="simulated",
    )
    return SceneFiles(scene, arrays)


def landscape(rng: np.random.Generator, side: int, product: Product) -> NDArray[Any]:
    """Values a band of the product may hold; no pixel is nodata."""
    y, x = np.mgrid[0:side, 0:side] / side
    smooth = 0.25 + 0.2 * np.sin(7 * x + rng.uniform(0, 6)) * np.cos(5 * y + rng.uniform(0, 6))
    physical = np.clip(smooth + rng.normal(0, 0.01, (side, side)), 0.01, 0.9)
    if product.dtype == "float32":
        return physical.astype(np.float32)
    scale = {"landsat-oli-sr": 2.75e-5}.get(product.id, 1e-4)
    offset = {"landsat-oli-sr": -0.2, "sentinel-2-l2a": -0.1}.get(product.id, 0.0)
    return np.round((physical - offset) / scale).astype(product.dtype)


def quality_values(rng: np.random.Generator, side: int, product: Product, cloud_share: float) -> NDArray[Any]:
    """A QA layer whose southern rows are cloud."""
    cloudy = np.zeros((side, side), bool)
    cloudy[side - round(side * cloud_share) :] = True
    assert product.qa is not None
    if product.qa.kind == "classes":
        return np.where(cloudy, 9, 4).astype(np.uint8)
    if product.qa.kind == "bits":
        return np.where(cloudy, 1 << 3, 1 << 6).astype(np.uint16)
    return rng.integers(0, 2, (side, side)).astype(np.uint8)


def write_cog(path: Path, values: NDArray[Any], grid: Grid, nodata: float | None) -> None:
    """One COG with overviews, in small tiles so that windows touch several."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path,
        "w",
        driver="COG",
        height=grid.shape[0],
        width=grid.shape[1],
        count=values.shape[0],
        dtype=values.dtype,
        crs=f"EPSG:{grid.epsg}",
        transform=Affine(*grid.affine),
        nodata=nodata,
        blocksize=128,
        compress="NONE" if values.shape[0] > 20 else "DEFLATE",
        overview_resampling="nearest",
    ) as file:
        file.write(values)


def archive_at(url: str) -> Archive:
    """The sandbox archive's description at an address."""
    return load_archive("sandbox", url=url)


def _footprint(grid: Grid) -> tuple[dict[str, Any], tuple[float, float, float, float]]:
    from rasterio.warp import transform

    west, south, east, north = grid.bounds
    xs, ys = [west, east, east, west, west], [south, south, north, north, south]
    longitudes, latitudes = transform(f"EPSG:{grid.epsg}", "EPSG:4326", xs, ys)
    ring = [[lon, lat] for lon, lat in zip(longitudes, latitudes, strict=True)]
    bbox = (min(longitudes), min(latitudes), max(longitudes), max(latitudes))
    return {"type": "Polygon", "coordinates": [ring]}, bbox
