"""Single values as archives spell them: numbers, times, EPSG codes, platforms, places."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from catalog.normalise.findings import Findings

Properties = Mapping[str, Any]

PLATFORM_OF_ID = (
    (re.compile(r"S([12])([A-D])_"), "sentinel-{0}{1}"),
    (re.compile(r"L[COTEM]0([1-9])_"), "landsat-{0}"),
    (re.compile(r"ENMAP\d*-"), "enmap"),
)
"""Beginning of an id → platform."""


def number(value: Any) -> float | None:
    """A finite number, also from its text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        result = float(value)
    except (ValueError, OverflowError):
        return None
    return result if math.isfinite(result) else None


def text(value: Any) -> str | None:
    """A non-empty string, also from a whole number; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return str(value)
    return value.strip() or None if isinstance(value, str) else None


def first_text(properties: Properties, *names: str) -> str | None:
    """The first of these properties that holds text."""
    return next((found for name in names if (found := text(properties.get(name)))), None)


def moment(value: Any) -> datetime | None:
    """A time in UTC; a blank instead of ``T`` and a missing zone (then UTC) are understood."""
    raw = text(value)
    if raw is None or len(raw) < 16:  # a date alone says nothing about the sensing time
        return None
    try:
        parsed = datetime.fromisoformat(raw)
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def sensing_time(properties: Properties, findings: Findings) -> datetime | None:
    """``datetime``, or the middle of start and end."""
    stated = properties.get("datetime")
    if stated is not None:
        time = moment(stated)
        if time is None:
            findings.refuse(f"datetime {stated!r} is no time of day")
        elif isinstance(stated, str) and not re.match(r".*T.*(Z|[+-]\d\d:?\d\d)$", stated):
            findings.repair(f"datetime {stated!r} read as {time.isoformat()}")
        return time
    start, end = moment(properties.get("start_datetime")), moment(properties.get("end_datetime"))
    if start is None or end is None:
        findings.refuse("neither datetime nor start_datetime and end_datetime")
        return None
    findings.repair("no datetime: the middle of start_datetime and end_datetime")
    return start + (end - start) / 2


def cloud_cover(properties: Properties, findings: Findings) -> float | None:
    """``eo:cloud_cover`` in percent; None where it is not known."""
    stated = properties.get("eo:cloud_cover")
    if stated is None:
        return None
    percent = number(stated)
    if percent is None or not 0 <= percent <= 100:
        findings.repair(f"eo:cloud_cover {stated!r} is no percentage: unknown")
        return None
    if isinstance(stated, str):
        findings.repair(f"eo:cloud_cover is the text {stated!r}: read as a number")
    return percent


def platform(properties: Properties, item_id: str, findings: Findings) -> str | None:
    """Lower case with dashes: ``sentinel-2a``, ``landsat-9``, ``enmap``."""
    stated = text(properties.get("platform"))
    if stated is None and (stated := text(properties.get("eo:platform"))):
        findings.repair("platform taken from eo:platform")
    if stated is not None:
        spelled = re.sub(r"[\s_]+", "-", stated.lower())
        if spelled != stated:
            findings.repair(f"platform {stated!r} written {spelled!r}")
        return spelled
    for pattern, name in PLATFORM_OF_ID:
        if match := pattern.match(item_id.upper()):
            findings.repair("platform taken from the id")
            return name.format(*match.groups()).lower()
    findings.refuse("no platform")
    return None


def epsg_of(holder: Mapping[str, Any]) -> int | None:
    """``proj:code`` (EPSG:32632) or ``proj:epsg`` of an item's properties or an asset."""
    code = text(holder.get("proj:code"))
    if code is not None:
        match = re.fullmatch(r"EPSG:(\d{4,6})", code, re.IGNORECASE)
        return int(match[1]) if match else None
    value = number(holder.get("proj:epsg"))
    return int(value) if value is not None and value == int(value) and value > 0 else None


def sun(properties: Properties) -> tuple[float | None, float | None]:
    """(elevation, azimuth) in degrees."""
    elevation = number(properties.get("view:sun_elevation", properties.get("eo:sun_elevation")))
    azimuth = number(properties.get("view:sun_azimuth", properties.get("eo:sun_azimuth")))
    if elevation is None and (zenith := number(properties.get("s2:mean_solar_zenith"))) is not None:
        elevation = 90.0 - zenith
    if azimuth is None:
        azimuth = number(properties.get("s2:mean_solar_azimuth"))
    return elevation, azimuth


def tile(properties: Properties, item_id: str, findings: Findings) -> str:
    """The archive's key of the place: MGRS tile, WRS path and row, datatake and tile, orbit and slice."""
    if stated := first_text(properties, "swath:tile", "s2:mgrs_tile"):
        return stated.upper().removeprefix("T") if "s2:mgrs_tile" in properties else stated
    if grid_code := text(properties.get("grid:code")):
        return grid_code.removeprefix("MGRS-")
    path, row = text(properties.get("landsat:wrs_path")), text(properties.get("landsat:wrs_row"))
    if path and row:
        return f"{path:0>3}{row:0>3}"
    datatake, part = text(properties.get("enmap:datatakeID")), text(properties.get("enmap:tileID"))
    if datatake and part:
        return f"DT{datatake:0>10}-{part:0>3}"
    orbit = text(properties.get("sat:relative_orbit"))
    if orbit and (part := text(properties.get("s1:slice_number"))):
        return f"R{orbit:0>3}-{part:0>2}"
    if match := re.search(r"_T(\d{2}[C-X][A-Z]{2})(_|$)", item_id):
        findings.repair("tile taken from the id")
        return match[1]
    findings.repair("no tile is stated: the item's own id stands for the place")
    return item_id


def baseline(properties: Properties, item_id: str, findings: Findings) -> str | None:
    """Processing baseline or version, e.g. ``05.11``."""
    stated = first_text(
        properties, "s2:processing_baseline", "processing:version", "version", "landsat:collection_number"
    )
    if stated is not None:
        return stated
    source = f"{text(properties.get('s2:product_uri')) or ''} {item_id}"
    if match := re.search(r"_N(\d{2})(\d{2})_", source):
        findings.repair("processing baseline taken from the product name")
        return f"{match[1]}.{match[2]}"
    return None


def generated(properties: Properties, names: str) -> datetime | None:
    """When this version was made by its processor; when it was catalogued, where nothing better is known.

    ``names``: id and addresses, in which Landsat states its processing date (…_<sensed>_<processed>_02_T1).
    """
    for key in (
        "s2:generation_time",
        "processing:datetime",
        "enmap:processingDate",
        "s1:processing_datetime",
    ):
        if (time := moment(properties.get(key))) is not None:
            return time
    if match := re.search(r"L[COTEM]0\d_L\w+_\d{6}_\d{8}_(\d{8})_\d\d_", names):
        return moment(f"{match[1][:4]}-{match[1][4:6]}-{match[1][6:]}T00:00:00Z")
    return moment(properties.get("created"))
