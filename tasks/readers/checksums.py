"""Full verification of a file: downloaded whole, hashed, and decoded from the very bytes that were hashed.

A flipped bit that the decoder does not notice is a pixel like any other; ``docs/faults.md`` says how often.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Callable

from catalog.scenes import SceneAsset
from tasks.readers.diagnosis import corrupt
from tasks.readers.http_ranges import Fetched, FetchFailed, changed

CHUNK = 8 * 2**20

MULTIHASH = {
    0x11: "sha1", 0x12: "sha256", 0x13: "sha512", 0x14: "sha3_512", 0x15: "sha3_384", 0x16: "sha3_256",
    0x20: "sha384", 0xD5: "md5",
}  # fmt: skip
"""Code of a multihash (multiformats/multicodec table) → the digest's name in hashlib."""

Fetch = Callable[[int, int], Fetched]


def read_multihash(text: str) -> tuple[str, str] | None:
    """(name of the digest, hexadecimal digest) of a ``file:checksum``; None where it is of no known kind.

    A multihash is the digest's code and its length in bytes, as variable-length integers, before the digest.
    """
    try:
        data = bytes.fromhex(text.strip())
        code, data = _varint(data)
        length, data = _varint(data)
    except (ValueError, IndexError):
        return None
    name = MULTIHASH.get(code)
    if name is None or len(data) != length or hashlib.new(name).digest_size != length:
        return None
    return name, data.hex()


def can_verify(asset: SceneAsset) -> bool:
    """Whether the item gives a checksum that is understood."""
    return asset.checksum is not None and read_multihash(asset.checksum) is not None


def download_checked(fetch: Fetch, asset: SceneAsset) -> Fetch:
    """Fetch a whole file, and compare it with what its item says of it.

    Returns
    -------
    a ``fetch`` of the same file that reads the copy

    Raises
    ------
    FetchFailed: ``checksum-mismatch``, or whatever ``fetch`` raises.
    """
    stated = read_multihash(asset.checksum or "")
    if stated is None:
        return fetch
    name, expected = stated
    digest = hashlib.new(name)
    copy = tempfile.TemporaryFile(prefix="swath-asset-")  # noqa: SIM115 - lives as long as what is returned
    position, total, etag = 0, 1, ""
    while position < total:
        part = fetch(position, position + CHUNK - 1)
        if position and (part.total, part.etag) != (total, etag):
            raise changed(total, part.total)
        total, etag = part.total, part.etag
        digest.update(part.data)
        copy.write(part.data)
        position += len(part.data)
        if not part.data:
            break
    copy.flush()
    if digest.hexdigest() != expected:
        size = f"{position} bytes, the item says {asset.size_bytes}; " if asset.size_bytes else ""
        problem = corrupt(f"{size}its {name} is not the item's")
        raise FetchFailed(
            type(problem)("checksum-mismatch", problem.message, problem.next_step, problem.status)
        )
    lock = threading.Lock()
    size_bytes, tag = position, etag

    def read_copy(first: int, last: int) -> Fetched:
        with lock:
            copy.seek(first, os.SEEK_SET)
            return Fetched(copy.read(last - first + 1), size_bytes, tag)

    return read_copy


def _varint(data: bytes) -> tuple[int, bytes]:
    value = shift = 0
    for place, byte in enumerate(data):
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, data[place + 1 :]
        shift += 7
    raise ValueError("cut short")
