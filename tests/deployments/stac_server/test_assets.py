"""Files by HTTP range, and nothing but the archive's files."""

from __future__ import annotations

import http.client
from pathlib import Path

import httpx
import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.windows import Window

from deployments.stac_server import ArchiveServer
from deployments.stac_server.folder import ArchiveFolder
from tests.deployments.stac_server.conftest import write_archive_folder

ASSET = "assets/optical/B02.tif"


def raw_status(url: str, path: str) -> int:
    """Status of a path sent as it stands; HTTP libraries tidy paths first."""
    host, _, port = url.removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    connection.request("GET", path)
    status = connection.getresponse().status
    connection.close()
    return status


def test_any_range_equals_the_same_bytes_of_the_file(archive: ArchiveServer) -> None:
    whole = (archive.folder / ASSET).read_bytes()
    with httpx.Client(base_url=archive.url) as client:

        @settings(max_examples=25, deadline=None)
        @given(first=st.integers(0, len(whole) - 1), length=st.integers(1, 70000))
        def check(first: int, length: int) -> None:
            last = first + length - 1
            answer = client.get(ASSET, headers={"Range": f"bytes={first}-{last}"})
            wanted = whole[first : last + 1]
            assert (answer.status_code, answer.content) == (206, wanted)
            end = first + len(wanted) - 1
            assert answer.headers["content-range"] == f"bytes {first}-{end}/{len(whole)}"

        check()


def test_whole_files_ends_of_files_and_heads(archive: ArchiveServer) -> None:
    whole = (archive.folder / ASSET).read_bytes()
    with httpx.Client(base_url=archive.url) as client:
        answer = client.get(ASSET)
        assert (answer.status_code, answer.content) == (200, whole)
        assert client.get(ASSET, headers={"Range": "bytes=-100"}).content == whole[-100:]
        head = client.head(ASSET)
        assert head.content == b""
        assert head.headers["content-length"] == str(len(whole))
        assert head.headers["accept-ranges"] == "bytes"
        assert head.headers["etag"] == answer.headers["etag"]
        assert "content-encoding" not in client.get(ASSET, headers={"Accept-Encoding": "br, gzip"}).headers


def test_a_range_past_the_end_is_not_satisfiable(archive: ArchiveServer) -> None:
    size = (archive.folder / ASSET).stat().st_size
    answer = httpx.get(f"{archive.url}/{ASSET}", headers={"Range": f"bytes={size}-{size + 9}"})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{size}"


def test_a_window_through_vsicurl_equals_the_local_one(archive: ArchiveServer) -> None:
    window = Window(40, 100, 64, 64)
    with (
        rasterio.open(archive.folder / ASSET) as local,
        rasterio.open(f"/vsicurl/{archive.url}/{ASSET}") as far,
    ):
        assert far.crs == local.crs
        assert far.transform == local.transform
        np.testing.assert_array_equal(far.read(window=window), local.read(window=window))


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../items/optical.ndjson",
        "/assets/%2e%2e/items/optical.ndjson",
        "/assets/optical/..%2f..%2fitems/optical.ndjson",
        "/assets//etc/passwd",
        "/assets/%2fetc/passwd",
        "/assets/optical/B02.tif%00",
        "/assets/optical",
        "/assets/",
    ],
)
def test_nothing_but_asset_files_is_served(archive: ArchiveServer, path: str) -> None:
    assert raw_status(archive.url, path) == 404


def test_a_link_that_leads_out_of_the_assets_is_not_followed(tmp_path: Path) -> None:
    folder = write_archive_folder(tmp_path / "archive")
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "assets" / "link.txt").symlink_to(tmp_path / "secret.txt")
    archive = ArchiveFolder(folder)
    assert archive.asset("link.txt") is None
    assert archive.asset("optical/B02.tif") is not None


def test_reads_are_counted_and_the_count_starts_anew(archive: ArchiveServer) -> None:
    archive.reset_requests()
    httpx.get(f"{archive.url}/search?limit=1")
    httpx.post(f"{archive.url}/search", json={"limit": 1})
    counts = archive.requests()
    assert (counts["search"], counts["asset"], counts["asset_bytes"]) == (2, 0, 0)
    httpx.get(f"{archive.url}/{ASSET}", headers={"Range": "bytes=0-99"})
    httpx.head(f"{archive.url}/{ASSET}")
    httpx.get(f"{archive.url}/{ASSET}.aux.xml")
    counts = archive.requests()
    assert (counts["asset"], counts["asset_head"], counts["asset_missing"]) == (1, 1, 1)
    assert counts["asset_bytes"] == 100
    assert ["GET", f"/{ASSET}", "bytes=0-99", 206] in counts["recent"]
    archive.reset_requests()
    assert archive.requests()["asset"] == 0
