"""The columns of a cube: one value per sample, beside its pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CHUNK = 4096
"""Rows of a column that are stored together: the last of them are written again with every commit."""


@dataclass(frozen=True)
class Column:
    """One value per sample."""

    name: str
    dtype: str
    description: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    chunk: int = CHUNK


COLUMNS = (
    Column("sample", "string", "sample id: product/scene/location"),
    Column("location", "string", "location id, see /locations"),
    Column("scene", "string", "scene id, see the scenes subgroup"),
    Column(
        "time",
        "int64",
        "sensing time, UTC",
        {"units": "microseconds since 1970-01-01T00:00:00", "calendar": "proleptic_gregorian"},
    ),
    Column("epsg", "int32", "EPSG code of the sample's grid"),
    Column("resampled", "bool", "whether pixels were resampled instead of copied"),
    Column(
        "position_error_m",
        "float64",
        "estimated horizontal error where the reader placed the scene itself; NaN by the product's own grid",
        {"units": "m"},
    ),
    Column("nodata_fraction", "float64", "share of pixels without a measurement"),
    Column("cloud_fraction", "float64", "cloudy share of the valid pixels; NaN where no QA layer tells"),
    Column(
        "sha256",
        "string",
        "SHA-256 of the raw pixels, finest resolution first, C order, little endian",
        # No two alike: 33 bytes a row when compressed, where all other columns together take 13.
        chunk=CHUNK // 4,
    ),
    Column("superseded_by", "string", "id of the reprocessed scene that replaces this one; empty if none"),
)

LATER = ("position_error_m",)
"""Columns that cubes of earlier versions lack; their samples have NaN there."""
