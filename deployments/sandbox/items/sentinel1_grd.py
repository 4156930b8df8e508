"""A Sentinel-1 GRD item: assets as on the Planetary Computer, geometry as invented by Earth Search."""

from __future__ import annotations

from typing import Any

from pyproj import Transformer

from deployments.sandbox.items.described import (
    COG,
    ISO,
    Described,
    absolute_orbit,
    extensions,
    slice_times,
)
from deployments.sandbox.items.sentinel1 import acquisition

_WORDS = {"v": "vertical", "h": "horizontal"}


def describe(what: Described) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """With both catalogues' defects.

    A CRS and transform made from the bounding box, amplitudes that are called terrain corrected, and a
    ``schema-product-*`` that leads to the interference annotation.
    """
    seen = what.seen
    start, end = slice_times(seen)
    orbit = absolute_orbit(seen)
    lines, pixels = int(what.picture.facts["lines"]), int(what.picture.facts["pixels"])
    assets: dict[str, Any] = {}
    for key in ("vh", "vv"):
        sent, received = (_WORDS[letter] for letter in key)
        assets[key] = {
            "href": what.files[key].href,
            "type": COG,
            "roles": ["data"],
            "title": f"{key.upper()}: {sent} transmit, {received} receive",
            "description": f"Amplitude of signal transmitted with {sent} polarization and received with "
            f"{received} polarization with radiometric terrain correction applied.",
        }
        for part, title in (("noise", "Noise"), ("product", "Product"), ("calibration", "Calibration")):
            file = what.files[f"schema-{'rfi' if part == 'product' else part}-{key}"]
            assets[f"schema-{part}-{key}"] = {
                "href": file.href,
                "type": "application/xml",
                "roles": ["metadata"],
                "title": f"{title} Schema",
            }
    properties = {
        "datetime": seen.when.strftime(ISO),
        "platform": "SENTINEL-1A",
        "s1:shape": [pixels, lines],
        **_invented_geometry(what, lines, pixels),
        **acquisition(seen, start, end, orbit),
    }
    return properties, assets, extensions("sar/v1.0.0", "sat/v1.0.0", "projection/v1.1.0")


def _invented_geometry(what: Described, lines: int, pixels: int) -> dict[str, Any]:
    """The bounding box in degrees divided by the size of the raster: no pixel lies there."""
    west, south, east, north = what.square.bounds
    to_degrees = Transformer.from_crs(what.square.epsg, 4326, always_xy=True)
    west, south, east, north = (
        round(value, 6) for value in to_degrees.transform_bounds(west, south, east, north)
    )
    return {
        "proj:epsg": 4326,
        "proj:bbox": [west, south, east, north],
        "proj:shape": [lines, pixels],
        "proj:transform": [(east - west) / pixels, 0, west, 0, -(north - south) / lines, north],
    }
