"""Holds one commit's pixels until they can be written in order: in memory while small, else on disk."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.grids import Affine
from catalog.samples import Sample

IN_MEMORY_BYTES = 16 << 20


@dataclass(frozen=True)
class PixelLayout:
    """How a sample's arrays lie one behind the other; samples of one product share it."""

    parts: Mapping[float | None, tuple[int, tuple[int, ...], np.dtype[Any]]]
    """Native sampling (None: the quality flags) → (offset in the sample, shape, type)."""
    nbytes: int
    """Raw bytes of pixels and flags."""


@dataclass(frozen=True, slots=True)
class Spooled:
    """A sample whose pixels lie elsewhere; a commit holds one for each, so what they share is kept once."""

    id: str
    location: str
    scene: str
    sensed: datetime
    epsg: int
    resampled: bool
    position_error_m: float
    nodata_fraction: float
    cloud_fraction: float
    sha256: str
    affines: dict[float, Affine]
    calibration: dict[str, NDArray[np.float64]]
    """``scale``, ``offset`` and, where given, ``k1``, ``k2``: one value per band."""
    offset: int
    """First byte in the spool's file, or in ``source``."""
    layout: PixelLayout
    source: str = ""
    """Name of the object that holds the pixels; empty where the spool's own file does."""

    @property
    def nbytes(self) -> int:
        """Raw bytes of pixels and flags."""
        return self.layout.nbytes

    def shape(self, gsd_m: float | None) -> tuple[int, ...]:
        """``(band, y, x)`` of one native sampling, ``(y, x)`` of the flags for None."""
        return self.layout.parts[gsd_m][1]

    def pixels(self, data: bytes | memoryview, gsd_m: float | None) -> NDArray[Any]:
        """One array out of all bytes of the sample."""
        offset, shape, dtype = self.layout.parts[gsd_m]
        return np.frombuffer(data, dtype, math.prod(shape), offset).reshape(shape)


class Describer:
    """Describes samples without their pixels, and keeps once what many of them have in common."""

    def __init__(self) -> None:
        self._layout = PixelLayout({}, 0)
        self._affines: dict[str, dict[float, Affine]] = {}
        self._calibration: tuple[str, dict[str, NDArray[np.float64]]] = ("", {})

    def describe(self, sample: Sample, offset: int, source: str = "") -> tuple[Spooled, list[NDArray[Any]]]:
        """The description, and what is to be stored at ``offset``, array by array."""
        arrays: list[NDArray[Any]] = []
        parts: dict[float | None, tuple[int, tuple[int, ...], np.dtype[Any]]] = {}
        end = 0
        for gsd, values in (*sample.pixels.items(), (None, sample.quality)):
            arrays.append(np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("=")))
            parts[gsd] = (end, arrays[-1].shape, arrays[-1].dtype)
            end += arrays[-1].nbytes
        described = Spooled(
            id=sample.id,
            location=sample.location,
            scene=sample.scene,
            sensed=sample.sensed,
            epsg=sample.epsg,
            resampled=sample.resampled,
            position_error_m=sample.position_error_m,
            nodata_fraction=sample.nodata_fraction,
            cloud_fraction=sample.cloud_fraction,
            sha256=sample.sha256,
            affines=dict(sample.affines),
            calibration={
                name: np.asarray(values, np.float64)
                for name in ("scale", "offset", "k1", "k2")
                if (values := getattr(sample, name)) is not None
            },
            offset=offset,
            layout=PixelLayout(parts, end),
            source=source,
        )
        return self.shared(described), arrays

    def shared(self, sample: Spooled) -> Spooled:
        """The same description, with the parts that an earlier one has too."""
        if sample.layout != self._layout:
            self._layout = sample.layout
        affines = self._affines.setdefault(sample.location, sample.affines)
        scene, calibration = self._calibration
        if scene != sample.scene or not _equal(calibration, sample.calibration):
            calibration = sample.calibration
            self._calibration = (sample.scene, calibration)
        return replace(
            sample,
            layout=self._layout,
            affines=affines if affines == sample.affines else sample.affines,
            calibration=calibration,
        )


def _equal(one: Mapping[str, NDArray[np.float64]], other: Mapping[str, NDArray[np.float64]]) -> bool:
    return one.keys() == other.keys() and all(
        np.array_equal(values, other[name], equal_nan=True) for name, values in one.items()
    )


class Spool:
    """Samples of one product in one commit.

    Its file has no name, so nothing is left of it when the process is killed.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES, dir=str(folder))  # noqa: SIM115
        self._end = 0
        self.nbytes = 0
        """Raw bytes of all samples."""
        self._samples: dict[str, Spooled] = {}
        self._describer = Describer()

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> Iterator[Spooled]:
        return iter(self._samples.values())

    def __contains__(self, sample_id: str) -> bool:
        return sample_id in self._samples

    def add(self, sample: Sample) -> None:
        """Take a sample; its pixels are written to the spool and forgotten."""
        described, arrays = self._describer.describe(sample, self._end)
        self._file.seek(self._end)
        for values in arrays:
            self._file.write(values.tobytes())
        self._end += described.nbytes
        self._take(described)

    def note(self, sample: Spooled) -> None:
        """Take a sample whose pixels lie elsewhere."""
        self._take(self._describer.shared(sample))

    def read(self, sample: Spooled, gsd_m: float | None) -> NDArray[Any]:
        """Raw pixels ``(band, y, x)`` of one resolution, or the flags ``(y, x)`` for None."""
        offset, shape, dtype = sample.layout.parts[gsd_m]
        self._file.seek(sample.offset + offset)
        data = self._file.read(math.prod(shape) * dtype.itemsize)
        return np.frombuffer(data, dtype).reshape(shape)

    def _take(self, sample: Spooled) -> None:
        self._samples[sample.id] = sample
        self.nbytes += sample.nbytes
