"""Bytes over HTTP are believed only as proven, and a server that hangs is given up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.readers import http_ranges
from tasks.readers.http_ranges import FetchFailed, fetch_range, fetch_whole
from tasks.readers.remote_file import PAGE, RemoteFile
from tests.tasks.range_server import RangeServer, Request, serve_ranges
from tests.tasks.scene_files import archive_at

TIFF = b"II*\0" + bytes(range(256)) * 1000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RangeServer]:
    (tmp_path / "a.tif").write_bytes(TIFF)
    (tmp_path / "side.xml").write_bytes(b"<product/>")
    with serve_ranges(tmp_path) as running:
        yield running


def fetch(server: RangeServer, first: int, last: int, attempts: int = 2) -> http_ranges.Fetched:
    return fetch_range(
        f"{server.url}/a.tif", archive_at(server.url), first, last, attempts=attempts, pause_s=0.01
    )


def test_a_range_is_these_bytes_and_says_how_large_the_file_is(server: RangeServer) -> None:
    found = fetch(server, 100, 199)
    assert (found.data, found.total) == (TIFF[100:200], len(TIFF))
    assert fetch(server, len(TIFF) - 10, len(TIFF) + 500).data == TIFF[-10:]


def test_a_small_file_from_a_server_without_ranges_is_taken_whole(server: RangeServer) -> None:
    server.fault = lambda request: TIFF
    assert fetch(server, 100, 199).data == TIFF[100:200]


def test_a_server_that_hangs_is_given_up(server: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_ranges, "SILENCE_S", 0.1)
    server.latency_s = 0.6
    began = time.monotonic()
    with pytest.raises(FetchFailed) as caught:
        fetch(server, 0, 99)
    assert caught.value.diagnosis.code == "asset-unreachable" and caught.value.attempts == 2
    assert time.monotonic() - began < 3


def test_a_file_that_is_exchanged_while_it_is_read_is_noticed(server: RangeServer) -> None:
    file = RemoteFile(lambda first, last: fetch(server, first, last))
    assert file.read_at(0, 10) == TIFF[:10]
    (server.folder / "a.tif").write_bytes(TIFF + b"more")
    with pytest.raises(FetchFailed) as caught:
        file.read_at(5 * PAGE, 10)
    assert caught.value.diagnosis.code == "asset-changed"


def test_ranges_of_one_read_come_together_and_no_page_twice(server: RangeServer) -> None:
    file = RemoteFile(lambda first, last: fetch(server, first, last))
    offsets, sizes = [3 * PAGE + 5, 12 * PAGE, 3 * PAGE + 100], [PAGE, 20, 50]
    expected = [TIFF[a : a + n] for a, n in zip(offsets, sizes, strict=True)]
    assert file.read_many(offsets, sizes) == expected
    asked = len(server.requests)
    assert file.read_many(offsets, sizes) == expected
    assert len(server.requests) == asked
    assert file.read_at(len(TIFF) - 5, 100) == TIFF[-5:]


def test_a_side_file_is_whole_small_and_no_page_of_html(server: RangeServer) -> None:
    archive, href = archive_at(server.url), f"{server.url}/side.xml"
    assert fetch_whole(href, archive, limit_bytes=100) == b"<product/>"
    for answer, code in (
        (b"x" * 200, "side-file-too-large"),
        (b"<html>log in</html>", "side-file-not-the-file"),
    ):

        def fault(request: Request, answer: bytes = answer) -> bytes:
            return answer

        server.fault = fault
        with pytest.raises(FetchFailed) as caught:
            fetch_whole(href, archive, limit_bytes=100, attempts=2, pause_s=0.01)
        assert caught.value.diagnosis.code == code
