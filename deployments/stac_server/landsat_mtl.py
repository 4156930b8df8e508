"""Landsat MTL files: what they say of a scene, in the fields of a STAC item."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from catalog.errors import UsageError

ESUN_TM5 = {"1": 1983.0, "2": 1796.0, "3": 1536.0, "4": 1031.0, "5": 220.0, "7": 83.44}
"""Exoatmospheric solar irradiance of Landsat 5 TM, W/(m² µm): Chander, Markham, Helder 2009."""
KELVIN_TM5 = {"K1_CONSTANT_BAND_6": 607.76, "K2_CONSTANT_BAND_6": 1260.56}
"""Thermal constants of Landsat 5 TM: from the same paper."""


def read_mtl(path: Path) -> dict[str, str]:
    """Every ``KEY = value`` of an MTL file (txt or json), groups merged; of a repeated key the first counts.

    The first is the product's own: Level-2 files repeat Level-1 entries further down.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace").replace("\0", "")
    except OSError as error:
        raise UsageError(
            "mtl-not-found",
            f"cannot read {path}: {error.strerror}",
            subject=str(path),
            next_step="correct `mtl` in archive.yaml",
        ) from error
    found: dict[str, str] = {}
    if path.suffix.lower() == ".json":
        for group in json.loads(text)["LANDSAT_METADATA_FILE"].values():
            for key, value in group.items():
                found.setdefault(key, str(value))
        return found
    for line in text.splitlines():
        key, separator, value = line.partition("=")
        if separator and key.strip() not in ("GROUP", "END_GROUP"):
            found.setdefault(key.strip(), value.strip().strip('"'))
    return found


def sensing_time(mtl: dict[str, str]) -> datetime:
    """``DATE_ACQUIRED`` and ``SCENE_CENTER_TIME``, UTC, to the microsecond."""
    clock = mtl["SCENE_CENTER_TIME"].rstrip("Z")
    return datetime.fromisoformat(f"{mtl['DATE_ACQUIRED']}T{clock[:15]}").replace(tzinfo=UTC)


def item_properties(mtl: dict[str, str]) -> dict[str, Any]:
    """Item properties in Planetary Computer's spelling, and the radiometric coefficients as numbers."""
    properties: dict[str, Any] = {
        "view:sun_elevation": float(mtl["SUN_ELEVATION"]),
        "view:sun_azimuth": float(mtl["SUN_AZIMUTH"]) % 360,
        "landsat:wrs_path": f"{int(mtl['WRS_PATH']):03d}",
        "landsat:wrs_row": f"{int(mtl['WRS_ROW']):03d}",
        "landsat:scene_id": mtl.get("LANDSAT_SCENE_ID", ""),
    }
    cover = float(mtl.get("CLOUD_COVER", -1))
    if cover >= 0:  # the file says -1 where it was not judged
        properties["eo:cloud_cover"] = cover
    generated = mtl.get("DATE_PRODUCT_GENERATED") or mtl.get("FILE_DATE")
    if generated:
        properties["created"] = generated
    if "COLLECTION_NUMBER" in mtl:
        properties["landsat:collection_number"] = mtl["COLLECTION_NUMBER"]
        properties["landsat:collection_category"] = mtl.get("COLLECTION_CATEGORY", "")
    return properties


def missing_coefficients(mtl: dict[str, str]) -> dict[str, float]:
    """What a TM file from before Collections lacks of a Level-1 MTL; empty for every other file.

    It gives radiance only. The reflectance coefficients (before the division by the sine of the sun's
    elevation, as in every MTL) follow from the radiance ones: times π·d²/ESUN, d the distance to the sun.
    """
    if mtl.get("SPACECRAFT_ID") != "LANDSAT_5" or mtl.get("SENSOR_ID") != "TM":
        return {}
    distance = earth_sun_distance(sensing_time(mtl))
    found = {
        f"REFLECTANCE_{kind}_BAND_{band}": float(mtl[f"RADIANCE_{kind}_BAND_{band}"])
        * math.pi
        * distance**2
        / sun
        for band, sun in ESUN_TM5.items()
        for kind in ("MULT", "ADD")
    }
    return {key: value for key, value in (found | KELVIN_TM5).items() if key not in mtl}


def completed(path: Path, extra: dict[str, float]) -> str:
    """The text of an MTL file with one more group."""
    text = path.read_text(encoding="utf-8", errors="replace").replace("\0", "").rstrip()
    lines = "".join(f"    {key} = {value:.10g}\n" for key, value in extra.items())
    group = f"  GROUP = SWATH_COEFFICIENTS\n{lines}  END_GROUP = SWATH_COEFFICIENTS\n"
    head, separator, tail = text.rpartition("END_GROUP = L1_METADATA_FILE")
    return f"{head}{group}{separator}{tail}\n" if separator else f"{text}\n{group}"


def earth_sun_distance(when: datetime) -> float:
    """Astronomical units, to a few parts in ten thousand."""
    day = when.timetuple().tm_yday + when.hour / 24
    return 1 - 0.01672 * math.cos(math.radians(0.9856 * (day - 4)))
