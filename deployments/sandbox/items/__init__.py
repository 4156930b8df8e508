"""STAC items and collections of the sandbox, with the spellings and defects of the real catalogues."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from pyproj import Transformer
from shapely.geometry import Polygon, mapping, shape
from shapely.ops import transform

from deployments.sandbox.items import (
    enmap,
    landsat,
    landsat_level_1,
    sentinel1,
    sentinel1_grd,
    sentinel2,
    sentinel2_level_1c,
)
from deployments.sandbox.items.described import LICENCE, Described, Stored, scene_id
from deployments.sandbox.observation import Footprint

__all__ = ["LICENCE", "Described", "Stored", "make_collection", "make_item", "scene_id"]


def make_item(what: Described) -> dict[str, Any]:
    """The item of one scene."""
    seen = what.seen
    makers = {
        "sentinel-2-l2a": sentinel2.describe,
        "sentinel-1-rtc": sentinel1.describe,
        "landsat-oli-sr": landsat.describe,
        "enmap-l2a": enmap.describe,
        "sentinel-2-l1c": sentinel2_level_1c.describe,
        "sentinel-1-grd": sentinel1_grd.describe,
        "landsat-tm-sr": landsat.describe,
        "landsat-etm-sr": landsat.describe,
        "landsat-tm-toa": landsat_level_1.describe,
        "landsat-etm-toa": landsat_level_1.describe,
        "landsat-oli-toa": landsat_level_1.describe,
    }
    properties, assets, names = makers[seen.product](what)
    outline = Footprint() if "whole" in seen.claims else seen.footprint
    finest = next(iter(what.picture.rasters.values())).grid
    geometry = _to_degrees(outline.polygon(finest, what.square), what.square.epsg)
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": names,
        "id": what.id,
        "collection": what.collection,
        "geometry": geometry,
        "bbox": [round(value, 7) for value in shape(geometry).bounds],
        "properties": {**properties, "license": LICENCE, "swath:simulated": True},
        "links": [
            {
                "rel": "collection",
                "type": "application/json",
                "href": f"/collections/{what.collection}",
            }
        ],
        "assets": assets,
    }


def _to_degrees(polygon: Polygon, epsg: int) -> dict[str, Any]:
    to_degrees = Transformer.from_crs(epsg, 4326, always_xy=True)
    document = json.loads(json.dumps(mapping(transform(to_degrees.transform, polygon))))
    document["coordinates"] = [
        [[round(x, 7), round(y, 7)] for x, y in ring] for ring in document["coordinates"]
    ]
    return dict(document)


_TITLES = {
    "sentinel-2-l2a": ("Sentinel-2 Level-2A", [10, 20, 60]),
    "sentinel-1-rtc": ("Sentinel-1 radiometrically terrain corrected", [10]),
    "landsat-oli-sr": ("Landsat Collection 2 Level-2", [30]),
    "enmap-l2a": ("EnMAP HSI Level-2A", [30]),
    "sentinel-2-l1c": ("Sentinel-2 Level-1C", [10, 20, 60]),
    "sentinel-1-grd": ("Sentinel-1 ground range detected", [10]),
    "landsat-tm-sr": ("Landsat Collection 2 Level-2", [30]),
    "landsat-etm-sr": ("Landsat Collection 2 Level-2", [30]),
    "landsat-tm-toa": ("Landsat Collection 2 Level-1", [30]),
    "landsat-etm-toa": ("Landsat Collection 2 Level-1", [15, 30]),
    "landsat-oli-toa": ("Landsat Collection 2 Level-1", [15, 30]),
}


def make_collection(
    products: Sequence[str], collection: str, items: Iterable[dict[str, Any]]
) -> dict[str, Any]:
    """The STAC collection of the items of one or more products (Landsat's instruments share theirs)."""
    items = list(items)
    times = sorted(item["properties"]["datetime"] for item in items)
    boxes = [item["bbox"] for item in items]
    title = _TITLES[products[0]][0]
    gsd = sorted({metres for product in products for metres in _TITLES[product][1]})
    return {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": collection,
        "title": f"{title} (simulated)",
        "description": f"SIMULATED scenes in the shape of {title}: an invented landscape on both sides of a "
        "UTM zone border, seen by a model of the sensor. No pixel was measured by any satellite; scores on "
        "these scenes say nothing about the real sensor.",
        "license": LICENCE,
        "keywords": ["simulated", "sandbox", *products],
        "providers": [{"name": "Swath sandbox", "roles": ["producer", "licensor", "host"]}],
        "extent": {
            "spatial": {
                "bbox": [
                    [
                        min(box[0] for box in boxes),
                        min(box[1] for box in boxes),
                        max(box[2] for box in boxes),
                        max(box[3] for box in boxes),
                    ]
                ]
            },
            "temporal": {"interval": [[times[0], times[-1]]]},
        },
        "summaries": {
            "gsd": gsd,
            "platform": sorted({item["properties"]["platform"] for item in items}),
            "swath:simulated": [True],
        },
        "links": [],
    }
