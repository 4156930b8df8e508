"""Landsat Collection 2 Level 1 items as at USGS LandsatLook."""

from __future__ import annotations

from typing import Any

from deployments.sandbox.items.described import ISO, Described, extensions, projection
from deployments.sandbox.observation import LANDSAT_ROW
from deployments.sandbox.sensors.landsat_instruments import INSTRUMENTS

COG = "image/vnd.stac.geotiff; cloud-optimized=true"
_TITLES = {
    "coastal": "Coastal/Aerosol Band",
    "blue": "Blue Band",
    "green": "Green Band",
    "red": "Red Band",
    "nir08": "Near Infrared Band 0.8",
    "swir16": "Short-wave Infrared Band 1.6",
    "swir22": "Short-wave Infrared Band 2.2",
    "pan": "Panchromatic Band",
    "cirrus": "Cirrus Band",
    "lwir": "Thermal Infrared Band",
    "lwir_high": "Thermal Infrared Band, high gain",
    "lwir11": "Thermal Infrared Band 10.9",
    "lwir12": "Thermal Infrared Band 12.0",
}


def describe(what: Described) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """As at USGS: the platform in capitals, no scale and no nodata; what numbers mean is in the MTL."""
    seen, facts = what.seen, what.picture.facts
    instrument = INSTRUMENTS[seen.platform]
    grid = what.picture.rasters["red"].grid
    path, row = f"{seen.orbit:03d}", f"{LANDSAT_ROW:03d}"
    assets: dict[str, Any] = {}
    for key, band in instrument.level_1.items():
        number = band.band
        assets[key] = {
            "href": what.files[key].href,
            "type": COG,
            "title": f"{_TITLES[key]} ({number})",
            "description": f"Collection 2 Level-1 {_TITLES[key]} ({number}) Top of Atmosphere Radiance",
            "eo:bands": [
                {
                    "name": number,
                    "common_name": key,
                    "gsd": 15 if key == "pan" else 30,
                    "center_wavelength": round(band.center_nm / 1000, 2),
                }
            ],
            "roles": ["data"],
            "file:checksum": f"1220{what.files[key].sha256}",
        }
        if key == "pan":
            assets[key] |= projection(what.picture.rasters[key].grid, with_bbox=False)
    assets["qa_pixel"] = {
        "href": what.files["qa_pixel"].href,
        "type": COG,
        "title": "Pixel Quality Assessment Band",
        "description": "Collection 2 Level-1 Pixel Quality Assessment Band",
        "roles": ["cloud", "cloud-shadow", "snow-ice", "water-mask"],
        "file:checksum": f"1220{what.files['qa_pixel'].sha256}",
    }
    for key, document in what.picture.documents.items():
        kind = key.rpartition(".")[2]
        assets[key] = {
            "href": what.files[key].href,
            "type": document.media_type,
            "title": f"Product Metadata File ({kind})",
            "description": f"Collection 2 Level-1 Product Metadata File ({kind})",
            "roles": ["metadata"],
            "file:checksum": f"1220{what.files[key].sha256}",
        }
    created = seen.generated.strftime(ISO)
    properties = {
        "datetime": seen.when.strftime(ISO),
        "eo:cloud_cover": round(facts["cloud"], 2),
        "view:sun_azimuth": round(what.sun.azimuth, 8),
        "view:sun_elevation": round(what.sun.elevation, 8),
        "platform": seen.platform.upper().replace("-", "_"),
        "instruments": [name.upper() for name in instrument.names],
        "view:off_nadir": 0,
        "landsat:cloud_cover_land": round(facts["cloud"], 2),
        "landsat:wrs_type": "2",
        "landsat:wrs_path": path,
        "landsat:wrs_row": row,
        "landsat:scene_id": f"{instrument.letters}{seen.platform[-1]}{path}{row}{seen.when:%Y%j}LGN00",
        "landsat:collection_category": seen.version,
        "landsat:collection_number": "02",
        "landsat:correction": "L1TP",
        "proj:epsg": grid.epsg,
        **projection(grid, with_bbox=False),
        "created": created,
        "updated": created,
    }
    names = extensions("eo/v1.0.0", "view/v1.0.0", "projection/v1.0.0", "file/v1.0.0")
    return (
        properties,
        assets,
        [*names, "https://landsat.usgs.gov/stac/landsat-extension/v1.1.1/schema.json"],
    )
