"""What an item is made from, and the fields that every archive spells alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from catalog.grids import Grid
from deployments.sandbox.atmosphere import Sun
from deployments.sandbox.observation import LANDSAT_ROW, S2_TILES, Observation
from deployments.sandbox.sensors import Picture
from deployments.sandbox.sensors.landsat_instruments import INSTRUMENTS
from deployments.sandbox.sensors.landsat_mtl import level_1_id

COG = "image/tiff; application=geotiff; profile=cloud-optimized"
LICENCE = "CC0-1.0"
ISO = "%Y-%m-%dT%H:%M:%S.%fZ"


@dataclass(frozen=True)
class Stored:
    """One file as it lies on disk."""

    href: str
    """Relative to the archive's root."""
    size: int
    sha256: str


@dataclass(frozen=True)
class Described:
    """All that an item states."""

    seen: Observation
    id: str
    collection: str
    square: Grid
    picture: Picture
    files: Mapping[str, Stored]
    sun: Sun


def scene_id(seen: Observation) -> str:
    """Id as the real archive would have made it."""
    second = seen.when.strftime("%Y%m%dT%H%M%S")
    made = seen.generated.strftime("%Y%m%dT%H%M%S")
    if seen.product == "sentinel-2-l2a":
        unit = "S2A" if seen.platform == "sentinel-2a" else "S2B"
        return f"{unit}_MSIL2A_{second}_R{seen.orbit:03d}_T{S2_TILES[seen.zone]}_{made}"
    if seen.product in ("sentinel-1-rtc", "sentinel-1-grd"):
        start, end = slice_times(seen)
        orbit = absolute_orbit(seen)
        tail = "_rtc" if seen.product == "sentinel-1-rtc" else ""
        name = f"S1A_IW_GRDH_1SDV_{start:%Y%m%dT%H%M%S}_{end:%Y%m%dT%H%M%S}_{orbit:06d}_{orbit * 8 + 5:06X}"
        return name + tail
    if seen.product == "sentinel-2-l1c":
        unit, sequence = ("S2A" if seen.platform == "sentinel-2a" else "S2B"), seen.role == "reprocessed"
        return f"{unit}_{S2_TILES[seen.zone]}_{seen.when:%Y%m%d}_{sequence:d}_L1C"
    if seen.product.startswith("landsat-"):
        instrument = INSTRUMENTS[seen.platform]
        if seen.product.endswith("-toa"):
            return level_1_id(seen, instrument)
        number = seen.platform[-1]
        place = f"{seen.orbit:03d}{LANDSAT_ROW:03d}"
        return f"{instrument.letters}0{number}_L2SP_{place}_{seen.when:%Y%m%d}_02_{seen.version}"
    version = seen.version.replace(".", "")
    return f"ENMAP01-____L2A-DT{seen.orbit:010d}_{second}Z_001_V{version}_{made}Z"


def slice_times(seen: Observation) -> tuple[datetime, datetime]:
    """Start and end of a Sentinel-1 slice; the later processing of one slice ends a second later."""
    half = timedelta(seconds=12.5)
    return seen.when - half, seen.when + half + timedelta(seconds=seen.role == "reprocessed")


def absolute_orbit(seen: Observation) -> int:
    """Sentinel-1A orbit number: 175 orbits in 12 days, so that it fits the relative orbit."""
    reference = datetime(2025, 3, 11, 4, 42, 40, tzinfo=UTC)
    guess = 58252 + round((seen.when - reference) / timedelta(days=12) * 175)
    return guess + (seen.orbit - ((guess - 73) % 175 + 1) + 87) % 175 - 87


def projection(grid: Grid, *, nine: bool = False, with_bbox: bool = True) -> dict[str, Any]:
    """Shape, transform (six or nine numbers) and bounds of a grid, as the projection extension has them."""
    fields: dict[str, Any] = {
        "proj:shape": list(grid.shape),
        "proj:transform": [*grid.affine, 0.0, 0.0, 1.0] if nine else list(grid.affine),
    }
    if with_bbox:
        fields = {"proj:bbox": list(grid.bounds), **fields}
    return fields


def extensions(*names: str) -> list[str]:
    """Addresses of STAC extensions by name and version."""
    return [f"https://stac-extensions.github.io/{name}/schema.json" for name in names]
