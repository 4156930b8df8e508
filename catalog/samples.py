"""Samples: the pixels of one scene at one location, and what is recorded of them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.grids import Affine


@dataclass(frozen=True)
class Location:
    """A sampled place on the ground; its id and split never change."""

    id: str
    epsg: int
    """UTM zone in which ``x`` and ``y`` are metres."""
    x: float
    """Easting of the centre, metres."""
    y: float
    """Northing of the centre, metres."""
    size_m: float
    longitude: float
    latitude: float
    split: str
    """``pretrain``, ``probe`` or ``test``."""
    block: str
    """The spatial block (or tile) that keeps splits apart; a *place* of the scores."""


@dataclass(frozen=True)
class Sample:
    """Raw pixels of one scene at one location, ready to be written."""

    product: str
    scene: str
    location: str
    sensed: datetime
    epsg: int
    pixels: Mapping[float, NDArray[Any]]
    """Native ground sampling in metres → raw values ``(band, y, x)`` in product band order."""
    affines: Mapping[float, Affine]
    quality: NDArray[np.uint8]
    """``catalog.quality`` flags ``(y, x)`` on the QA layer's grid."""
    scale: NDArray[np.float64]
    """Per product band; with ``offset``, ``k1``, ``k2`` what ``catalog.radiometry.to_physical`` needs."""
    offset: NDArray[np.float64]
    nodata_fraction: float
    cloud_fraction: float
    """Of the valid pixels; NaN where the product has no QA layer that tells."""
    resampled: bool = False
    k1: NDArray[np.float64] | None = None
    k2: NDArray[np.float64] | None = None
    position_error_m: float = math.nan
    """Estimated horizontal error of a scene that Swath placed; NaN where the product's own grid places it."""

    @property
    def id(self) -> str:
        return sample_id(self.product, self.scene, self.location)

    @property
    def sha256(self) -> str:
        return pixels_sha256(self.pixels)


def sample_id(product: str, scene: str, location: str) -> str:
    """``product/scene/location``."""
    return f"{product}/{scene}/{location}"


def pixels_sha256(pixels: Mapping[float, NDArray[Any]]) -> str:
    """SHA-256 over the raw pixels: finest resolution first, C order, little endian, as stored."""
    digest = hashlib.sha256()
    for gsd in sorted(pixels):
        values = pixels[gsd]
        digest.update(np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()
