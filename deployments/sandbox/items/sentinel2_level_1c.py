"""A Sentinel-2 Level-1C item as at Earth Search."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from deployments.sandbox.items.described import COG, ISO, Described, extensions, projection
from deployments.sandbox.observation import S2_TILES
from deployments.sandbox.sensors.sentinel2 import offset_dn

KEYS = {
    "B01": ("coastal", "Coastal", 0.443, 0.027),
    "B02": ("blue", "Blue", 0.49, 0.098),
    "B03": ("green", "Green", 0.56, 0.045),
    "B04": ("red", "Red", 0.665, 0.038),
    "B05": ("rededge1", "Red Edge 1", 0.704, 0.019),
    "B06": ("rededge2", "Red Edge 2", 0.74, 0.018),
    "B07": ("rededge3", "Red Edge 3", 0.783, 0.028),
    "B08": ("nir", "NIR 1", 0.842, 0.145),
    "B8A": ("nir08", "NIR 2", 0.865, 0.033),
    "B09": ("nir09", "NIR 3", 0.945, 0.026),
    "B10": ("cirrus", "Cirrus", 1.3735, 0.075),
    "B11": ("swir16", "SWIR 1.6\u03bcm", 1.61, 0.143),
    "B12": ("swir22", "SWIR 2.2\u03bcm", 2.19, 0.242),
}
"""Band → asset key, title, centre and (too large) width in micrometres."""


def describe(what: Described) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """As at Earth Search: common names as asset keys, scale and offset in raster:bands, no classification."""
    seen, facts = what.seen, what.picture.facts
    unit = "S2A" if seen.platform == "sentinel-2a" else "S2B"
    second, made = f"{seen.when:%Y%m%dT%H%M%S}", f"{seen.generated:%Y%m%dT%H%M%S}"
    tile, orbit = S2_TILES[seen.zone], int((seen.when - datetime(2015, 6, 23, tzinfo=UTC)).days * 14.3)
    number = seen.version.replace(".", "")
    assets: dict[str, Any] = {}
    for band, (key, title, center, width) in KEYS.items():
        grid = what.picture.rasters[band].grid
        gsd = int(grid.resolution[0])
        assets[key] = {
            "href": what.files[band].href,
            "type": COG,
            "title": f"{title} - {gsd}m",
            "eo:bands": [
                {"name": band, "common_name": key, "center_wavelength": center, "full_width_half_max": width}
            ],
            "gsd": gsd,
            **projection(grid, with_bbox=False),
            "raster:bands": [
                {
                    "nodata": 0,
                    "data_type": "uint16",
                    "spatial_resolution": gsd,
                    "scale": 0.0001,
                    "offset": -offset_dn(seen.version) / 10_000,
                }
            ],
            "roles": ["data", "reflectance"],
        }
    catalogued = seen.generated.strftime(ISO)
    properties = {
        "created": catalogued,
        "platform": seen.platform,
        "constellation": "sentinel-2",
        "instruments": ["msi"],
        "eo:cloud_cover": round(seen.claims.get("cloud", facts["cloud"]), 6),
        "proj:epsg": what.square.epsg,
        "mgrs:utm_zone": int(tile[:2]),
        "mgrs:latitude_band": tile[2],
        "mgrs:grid_square": tile[3:],
        "grid:code": f"MGRS-{tile}",
        "view:sun_azimuth": what.sun.azimuth,
        "view:sun_elevation": what.sun.elevation,
        "s2:tile_id": f"{unit}_OPER_MSI_L1C_TL_SWTH_{made}_A{orbit:06d}_T{tile}_N{seen.version}",
        "s2:degraded_msi_data_percentage": 0,
        "s2:product_type": "S2MSI1C",
        "s2:processing_baseline": seen.version,
        "s2:product_uri": f"{unit}_MSIL1C_{second}_N{number}_R{seen.orbit:03d}_T{tile}_{made}.SAFE",
        "s2:generation_time": catalogued,
        "s2:datatake_id": f"G{unit}_{second}_{orbit:06d}_N{seen.version}",
        "s2:datatake_type": "INS-NOBS",
        "s2:datastrip_id": f"{unit}_OPER_MSI_L1C_DS_SWTH_{made}_S{second}_N{seen.version}",
        "datetime": seen.when.strftime(ISO),
        "s2:sequence": "1" if seen.role == "reprocessed" else "0",
        "updated": catalogued,
    }
    return (
        properties,
        assets,
        extensions(
            "grid/v1.1.0", "mgrs/v1.0.0", "projection/v1.1.0", "raster/v1.1.0", "view/v1.0.0", "eo/v1.1.0"
        ),
    )
