"""Items, scenes and products made up for tests, in the shape the archives give them."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

from catalog.grids import Grid
from catalog.products import Product, load_product
from catalog.scenes import Scene, SceneAsset

S2_GSD = {band.name: band.gsd_m for band in load_product("sentinel-2-l2a").bands} | {"SCL": 20.0}


def s2_item() -> dict[str, Any]:
    """A Sentinel-2 Level-2A item as the Planetary Computer spells it, signed hrefs included."""
    host = "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/32/T/QU"
    assets = {
        name: {
            "href": f"{host}/T32TQU_{name}.tif?se=2026-01-01&sig=secret",
            "proj:shape": [round(109800 / gsd)] * 2,
            "proj:transform": [gsd, 0.0, 699960.0, 0.0, -gsd, 5400000.0],
            "gsd": gsd,
        }
        for name, gsd in S2_GSD.items()
    }
    ring = [[11.7, 47.8], [13.1, 47.8], [13.1, 48.7], [11.7, 48.7], [11.7, 47.8]]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": "S2B_MSIL2A_20230614T101559_R065_T32TQU_20230614T180000",
        "collection": "sentinel-2-l2a",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [11.7, 47.8, 13.1, 48.7],
        "properties": {
            "datetime": "2023-06-14T10:15:59.024000Z",
            "platform": "Sentinel-2B",
            "proj:epsg": 32632,
            "s2:mgrs_tile": "32TQU",
            "s2:product_type": "S2MSI2A",
            "s2:processing_baseline": "05.09",
            "s2:generation_time": "2023-06-14T18:00:00.000000Z",
            "s2:mean_solar_zenith": 27.5,
            "s2:mean_solar_azimuth": 145.0,
            "eo:cloud_cover": 12.5,
            "sat:orbit_state": "descending",
        },
        "assets": assets,
        "links": [],
    }


def with_changes(item: dict[str, Any], **properties: Any) -> dict[str, Any]:
    """A copy with other properties (``s2__mgrs_tile`` for ``s2:mgrs_tile``); None removes one."""
    changed = copy.deepcopy(item)
    for name, value in properties.items():
        key = name.replace("__", ":")
        if value is None:
            changed["properties"].pop(key, None)
        else:
            changed["properties"][key] = value
    return changed


def scene_of(product: Product, **fields: Any) -> Scene:
    """A scene of a product with nothing but what a test states."""
    values: dict[str, Any] = {
        "id": "scene",
        "product": product.id,
        "archive": "sandbox",
        "collection": product.id,
        "platform": "platform",
        "sensed": datetime(2023, 6, 14, 10, 16, tzinfo=UTC),
        "tile": "32TQU",
        "geometry": {"type": "Polygon", "coordinates": [[[11, 48], [12, 48], [12, 49], [11, 49], [11, 48]]]},
        "bbox": (11, 48, 12, 49),
        "assets": {},
        "epsg": 32632,
    }
    return Scene(**(values | fields))


def scene_on(product: Product, grid: Grid, scene_id: str, tile: str = "tile", day: int = 1) -> Scene:
    """A scene whose first band fills a UTM grid."""
    import numpy as np

    from catalog.windows import to_degrees

    west, south, east, north = grid.bounds
    x, y = to_degrees(
        grid.epsg,
        np.asarray([west, east, east, west, west], float),
        np.asarray([south, south, north, north, south], float),
    )
    ring = [[float(a), float(b)] for a, b in zip(x, y, strict=True)]
    band = product.bands[0].name
    return scene_of(
        product,
        id=scene_id,
        tile=tile,
        sensed=datetime(2023, 6, day, 10, tzinfo=UTC),
        geometry={"type": "Polygon", "coordinates": [ring]},
        bbox=(min(x), min(y), max(x), max(y)),
        assets={band: SceneAsset(band, "http://127.0.0.1/a.tif", (band,), grid)},
        epsg=grid.epsg,
    )
