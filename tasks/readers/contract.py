"""What a reader is asked, what it answers, and how it fails: one Protocol for all of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from catalog.errors import SceneError
from catalog.grids import Grid
from catalog.products import Product
from catalog.scenes import Scene

if TYPE_CHECKING:
    from catalog.archives import Archive


@dataclass(frozen=True)
class WindowRequest:
    """One place that is wanted from a scene."""

    location: str
    grids: Mapping[float, Grid]
    """Ground sampling in metres → target grid: each native resolution of the product, and its QA layer's."""
    terrain: str | None = None
    """Elevation model on this machine, for products whose scenes have no grid of their own."""


@dataclass(frozen=True)
class WindowPixels:
    """What a reader found at one place."""

    location: str
    grids: Mapping[float, Grid]
    pixels: Mapping[float, NDArray[Any]]
    """Native ground sampling → raw values ``(band, y, x)`` in the product's dtype and band order."""
    quality: NDArray[np.uint8]
    """``catalog.quality`` flags ``(y, x)``, on the grid of ``quality_gsd_m``."""
    quality_gsd_m: float
    resampled: bool
    """Whether any band had to be interpolated; False means every pixel is a copy of the file's."""
    position_error_m: float = math.nan
    """Estimated horizontal error where the reader placed the scene itself; NaN by the product's grid."""


class Reader(Protocol):
    """A way to read scenes; a second one exists so that no library is irreplaceable."""

    @property
    def name(self) -> str:
        """What ``load_reader`` calls it."""
        ...

    def read(
        self, scene: Scene, product: Product, windows: Sequence[WindowRequest], archive: Archive
    ) -> Iterator[WindowPixels]:
        """Yield the windows that touch the scene's raster, in any order; the others are left out.

        Raises
        ------
        ReadFailure: a file cannot be read. What was yielded before must then be thrown away: a scene is
            read whole or not at all, and an error never becomes nodata.
        SceneError: the files are not what the product says (bands, data type, nodata value).
        """
        ...


MAY_PASS = frozenset({"asset-unreachable", "asset-changed", "signing-failed"})
"""Codes of failures that say nothing about the scene itself."""


class ReadFailure(SceneError):
    """One file of a scene cannot be read.

    Attributes
    ----------
    band:     product bands of the file, or the name of its QA layer
    href:     unsigned address
    status:   HTTP status where there was one
    attempts: how often it was tried
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        subject: str = "",
        next_step: str = "",
        band: str = "",
        href: str = "",
        status: int | None = None,
        attempts: int = 1,
    ) -> None:
        super().__init__(code, message, subject=subject, next_step=next_step)
        self.band = band
        self.href = href
        self.status = status
        self.attempts = attempts

    @property
    def may_pass(self) -> bool:
        """Whether the cause lies outside the scene and may be gone the next time: network, server, token."""
        return self.code in MAY_PASS

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (dict(self.__dict__),))


def _rebuild(values: dict[str, Any]) -> ReadFailure:
    return ReadFailure(values.pop("code"), values.pop("message"), **values)
