"""An EnMAP L2A item as at DLR."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from deployments.sandbox.items.described import COG, ISO, Described, extensions, projection
from deployments.sandbox.sensors import enmap

_ENMAP_LAYERS = {
    "quality_classes": ("Quality classes", ["quality"]),
    "quality_cloud": ("Quality cloud", ["quality", "cloud"]),
    "quality_cloud_shadow": ("Quality cloud shadow", ["quality", "cloud-shadow"]),
    "quality_haze": ("Quality haze", ["quality", "haze"]),
    "quality_cirrus": ("Quality cirrus", ["quality", "cirrus"]),
    "quality_snow": ("Quality snow", ["quality", "snow"]),
}


def describe(what: Described) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Numbers as strings, sun azimuth turned by 180 degrees, upper case, CRS on the assets alone."""
    seen, facts, bands = what.seen, what.picture.facts, enmap.enmap_bands(what.seen.version)
    grid = what.picture.rasters["image"].grid
    west, south, east, north = grid.bounds
    place = {
        "proj:epsg": grid.epsg,
        **projection(grid, nine=True, with_bbox=False),
        "proj:geometry": {
            "type": "Polygon",
            "coordinates": [[[west, south], [east, south], [east, north], [west, north], [west, south]]],
        },
        "proj:bbox": list(grid.bounds),
    }
    assets: dict[str, Any] = {
        "image": {
            "href": what.files["image"].href,
            "type": COG,
            "title": "Spectral Image",
            "description": "Earth image measurement data covering 1 tile in orthorectified geometry",
            **place,
            "eo:bands": [
                {
                    "name": number,
                    "center_wavelength": center,
                    "full_width_half_max": width,
                    "enmap:gain_of_band": enmap.SCALE,
                    "enmap:offset_of_band": 0,
                }
                for number, (center, width) in enumerate(zip(bands.centers_nm, bands.fwhm_nm, strict=True), 1)
            ],
            "roles": ["data"],
        }
    }
    for key, (title, roles) in _ENMAP_LAYERS.items():
        layer: dict[str, Any] = {"data_type": "uint8", "scale": 1.0, "offset": 0.0, "sampling": "area"}
        if key == "quality_classes":
            layer["nodata"] = 3.0
        assets[key] = {
            "href": what.files[key].href,
            "type": COG,
            "title": title,
            "description": f"{title.removeprefix('Quality ').capitalize()} quality layer",
            "raster:bands": [layer],
            **place,
            "roles": roles,
        }
    by_night = what.sun.elevation <= 0
    quality = "2" if by_night else "0"
    processed = seen.generated.strftime(ISO)
    properties = {
        "version": seen.version,
        "created": processed,
        "updated": processed,
        "datetime": f"{seen.when:%Y-%m-%dT%H:%M:%SZ}",
        "start_datetime": seen.when.strftime(ISO),
        "end_datetime": (seen.when + timedelta(seconds=4.45)).strftime(ISO),
        "platform": "enmap",
        "proj:epsg": None,
        "sat:relative_orbit": str(seen.orbit % 398),
        "sat:orbit_state": "ASCENDING" if by_night else "DESCENDING",
        "eo:cloud_cover": str(round(facts["cloud"])),
        "eo:snow_cover": str(round(facts["snow"])),
        "view:sun_azimuth": round(what.sun.azimuth + 180, 6),
        "view:sun_elevation": round(what.sun.elevation, 6),
        "processing:facility": "SWATH",
        "processing:level": "L2A",
        "eop:sensorType": "OPTICAL",
        "enmap:SWIRAorSWIRBSelected": "SWIRA",
        "enmap:acrossOffNadirAngle": "4.21077210912",
        "enmap:cirrus_cover": str(round(facts["cirrus"])),
        "enmap:cloud_shadow": str(round(facts["shadow"])),
        "enmap:datatakeID": f"{seen.orbit:010d}",
        "enmap:haze_cover": str(round(facts["haze"])),
        "enmap:nodata": str(enmap.NODATA),
        "enmap:numberOfTiles": "01",
        "enmap:overallQuality": quality,
        "enmap:overallQualitySWIR": quality,
        "enmap:overallQualityVNIR": quality,
        "enmap:processingDate": processed,
        "enmap:qualityAtmosphere": quality,
        "enmap:sceneAOT": "140",
        "enmap:sceneWV": "2291",
        "enmap:status": "NOMINAL",
        "enmap:statusSWIR": "on",
        "enmap:statusVNIR": "on",
        "enmap:sunAzimuthAngle": f"{what.sun.azimuth:.6f}",
        "enmap:sunElevationAngle": f"{what.sun.elevation:.6f}",
        "enmap:tileID": "01",
        "enmap:water_cover": str(round(facts["water"])),
        "eo:instrument": "HSI",
    }
    return (
        properties,
        assets,
        extensions("eo/v1.1.0", "view/v1.0.0", "projection/v1.0.0", "processing/v1.0.0", "sat/v1.0.0"),
    )
