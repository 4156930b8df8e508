"""A Sentinel-2 item as on the Planetary Computer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from deployments.sandbox.items.described import COG, ISO, Described, extensions, projection
from deployments.sandbox.plan import S2_TILES

_S2_TITLES = {
    "B01": ("Band 1 - Coastal aerosol - 60m", "coastal", 0.443, 0.027),
    "B02": ("Band 2 - Blue - 10m", "blue", 0.49, 0.098),
    "B03": ("Band 3 - Green - 10m", "green", 0.56, 0.045),
    "B04": ("Band 4 - Red - 10m", "red", 0.665, 0.038),
    "B05": ("Band 5 - Vegetation red edge 1 - 20m", "rededge", 0.704, 0.019),
    "B06": ("Band 6 - Vegetation red edge 2 - 20m", "rededge", 0.74, 0.018),
    "B07": ("Band 7 - Vegetation red edge 3 - 20m", "rededge", 0.783, 0.028),
    "B08": ("Band 8 - NIR - 10m", "nir", 0.842, 0.145),
    "B09": ("Band 9 - Water vapor - 60m", None, 0.945, 0.026),
    "B11": ("Band 11 - SWIR (1.6) - 20m", "swir16", 1.61, 0.143),
    "B12": ("Band 12 - SWIR (2.2) - 20m", "swir22", 2.19, 0.242),
    "B8A": ("Band 8A - Vegetation red edge 4 - 20m", "rededge", 0.865, 0.033),
}


def describe(what: Described) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """As on the Planetary Computer: no raster:bands, no offset; widths of bands that are no FWHM."""
    seen, facts = what.seen, what.picture.facts
    unit = "S2A" if seen.platform == "sentinel-2a" else "S2B"
    second, made = f"{seen.when:%Y%m%dT%H%M%S}", f"{seen.generated:%Y%m%dT%H%M%S}"
    tile, orbit = S2_TILES[seen.zone], int((seen.when - datetime(2015, 6, 23, tzinfo=UTC)).days * 14.3)
    number = seen.version.replace(".", "")
    assets: dict[str, Any] = {}
    for key, raster in what.picture.rasters.items():
        gsd = raster.grid.resolution[0]
        asset: dict[str, Any] = {
            "href": what.files[key].href,
            **projection(raster.grid),
            "gsd": gsd,
            "type": COG,
            "roles": ["data"],
        }
        if key == "SCL":
            asset["title"] = "Scene classfication map (SCL)"
        else:
            title, common, center, width = _S2_TITLES[key]
            band: dict[str, Any] = {
                "name": key,
                "common_name": common,
                "description": title.rsplit(" - ", 1)[0],
            }
            if common is None:
                del band["common_name"]
            band |= {"center_wavelength": center, "full_width_half_max": width}
            asset |= {"title": title, "eo:bands": [band]}
        assets[key] = asset
    properties = {
        "datetime": seen.when.strftime(ISO),
        "platform": f"Sentinel-{unit[1:]}",
        "proj:epsg": what.square.epsg,
        "instruments": ["msi"],
        "s2:mgrs_tile": tile,
        "constellation": "Sentinel 2",
        "s2:granule_id": f"{unit}_OPER_MSI_L2A_TL_SWTH_{made}_A{orbit:06d}_T{tile}_N{seen.version}",
        "eo:cloud_cover": round(seen.claims.get("cloud", facts["cloud"]), 6),
        "s2:datatake_id": f"G{unit}_{second}_{orbit:06d}_N{seen.version}",
        "s2:product_uri": f"{unit}_MSIL2A_{second}_N{number}_R{seen.orbit:03d}_T{tile}_{made}.SAFE",
        "s2:datastrip_id": f"{unit}_OPER_MSI_L2A_DS_SWTH_{made}_S{second}_N{seen.version}",
        "s2:product_type": "S2MSI2A",
        "sat:orbit_state": "descending",
        "s2:datatake_type": "INS-NOBS",
        "s2:generation_time": seen.generated.strftime(ISO),
        "sat:relative_orbit": seen.orbit,
        "s2:mean_solar_zenith": what.sun.zenith,
        "s2:mean_solar_azimuth": what.sun.azimuth,
        "s2:processing_baseline": seen.version,
        "s2:nodata_pixel_percentage": round(facts["nodata"], 6),
        **{f"s2:{name}_percentage": round(facts[f"scl_{value}"], 6) for name, value in _SCL_SHARES.items()},
        "s2:degraded_msi_data_percentage": 0.0,
    }
    return properties, assets, extensions("eo/v1.0.0", "sat/v1.0.0", "projection/v1.0.0")


_SCL_SHARES = {
    "saturated_defective_pixel": 1,
    "dark_features": 2,
    "cloud_shadow": 3,
    "vegetation": 4,
    "not_vegetated": 5,
    "water": 6,
    "unclassified": 7,
    "medium_proba_clouds": 8,
    "high_proba_clouds": 9,
    "thin_cirrus": 10,
    "snow_ice": 11,
}
