"""The sensors of the sandbox: each turns light over the landscape into its product's files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from catalog.grids import Grid


@dataclass(frozen=True)
class Raster:
    """One file to be written."""

    pixels: NDArray[Any]
    """``(band, y, x)``"""
    grid: Grid
    nodata: float | None
    tags: dict[str, str] = field(default_factory=dict)
    quality: bool = False
    """Class values and flags: overviews take the nearest pixel, not the mean."""
    points: tuple[tuple[float, float, float, float, float], ...] = ()
    """Ground-control points (line, pixel, longitude, latitude, height) instead of a grid: such a file has no
    CRS."""


@dataclass(frozen=True)
class Document:
    """A text file beside the rasters: Landsat's MTL, Sentinel-1's annotation."""

    name: str
    """File name."""
    media_type: str
    text: str


@dataclass(frozen=True)
class Picture:
    """One scene as files by asset key, and what its metadata will state of them."""

    rasters: dict[str, Raster]
    facts: dict[str, float]
    documents: dict[str, Document] = field(default_factory=dict)
    """Further files by asset key."""
