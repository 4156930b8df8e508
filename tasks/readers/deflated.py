"""Decodes the commonest tiles of Cloud-Optimized GeoTIFFs without GDAL: DEFLATE, integers, one band each.

GDAL takes a tile through its block cache and copies it twice; this is a third faster per tile, and decoding
is what cubing spends its time on. ISA-L inflates and checks the Adler-32 sum of the stream, NumPy undoes
TIFF's horizontal differencing (TIFF 6.0, section 14). Whatever is not exactly this, or does not decode, is
GDAL's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from isal import igzip_lib, isal_zlib
from numpy.typing import NDArray
from rasterio.enums import Compression

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

DIFFERENCING = 2
LITTLE_ENDIAN = b"II"


@dataclass(frozen=True)
class DeflatedTiles:
    """How the tiles of a file are coded."""

    shape: tuple[int, int]
    """(height, width) of a tile, pixels; tiles at the edges are whole too."""
    dtype: np.dtype[Any]
    differenced: bool

    def decode(self, stored: bytes) -> NDArray[Any] | None:
        """Pixels ``(y, x)`` of a tile; None where the bytes are not one."""
        size = self.shape[0] * self.shape[1] * self.dtype.itemsize
        try:
            data = isal_zlib.decompress(stored, bufsize=size)
        except igzip_lib.IsalError:  # type: ignore[misc]
            return None
        if len(data) != size:
            return None
        values = np.frombuffer(data, self.dtype).reshape(self.shape)
        # Differences are of integers that wrap around, as the sum does.
        return np.cumsum(values, axis=1, dtype=self.dtype) if self.differenced else values


def deflated_tiles(dataset: DatasetReader, start: bytes) -> DeflatedTiles | None:
    """How the tiles of an open file are coded, if it is as above; ``start``: its first bytes."""
    if dataset.driver != "GTiff" or dataset.compression is not Compression.deflate:
        return None
    pixel = str(dataset.interleaving).lower().endswith("pixel")
    structure = dataset.tags(ns="IMAGE_STRUCTURE") | dataset.tags(1, ns="IMAGE_STRUCTURE")
    dtype = np.dtype(dataset.dtypes[0]) if dataset.dtypes[0] != "complex_int16" else None
    plain = (
        # Strips are as wide as the file, and the last one is not whole.
        dataset.block_shapes[0][1] != dataset.width
        and not (pixel and dataset.count > 1)
        and start.startswith(LITTLE_ENDIAN)
        and "NBITS" not in structure
        and structure.get("PREDICTOR", "1") in {"1", str(DIFFERENCING)}
        and len(set(dataset.dtypes)) == 1
    )
    if not plain or dtype is None or dtype.kind not in "iu" or dtype.itemsize > 4:
        return None
    return DeflatedTiles(
        dataset.block_shapes[0],
        dtype.newbyteorder("<"),
        structure.get("PREDICTOR") == str(DIFFERENCING),
    )
