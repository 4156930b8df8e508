"""Checksums are read as archives write them, and decide whether a file is the one that its item names."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.scenes import SceneAsset
from tasks.readers.checksums import MULTIHASH, can_verify, download_checked, read_multihash
from tasks.readers.http_ranges import Fetched, FetchFailed


def multihash(name: str, content: bytes) -> str:
    code = next(code for code, digest in MULTIHASH.items() if digest == name)
    digest = hashlib.new(name, content).digest()
    prefix = bytes([code]) if code < 0x80 else bytes([code & 0x7F | 0x80, code >> 7])
    return (prefix + bytes([len(digest)]) + digest).hex()


def fetching(content: bytes, etag: str = "one"):  # type: ignore[no-untyped-def]
    return lambda first, last: Fetched(content[first : last + 1], len(content), etag)


@pytest.mark.parametrize("name", sorted(MULTIHASH.values()))
@given(content=st.binary(max_size=200))
def test_a_multihash_says_digest_and_value(name: str, content: bytes) -> None:
    assert read_multihash(multihash(name, content)) == (name, hashlib.new(name, content).hexdigest())


@given(st.text(max_size=80))
def test_nonsense_is_no_multihash(text: str) -> None:
    found = read_multihash(text)
    assert found is None or len(bytes.fromhex(found[1])) == hashlib.new(found[0]).digest_size


@given(st.binary(min_size=1, max_size=4000), st.integers(0), st.integers(0, 7))
def test_every_single_flipped_bit_is_found(content: bytes, place: int, bit: int) -> None:
    asset = SceneAsset("a", "https://h/a.tif", ("B02",), checksum=multihash("sha256", content))
    read = download_checked(fetching(content), asset)
    assert read(0, 9).data == content[:10] and read(0, 9).total == len(content)
    flipped = bytearray(content)
    flipped[place % len(content)] ^= 1 << bit
    with pytest.raises(FetchFailed) as caught:
        download_checked(fetching(bytes(flipped)), asset)
    assert caught.value.diagnosis.code == "checksum-mismatch"


def test_a_file_of_many_parts_is_read_from_the_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.readers.checksums.CHUNK", 1000)
    content = random.Random(1).randbytes(12_345)
    asset = SceneAsset("a", "https://h/a.tif", ("B02",), checksum=multihash("md5", content))
    asked: list[int] = []

    def fetch(first: int, last: int) -> Fetched:
        asked.append(first)
        return Fetched(content[first : last + 1], len(content), "")

    read = download_checked(fetch, asset)
    assert asked == list(range(0, 12_345, 1000))
    assert read(5000, 5999).data == content[5000:6000]
    assert len(asked) == 13, "nothing is fetched twice"


def test_the_rasters_of_real_items_have_checksums_that_are_understood(realdata: Path) -> None:
    from catalog.normalise.assets import _multihash
    from catalog.normalise.findings import Findings

    understood: Counter[bool] = Counter()
    for path in sorted((realdata / "stac-items").rglob("*.json")):
        item = json.loads(path.read_text(encoding="utf-8"))
        assets = item.get("assets") if isinstance(item, dict) else None
        for asset in assets.values() if isinstance(assets, dict) else ():
            kind = str(asset.get("type"))
            if "file:checksum" in asset and ("tiff" in kind or "jp2" in kind):
                stated = _multihash(asset["file:checksum"], Findings())
                understood[can_verify(SceneAsset("a", "", (), checksum=stated))] += 1
    assert understood[True] > 100 and not understood[False]
