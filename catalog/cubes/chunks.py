"""Whole chunks of pixel arrays, decoded off the event loop into buffers that are used again.

zarr-python moves a chunk through its event loop and allocates every intermediate, which costs more than the
decoding. An array whose codecs are exactly those of ``layout`` (bytes in little endian, Blosc, CRC-32C) is
decoded here: the checksum is verified the first time a reader meets a chunk, then Blosc writes straight into
a buffer of the reading thread. Any other array is read through zarr. Values and errors are the same.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import google_crc32c
import numpy as np
import zarr
from numcodecs import blosc
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.metadata.v3 import ArrayV3Metadata
from zarr.core.sync import sync

from catalog.cubes import object_storage
from catalog.cubes.chunk_files import ChunkFile, ChunkFiles

if TYPE_CHECKING:
    from catalog.cubes.reader import SnapshotReader

CHECKSUM_BYTES = 4
BLOSC_HEADER_BYTES = 16

Raw = NDArray[np.uint8]


class ChunkReader:
    """Reads the chunks of several arrays of one product that are chunked alike along ``sample``.

    May be used from several threads; what ``read`` returns is the calling thread's until it reads again.
    """

    def __init__(
        self,
        reader: SnapshotReader,
        product: str,
        names: Sequence[str],
        files: ChunkFiles | None = None,
    ) -> None:
        self._reader, self._product = reader, product
        self._arrays = {name: reader.array(product, name) for name in names}
        lengths = {array.chunks[0] for array in self._arrays.values()}
        if len(lengths) != 1:
            raise ValueError(f"{product}: {', '.join(names)} are not chunked alike along sample")
        self.rows = int(lengths.pop())
        """Rows per chunk; the last one may hold fewer."""
        self.length = min(int(array.shape[0]) for array in self._arrays.values())
        self._direct = {name for name, array in self._arrays.items() if decodable(array)}
        self._files: dict[str, Mapping[int, ChunkFile]] = {}
        for name in self._direct if files is not None else ():
            found = self._trusted(cast("ChunkFiles", files), name)
            if found is not None:
                self._files[name] = found
        self._verified: set[tuple[str, int]] = set()
        """Chunks whose checksum was right: a training reads each of them once per epoch."""
        self._own = threading.local()

    @property
    def shapes(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """Shape of one row and type of the values, by array."""
        return {name: (array.shape[1:], array.dtype) for name, array in self._arrays.items()}

    @property
    def sample_bytes(self) -> int:
        """Decoded bytes of one row over all arrays."""
        return sum(array.dtype.itemsize * int(np.prod(array.shape[1:])) for array in self._arrays.values())

    def read(self, number: int) -> dict[str, NDArray[Any]]:
        """Rows of chunk ``number`` of every array, ``(row, …)``.

        Raises
        ------
        CubeError: ``unreadable-chunk``.
        """
        start, stop = number * self.rows, min((number + 1) * self.rows, self.length)
        absent = [name for name in self._arrays if name in self._direct and not self._is_file(name, number)]
        with self._reader.damage_told(f"rows {start} to {stop - 1} of {self._product}"):
            fetched = self.stored(absent, number)
        found = {}
        for name, array in self._arrays.items():
            with self._reader.damage_told(f"rows {start} to {stop - 1} of {self._product}/{name}"):
                if name not in self._direct:
                    found[name] = cast("NDArray[Any]", array[start:stop])
                    continue
                stored = (
                    self._load(self._files[name][number])
                    if self._is_file(name, number)
                    else fetched.get(name)
                )
                if stored is None:  # never written: the fill value
                    found[name] = cast("NDArray[Any]", array[start:stop])
                    continue
                target = self._buffer(name, array)
                decode(stored, target, verify=(name, number) not in self._verified)
                self._verified.add((name, number))
                found[name] = target[: stop - start]
        return found

    def _is_file(self, name: str, number: int) -> bool:
        return number in self._files.get(name, ())

    def stored(self, names: Sequence[str], number: int) -> dict[str, Raw | None]:
        """Stored bytes through Icechunk, None for a chunk that was never written: one trip for all arrays."""
        if not names:
            return {}
        keys = [chunk_key(self._arrays[name], number) for name in names]
        stored = object_storage.patiently(lambda: sync(_get(self._reader.store, keys)))
        return dict(zip(names, stored, strict=True))

    def _load(self, file: ChunkFile) -> Raw:
        buffer = getattr(self._own, "stored", None)
        if buffer is None or len(buffer) < file.length:
            buffer = self._own.stored = np.empty(file.length + file.length // 4, np.uint8)
        return read_file(file, buffer)

    def _buffer(self, name: str, array: zarr.Array[Any]) -> NDArray[Any]:
        buffers = self._own.__dict__.setdefault("decoded", {})
        if name not in buffers:
            buffers[name] = np.empty(array.chunks, array.dtype)
        return cast("NDArray[Any]", buffers[name])

    def _trusted(self, files: ChunkFiles, name: str) -> Mapping[int, ChunkFile] | None:
        """The array's chunk files, if Icechunk gives the same bytes for the last one of them."""
        with self._reader.damage_told(f"{self._product}/{name}"):
            found = files.of(self._reader.store.session.get_node_id(f"/{self._product}/{name}"))
            if not found:
                return None
            last = max(found)
            (theirs,) = self.stored([name], last).values()
            if theirs is None:
                return None
            ours = read_file(found[last], np.empty(found[last].length, np.uint8))
            return found if np.array_equal(ours, theirs) else None


