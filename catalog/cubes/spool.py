"""Holds one commit's pixels until they can be written in order: in memory while small, else on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.grids import Affine
from catalog.samples import Sample

IN_MEMORY_BYTES = 64 << 20


@dataclass(frozen=True)
class Spooled:
    """A sample whose pixels lie in the spool."""

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
    places: dict[float | None, tuple[int, tuple[int, ...], np.dtype[Any]]]
    """Native sampling (None: the quality flags) → (byte offset, shape, type)."""


class Spool:
    """Samples of one product in one commit.

    Its file has no name, so nothing is left of it when the process is killed.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES, dir=str(folder))  # noqa: SIM115
        self._end = 0
        self._samples: dict[str, Spooled] = {}

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
        places: dict[float | None, tuple[int, tuple[int, ...], np.dtype[Any]]] = {}
        for gsd, values in (*sample.pixels.items(), (None, sample.quality)):
            data = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
            places[gsd] = (self._end, data.shape, data.dtype)
            self._file.seek(self._end)
            self._file.write(data.tobytes())
            self._end += data.nbytes
        calibration = {"scale": sample.scale, "offset": sample.offset, "k1": sample.k1, "k2": sample.k2}
        self._samples[sample.id] = Spooled(
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
                for name, values in calibration.items()
                if values is not None
            },
            places=places,
        )

    def read(self, sample: Spooled, gsd_m: float | None) -> NDArray[Any]:
        """Raw pixels ``(band, y, x)`` of one resolution, or the flags ``(y, x)`` for None."""
        offset, shape, dtype = sample.places[gsd_m]
        self._file.seek(offset)
        data = self._file.read(int(np.prod(shape)) * dtype.itemsize)
        return np.frombuffer(data, dtype).reshape(shape)
