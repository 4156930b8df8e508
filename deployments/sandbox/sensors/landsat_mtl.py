"""Landsat's metadata file (MTL) as JSON and as text, as Collection 2 Level 1 has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from deployments.sandbox.atmosphere import Sun
from deployments.sandbox.observation import LANDSAT_ROW, Observation
from deployments.sandbox.sensors import Document
from deployments.sandbox.sensors.landsat_instruments import Instrument, sun_distance

_KEYS = {
    "LEVEL1_RADIOMETRIC_RESCALING": {
        "radiance_mult": "RADIANCE_MULT_BAND_",
        "radiance_add": "RADIANCE_ADD_BAND_",
        "reflectance_mult": "REFLECTANCE_MULT_BAND_",
        "reflectance_add": "REFLECTANCE_ADD_BAND_",
    },
    "LEVEL1_THERMAL_CONSTANTS": {"k1": "K1_CONSTANT_BAND_", "k2": "K2_CONSTANT_BAND_"},
}


def level_1_id(seen: Observation, instrument: Instrument) -> str:
    """Product id of a Level-1 scene, with its processing date."""
    place = f"{seen.orbit:03d}{LANDSAT_ROW:03d}"
    return (
        f"{instrument.letters}0{seen.platform[-1]}_L1TP_{place}_{seen.when:%Y%m%d}_{seen.generated:%Y%m%d}"
        f"_02_{seen.version}"
    )


def mtl_documents(seen: Observation, sun: Sun, instrument: Instrument) -> dict[str, Document]:
    """The MTL by asset key. Scenes of Landsat 5 have it as text only, so that both kinds are read."""
    name = level_1_id(seen, instrument)
    groups = _groups(seen, sun, instrument)
    documents = {"MTL.txt": Document(f"{name}_MTL.txt", "text/plain", _as_text(groups))}
    if instrument.letters != "LT":
        text = json.dumps({"LANDSAT_METADATA_FILE": groups}, indent=2) + "\n"
        documents["MTL.json"] = Document(f"{name}_MTL.json", "application/json", text)
    return documents


def _groups(seen: Observation, sun: Sun, instrument: Instrument) -> dict[str, dict[str, Any]]:
    groups: dict[str, dict[str, Any]] = {
        "PRODUCT_CONTENTS": {
            "ORIGIN": "Simulated by the Swath sandbox; not data of the U.S. Geological Survey",
            "LANDSAT_PRODUCT_ID": level_1_id(seen, instrument),
            "PROCESSING_LEVEL": "L1TP",
            "COLLECTION_NUMBER": "02",
            "COLLECTION_CATEGORY": seen.version,
            "OUTPUT_FORMAT": "GEOTIFF",
        },
        "IMAGE_ATTRIBUTES": {
            "SPACECRAFT_ID": seen.platform.upper().replace("-", "_"),
            "SENSOR_ID": "_".join(instrument.names).upper().replace("+", ""),
            "WRS_PATH": str(seen.orbit),
            "WRS_ROW": str(LANDSAT_ROW),
            "DATE_ACQUIRED": f"{seen.when:%Y-%m-%d}",
            "SCENE_CENTER_TIME": f"{seen.when:%H:%M:%S.%f}0Z",
            "SUN_AZIMUTH": f"{sun.azimuth:.8f}",
            "SUN_ELEVATION": f"{sun.elevation:.8f}",
            "EARTH_SUN_DISTANCE": f"{sun_distance(seen.when):.7f}",
        },
        # Level-2 files repeat the keys of Level 1 with other numbers; a reader must know which are which.
        "LEVEL2_SURFACE_REFLECTANCE_PARAMETERS": {
            f"REFLECTANCE_{kind}_BAND_{band[1:]}": value
            for band in (facts[0] for facts in instrument.surface.values())
            for kind, value in (("MULT", "2.75e-05"), ("ADD", "-0.2"))
        },
        **{group: {} for group in _KEYS},
    }
    for band in instrument.level_1.values():
        facts = band.coefficients(seen.when)
        for group, keys in _KEYS.items():
            groups[group] |= {
                f"{key}{band.band.removeprefix('B')}": f"{facts[fact]:.10g}"
                for fact, key in keys.items()
                if fact in facts
            }
    return groups


def _as_text(groups: Mapping[str, Mapping[str, Any]]) -> str:
    lines = ["GROUP = LANDSAT_METADATA_FILE"]
    for group, entries in groups.items():
        lines.append(f"  GROUP = {group}")
        for key, value in entries.items():
            number = str(value).replace("-", "").replace(".", "").replace("e", "").isdigit()
            lines.append(f"    {key} = {value}" if number else f'    {key} = "{value}"')
        lines.append(f"  END_GROUP = {group}")
    return "\n".join([*lines, "END_GROUP = LANDSAT_METADATA_FILE", "END", ""])
