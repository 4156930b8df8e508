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
        "start_datetime": str(start),
        "end_datetime": str(end),
        "created": seen.generated.strftime(ISO),
        "constellation": "Sentinel-1",
        "s1:resolution": "high",
        "s1:datatake_id": str(orbit * 8 + 5),
        "s1:orbit_source": "RESORB" if seen.role == "reprocessed" else "PREORB",
        "s1:slice_number": "7" if seen.ascending else "12",
        "s1:total_slices": "19",
        "sar:looks_range": 5,
        "sat:orbit_state": "ascending" if seen.ascending else "descending",
        "sar:product_type": "GRD",
        "sar:looks_azimuth": 1,
        "sar:polarizations": ["VV", "VH"],
        "sar:frequency_band": "C",
        "sat:absolute_orbit": orbit,
        "sat:relative_orbit": seen.orbit,
        "s1:processing_level": "1",
        "sar:instrument_mode": "IW",
        "sar:center_frequency": 5.405,
        "sar:resolution_range": 20,
        "s1:product_timeliness": seen.version,
        "sar:resolution_azimuth": 22,
        "sar:pixel_spacing_range": 10,
        "sar:observation_direction": "right",
        "sar:pixel_spacing_azimuth": 10,
        "sar:looks_equivalent_number": 4.4,
        "s1:instrument_configuration_ID": "7",
        "sat:platform_international_designator": "2014-016A",
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
