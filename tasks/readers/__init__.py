"""Readers: from the files of one scene to the raw pixels at many places, behind one Protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from catalog.errors import SceneError, UsageError
from catalog.grids import Grid
from catalog.products import Product
from catalog.scenes import Scene

if TYPE_CHECKING:
    from catalog.archives import Archive

__all__ = ["READERS", "ReadFailure", "Reader", "WindowPixels", "WindowRequest", "load_reader"]


@dataclass(frozen=True)
class WindowRequest:
    """One place that is wanted from a scene."""

    location: str
    grids: Mapping[float, Grid]
    """Ground sampling in metres → target grid: each native resolution of the product, and its QA layer's."""


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

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (dict(self.__dict__),))


def _rebuild(values: dict[str, Any]) -> ReadFailure:
    return ReadFailure(values.pop("code"), values.pop("message"), **values)


def load_reader(name: str = "direct") -> Reader:
    """A reader by name.

    Raises
    ------
    UsageError: ``unknown-reader``.
    """
    if name not in READERS:
        raise UsageError(
            "unknown-reader",
            f"there is no reader {name!r}; known: {', '.join(READERS)}",
            subject=name,
            next_step="choose one of these",
        )
    from tasks.readers.direct import DirectReader

    return DirectReader()


READERS = ("direct",)
"""Names that ``load_reader`` knows."""