def decodable(array: zarr.Array[Any]) -> bool:
    """Whether the chunks of an array are exactly what ``decode`` takes, and whole rows."""
    metadata = array.metadata
    if not isinstance(metadata, ArrayV3Metadata) or metadata.storage_transformers:
        return False
    kinds = [type(codec) for codec in metadata.codecs]
    if kinds != [BytesCodec, BloscCodec, Crc32cCodec] or array.chunks[1:] != array.shape[1:]:
        return False
    endian = cast("BytesCodec", metadata.codecs[0]).endian
    little = endian is None or getattr(endian, "value", endian) == "little"
    separator = getattr(metadata.chunk_key_encoding, "separator", None)
    return little and array.dtype.kind in "iuf" and array.dtype.isnative and separator == "/"


def decode(stored: Raw, target: NDArray[Any], *, verify: bool = True) -> None:
    """Verify the checksum of a chunk's stored bytes, and decompress them into ``target``.

    Raises
    ------
    ValueError: the bytes are not those that were written.
    """
    body = stored[:-CHECKSUM_BYTES]
    if len(body) < BLOSC_HEADER_BYTES:
        raise ValueError(f"the chunk is cut off after {len(stored)} bytes")
    if verify and google_crc32c.value(body) != int.from_bytes(stored[-CHECKSUM_BYTES:].tobytes(), "little"):
        raise ValueError("Stored and computed checksum do not match.")
    size = int.from_bytes(body[4:8].tobytes(), "little")
    if size != target.nbytes:
        raise ValueError(f"the chunk holds {size} bytes where the array's chunks have {target.nbytes}")
    blosc.decompress(body, target)


def read_file(file: ChunkFile, buffer: Raw) -> Raw:
    """The chunk's stored bytes, in ``buffer``.

    Raises
    ------
    LookupError: the file is gone, or shorter than the manifest says.
    """
    target = buffer[: file.length]
    try:
        opened = os.open(file.path, os.O_RDONLY)
        try:
            got = os.preadv(opened, [target.data], file.offset)
        finally:
            os.close(opened)
    except OSError as error:
        raise LookupError(f"chunk file {file.path.name}: {error.strerror or error}") from error
    if got != file.length:
        raise LookupError(f"chunk file {file.path.name} ends after {got} of {file.length} bytes")
    return target


def chunk_key(array: zarr.Array[Any], number: int) -> str:
    """The store's key of a chunk that lies at 0 on all axes but the first."""
    index = (number, *[0] * (len(array.shape) - 1))
    return f"{array.path}/c/{'/'.join(map(str, index))}"


async def _get(store: Any, keys: Sequence[str]) -> list[Raw | None]:
    prototype = default_buffer_prototype()
    buffers = await asyncio.gather(*(store.get(key, prototype) for key in keys))
    return [
        None if buffer is None else np.frombuffer(buffer.as_buffer_like(), np.uint8) for buffer in buffers
    ]
