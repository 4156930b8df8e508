"""Holds one scene's samples until all of it is read: in memory, and beyond that in a nameless file.

A scene is written whole or not at all, and a whole Sentinel-2 tile can be more than fits into memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.samples import Sample

IN_MEMORY_BYTES = 256 * 2**20


class SceneSpool:
    """Takes samples, then gives them back in the same order; nothing is left of it when the process dies."""

    def __init__(self, in_memory_bytes: int = IN_MEMORY_BYTES) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=in_memory_bytes)  # noqa: SIM115
        self._samples: list[Sample] = []

    def __enter__(self) -> SceneSpool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._samples)

    def add(self, sample: Sample) -> None:
        """Take a sample; its pixels go to the spool and out of memory."""
        for gsd in sorted(sample.pixels):
            self._put(sample.pixels[gsd])
        self._put(sample.quality)
        empty = {gsd: np.empty((0, *values.shape), values.dtype) for gsd, values in sample.pixels.items()}
        hollow = np.empty((0, *sample.quality.shape), np.uint8)
        self._samples.append(replace(sample, pixels=empty, quality=hollow))

    def __iter__(self) -> Iterator[Sample]:
        self._file.seek(0)
        for sample in self._samples:
            pixels = {gsd: self._get(sample.pixels[gsd]) for gsd in sorted(sample.pixels)}
            yield replace(sample, pixels=pixels, quality=self._get(sample.quality))

    def close(self) -> None:
        """Drop everything."""
        self._samples.clear()
        self._file.close()

    def _put(self, values: NDArray[Any]) -> None:
        self._file.write(np.ascontiguousarray(values).tobytes())

    def _get(self, hollow: NDArray[Any]) -> NDArray[Any]:
        """The next array; ``hollow`` has its shape behind a length of 0, and its type."""
        shape = hollow.shape[1:]
        data = self._file.read(int(np.prod(shape)) * hollow.dtype.itemsize)
        return np.frombuffer(data, hollow.dtype).reshape(shape)
