"""A Sentinel-1 RTC item as on the Planetary Computer."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from deployments.sandbox.items.described import (
    COG,
    ISO,
    Described,
    absolute_orbit,
    extensions,
    projection,
    slice_times,
)
from deployments.sandbox.observation import Observation


def describe(what: Described) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """As on the Planetary Computer: times with a space, upper-case platform, file sizes and checksums."""
    seen, grid = what.seen, what.square
    start, end = slice_times(seen)
    orbit = absolute_orbit(seen)
    titles = {
        "vv": "VV: vertical transmit, vertical receive",
        "vh": "VH: vertical transmit, horizontal receive",
    }
    assets = {
        key: {
            "href": what.files[key].href,
            "file:size": what.files[key].size,
            # A multihash: 0x12 SHA-256, 0x20 bytes long.
            "file:checksum": f"1220{what.files[key].sha256}",
            "type": COG,
            "roles": ["data"],
            "title": titles[key],
            "description": "Terrain-corrected gamma naught values of signal transmitted with vertical "
            f"polarization and received with {'vertical' if key == 'vv' else 'horizontal'} polarization "
            "with radiometric terrain correction applied.",
            "raster:bands": [{"nodata": -32768, "data_type": "float32", "spatial_resolution": 10.0}],
        }
        for key in ("vh", "vv")
    }
    properties = {
        "datetime": seen.when.strftime(ISO),
        "platform": "SENTINEL-1A",
        "s1:shape": list(reversed(grid.shape)),
        "proj:epsg": grid.epsg,
        **projection(grid, nine=True),
        **acquisition(seen, start, end, orbit),
    }
    return (
        properties,
        assets,
        extensions("sar/v1.0.0", "sat/v1.0.0", "projection/v1.1.0", "file/v2.0.0", "raster/v1.1.0"),
    )


def acquisition(seen: Observation, start: datetime, end: datetime, orbit: int) -> dict[str, Any]:
    """What an item of either level says of the pass; ``orbit`` is the absolute one."""
    return {
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
