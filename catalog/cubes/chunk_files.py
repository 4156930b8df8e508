"""Where the chunks of a snapshot lie on a local disk: Icechunk's manifests, read for their references.

Icechunk's own ``get`` reads a local file in pieces of 8 KiB (object_store 0.14), which costs five times what
decoding the bytes costs. On a local disk the loader therefore opens the chunk files itself. What it relies on
is Icechunk's published format: a header, then Zstandard over a FlatBuffers table whose field numbers never
change. A manifest of any other version is not touched (``None``), and the caller goes through Icechunk.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import icechunk
from numcodecs import zstd

MAGIC = b"ICE\xf0\x9f\xa7\x8aCHUNK"
HEADER = 39
"""Magic, 24 bytes of the writer's name, then one byte each: format version, file type, compression."""
VERSIONS = (1, 2)
MANIFEST, ZSTANDARD = 2, 1
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@dataclass(frozen=True)
class ChunkFile:
    """The bytes of one chunk, as stored."""

    path: Path
    offset: int
    length: int


class ChunkFiles:
    """Chunk files of one snapshot of a local repository; may be used from several threads."""

    def __init__(self, repository: icechunk.Repository, snapshot: str, folder: Path) -> None:
        self._repository, self._snapshot, self._folder = repository, snapshot, folder
        self._lock = threading.Lock()
        self._nodes: dict[str, frozenset[str]] = {}

    def of(self, node: str) -> dict[int, ChunkFile] | None:
        """Chunks of an array (by Icechunk's node id) that is chunked along its first axis only.

        Chunks that are no plain file (small ones lie in the manifest itself) are not among them. None where a
        manifest is not of a known version.
        """
        found: dict[int, ChunkFile] = {}
        with self._lock:
            for manifest in self._repository.list_manifest_files(self._snapshot):
                if node not in self._nodes.get(manifest.id, (node,)):
                    continue
                document = self._open(manifest.id)
                if document is None:
                    return None
                arrays = dict(_arrays(document))
                self._nodes[manifest.id] = frozenset(arrays)
                for reference in _references(document, arrays.get(node)):
                    number, file = self._file(document, reference)
                    if file is not None:
                        found[number] = file
        return found

    def _open(self, manifest: str) -> bytes | None:
        stored = (self._folder / "manifests" / manifest).read_bytes()
        version, kind, compression = stored[HEADER - 3 : HEADER]
        known = stored.startswith(MAGIC) and version in VERSIONS and kind == MANIFEST
        if not known or compression != ZSTANDARD:
            return None
        return bytes(zstd.decompress(stored[HEADER:]))

    def _file(self, document: bytes, reference: list[int]) -> tuple[int, ChunkFile | None]:
        """The chunk's number along the first axis; no file if inline, virtual or chunked along other axes."""
        index, inline, offset, length, chunk, *rest = [*reference, 0, 0, 0, 0, 0, 0][:6]
        at, axes = _vector(document, index)
        number, *others = struct.unpack_from(f"<{axes}I", document, at)
        if inline or not chunk or rest[0] or any(others):
            return number, None
        name = base32(document[chunk : chunk + 12])
        start = struct.unpack_from("<Q", document, offset)[0] if offset else 0
        size = struct.unpack_from("<Q", document, length)[0] if length else 0
        return number, ChunkFile(self._folder / "chunks" / name, start, size)


def base32(value: bytes) -> str:
    """Crockford's base 32, as Icechunk writes ids: most significant bit first, padded with zeros."""
    bits = len(value) * 8
    digits = -(-bits // 5)
    number = int.from_bytes(value) << (digits * 5 - bits)
    return "".join(ALPHABET[number >> 5 * place & 31] for place in reversed(range(digits)))


def _arrays(document: bytes) -> Iterator[tuple[str, int]]:
    """Node id and the position of its list of references, for every array of a manifest."""
    root = _table(document, _follow(document, 0))
    for entry in _entries(document, root[1]):
        node, references, *_ = _table(document, entry)
        yield base32(document[node : node + 8]), references


def _references(document: bytes, at: int | None) -> Iterator[list[int]]:
    for entry in _entries(document, at) if at else ():
        yield _table(document, entry)


def _entries(document: bytes, at: int) -> Iterator[int]:
    start, count = _vector(document, at)
    for number in range(count):
        yield _follow(document, start + 4 * number)


def _table(document: bytes, at: int) -> list[int]:
    """Position of each field of a FlatBuffers table, 0 where it is absent."""
    slots = at - int(struct.unpack_from("<i", document, at)[0])
    count = (struct.unpack_from("<H", document, slots)[0] - 4) // 2
    return [place and at + place for place in struct.unpack_from(f"<{count}H", document, slots + 4)]


def _vector(document: bytes, at: int) -> tuple[int, int]:
    """Position of the first element, and how many there are."""
    start = _follow(document, at)
    return start + 4, int(struct.unpack_from("<I", document, start)[0])


def _follow(document: bytes, at: int) -> int:
    return at + int(struct.unpack_from("<I", document, at)[0])
