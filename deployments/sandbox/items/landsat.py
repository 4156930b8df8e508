"""Landsat Collection 2 Level 2 items as on the Planetary Computer."""

from __future__ import annotations

from typing import Any

from deployments.sandbox.items.described import COG, ISO, Described, extensions, projection
from deployments.sandbox.observation import LANDSAT_ROW
from deployments.sandbox.sensors import landsat
from deployments.sandbox.sensors.landsat_instruments import INSTRUMENTS, Instrument

_OLI_TITLES = {
    "coastal": ("Coastal/Aerosol Band", 0.44, 0.02),
    "blue": ("Blue Band", 0.48, 0.06),
    "green": ("Green Band", 0.56, 0.06),
    "red": ("Red Band", 0.65, 0.04),
    "nir08": ("Near Infrared Band 0.8", 0.87, 0.03),
    "swir16": ("Short-wave Infrared Band 1.6", 1.61, 0.09),
    "swir22": ("Short-wave Infrared Band 2.2", 2.2, 0.19),
}


def _titles(instrument: Instrument) -> dict[str, tuple[str, float, float]]:
    """Asset → title, centre and width in micrometres, as the catalogue rounds them."""
    if instrument.letters == "LC":
        return _OLI_TITLES
    return {
        key: (_OLI_TITLES[key][0], round(center / 1000, 2), round(width / 1000, 2))
        for key, (_, center, width) in instrument.surface.items()
    }


_QA_BITS = (
    ("fill", 1, ("not_fill", "fill")),
    ("dilated_cloud", 1, ("not_dilated", "dilated")),
    ("cirrus", 1, ("not_cirrus", "cirrus")),
    ("cloud", 1, ("not_cloud", "cloud")),
    ("cloud_shadow", 1, ("not_shadow", "shadow")),
    ("snow", 1, ("not_snow", "snow")),
    ("clear", 1, ("not_clear", "clear")),
    ("water", 1, ("not_water", "water")),
    ("cloud_confidence", 2, ("not_set", "low", "medium", "high")),
    ("cloud_shadow_confidence", 2, ("not_set", "low", "reserved", "high")),
    ("snow_confidence", 2, ("not_set", "low", "reserved", "high")),
    ("cirrus_confidence", 2, ("not_set", "low", "reserved", "high")),
)


def _bitfields() -> list[dict[str, Any]]:
    fields, offset = [], 0
    for name, length, classes in _QA_BITS:
        values = [{"name": label, "value": value} for value, label in enumerate(classes)]
        fields.append({"name": name, "length": length, "offset": offset, "classes": values})
        offset += length
    return fields


def describe(what: Described) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """As on the Planetary Computer: complete raster:bands, and the CRS on the item."""
    seen, facts = what.seen, what.picture.facts
    instrument = INSTRUMENTS[seen.platform]
    thermal, thermal_band, thermal_gsd = instrument.thermal
    thermal_nm, thermal_width = instrument.level_1[thermal].center_nm, instrument.level_1[thermal].fwhm_nm
    grid = what.picture.rasters["red"].grid
    path, row = f"{seen.orbit:03d}", f"{LANDSAT_ROW:03d}"

    def raster(scale: float, offset: float, **more: Any) -> list[dict[str, Any]]:
        return [
            {
                "scale": scale,
                "nodata": 0,
                "offset": offset,
                "data_type": "uint16",
                "spatial_resolution": 30,
                **more,
            }
        ]

    assets: dict[str, Any] = {}
    for key, (title, center, width) in _titles(instrument).items():
        number = instrument.surface[key][0]
        assets[key] = {
            "href": what.files[key].href,
            "type": COG,
            "roles": ["data", "reflectance"],
            "title": title,
            "description": f"Collection 2 Level-2 {title} (SR_{number}) Surface Reflectance",
            "eo:bands": [
                {
                    "name": f"{instrument.title}_{number}",
                    "common_name": key,
                    "center_wavelength": center,
                    "full_width_half_max": width,
                }
            ],
            "raster:bands": raster(landsat.SCALE, landsat.OFFSET),
        }
    assets[thermal] = {
        "href": what.files[thermal].href,
        "gsd": thermal_gsd,
        "type": COG,
        "roles": ["data", "temperature"],
        "title": "Surface Temperature Band",
        "description": f"Collection 2 Level-2 Thermal Infrared Band ({thermal_band}) Surface Temperature",
        "eo:bands": [
            {
                "name": f"{'TIRS' if instrument.sees_cirrus else instrument.title}_{thermal_band[3:]}",
                "common_name": thermal,
                "center_wavelength": round(thermal_nm / 1000, 2),
                "full_width_half_max": round(thermal_width / 1000, 2),
            }
        ],
        "raster:bands": raster(landsat.KELVIN_SCALE, landsat.KELVIN_OFFSET, unit="kelvin"),
    }
    assets["qa_pixel"] = {
        "href": what.files["qa_pixel"].href,
        "type": COG,
        "roles": ["cloud", "cloud-shadow", "snow-ice", "water-mask"],
        "title": "Pixel Quality Assessment Band",
        "description": "Collection 2 Level-1 Pixel Quality Assessment Band (QA_PIXEL)",
        "classification:bitfields": _bitfields(),
        "raster:bands": [{"unit": "bit index", "nodata": 1, "data_type": "uint16", "spatial_resolution": 30}],
    }
    properties = {
        "gsd": 30,
        "created": seen.generated.strftime(ISO),
        "datetime": seen.when.strftime(ISO),
        "platform": seen.platform,
        "proj:epsg": grid.epsg,
        **projection(grid, with_bbox=False),
        "description": "Landsat Collection 2 Level-2",
        "instruments": list(instrument.names),
        "eo:cloud_cover": round(facts["cloud"], 2),
        "view:off_nadir": 0,
        "landsat:wrs_row": row,
        "landsat:scene_id": f"{instrument.letters}{seen.platform[-1]}{path}{row}{seen.when:%Y%j}LGN00",
        "landsat:wrs_path": path,
        "landsat:wrs_type": "2",
        "view:sun_azimuth": round(what.sun.azimuth, 8),
        "landsat:correction": "L2SP",
        "view:sun_elevation": round(what.sun.elevation, 8),
        "landsat:cloud_cover_land": round(facts["cloud"], 2),
        "landsat:collection_number": "02",
        "landsat:collection_category": seen.version,
    }
    names = extensions(
        "raster/v1.1.0", "eo/v1.0.0", "view/v1.0.0", "projection/v1.1.0", "classification/v1.0.0"
    )
    return (
        properties,
        assets,
        [*names, "https://landsat.usgs.gov/stac/landsat-extension/v1.1.1/schema.json"],
    )
