"""Each fault does what it says, the same each time, and the counts stay right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from catalog.errors import UsageError
from deployments.stac_server import ArchiveServer, serve_archive
from deployments.stac_server.faults import KINDS, Fault, parse_fault
from deployments.stac_server.folder_changes import (
    delete,
    delete_files,
    put_in,
    reprocess,
    shift_pixels,
    state,
    take_out,
)
from tests.tasks.scene_files import grid_at, write_cog

CONTENT = bytes(range(256)) * 400


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArchiveServer]:
    folder = tmp_path_factory.mktemp("faults")
    (folder / "items").mkdir()
    (folder / "assets").mkdir()
    (folder / "assets" / "a.bin").write_bytes(CONTENT)
    write_cog(folder / "assets" / "one" / "B02.tif", np.full((1, 64, 64), 1200, np.uint16), grid_at(10), 0)
    items = [
        {
            "id": name,
            "type": "Feature",
            "stac_version": "1.0.0",
            "collection": "c",
            "geometry": {"type": "Point", "coordinates": [1, 1]},
            "bbox": [1, 1, 1, 1],
            "properties": {"datetime": f"2024-01-0{day}T00:00:00Z"},
            "assets": {"B02": {"href": "/assets/one/B02.tif"}} if name == "one" else {},
            "links": [],
        }
        for day, name in enumerate(("one", "two", "three", "four"), start=1)
    ]
    (folder / "items" / "c.ndjson").write_text("".join(f"{json.dumps(item)}\n" for item in items))
    with serve_archive(folder) as server:
        yield server


@pytest.fixture(autouse=True)
def calm(served: ArchiveServer) -> Iterator[None]:
    served.set_faults([])
    served.reset_requests()
    yield
    served.set_faults([])


def get(server: ArchiveServer, first: int = 0, last: int = 999) -> httpx.Response:
    return httpx.get(f"{server.url}/assets/a.bin", headers={"Range": f"bytes={first}-{last}"})


def ids(server: ArchiveServer) -> list[str]:
    return [item["id"] for item in httpx.get(f"{server.url}/search?limit=20").json()["features"]]


def test_without_faults_nothing_is_changed(served: ArchiveServer) -> None:
    assert get(served, 5, 9).content == CONTENT[5:10]
    assert served.faults() == []


def test_a_status_comes_as_often_as_asked_for_and_after_what_is_skipped(served: ArchiveServer) -> None:
    served.set_faults([Fault("http-503", times=2, skip=1, retry_after_s=7)])
    answers = [get(served) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [206, 503, 503, 206]
    assert answers[1].headers["retry-after"] == "7"
    assert (served.faults()[0]["seen"], served.faults()[0]["applied"]) == (4, 2)
    assert served.requests()["asset"] == 4
    assert [entry[3] for entry in served.requests()["recent"]] == [206, 503, 503, 206]


def test_a_pattern_spares_what_it_does_not_fit(served: ArchiveServer) -> None:
    served.set_faults([Fault("missing", "*/b.bin")])
    assert get(served).status_code == 206
    served.set_faults([Fault("missing", "*a.bin")])
    assert get(served).status_code == 404
    assert served.requests()["asset_missing"] == 1


def test_a_truncated_file_is_consistent_with_itself(served: ArchiveServer) -> None:
    served.set_faults([Fault("truncated", share=0.5)])
    half = len(CONTENT) // 2
    assert get(served, half - 10, half + 9).headers["content-range"] == f"bytes {half - 10}-{half - 1}/{half}"
    assert get(served, half + 10, half + 20).status_code == 416
    assert httpx.get(f"{served.url}/assets/a.bin").content == CONTENT[:half]


def test_the_same_bit_is_flipped_each_time(served: ArchiveServer) -> None:
    served.set_faults([Fault("bit-flip", seed=3)])
    once = get(served, 0, len(CONTENT)).content
    differing = [place for place in range(len(CONTENT)) if once[place] != CONTENT[place]]
    assert len(differing) == 1
    assert bin(once[differing[0]] ^ CONTENT[differing[0]]).count("1") == 1
    assert get(served, differing[0], differing[0]).content == once[differing[0] : differing[0] + 1]


@pytest.mark.parametrize("kind", ["reset", "length-more"])
def test_a_broken_connection_is_broken(served: ArchiveServer, kind: str) -> None:
    served.set_faults([Fault(kind)])
    with pytest.raises(httpx.HTTPError):
        get(served, 0, 50_000)


def test_a_short_answer_promises_more(served: ArchiveServer) -> None:
    served.set_faults([Fault("length-less")])
    answer = get(served, 0, 999)
    assert len(answer.content) == 500 == int(answer.headers["content-length"])
    assert answer.headers["content-range"].startswith("bytes 0-999/")


def test_latency_and_bandwidth_take_their_time(served: ArchiveServer) -> None:
    served.set_faults([Fault("latency", ms=200)])
    assert get(served).elapsed.total_seconds() >= 0.2
    served.set_faults([Fault("bandwidth", bytes_per_s=100_000)])
    with httpx.stream("GET", f"{served.url}/assets/a.bin", headers={"Range": "bytes=0-29999"}) as answer:
        assert answer.read() == CONTENT[:30_000]
    assert answer.elapsed.total_seconds() >= 0.25


def test_html_and_redirects(served: ArchiveServer) -> None:
    served.set_faults([Fault("html")])
    assert (get(served).status_code, get(served).headers["content-type"]) == (200, "text/html; charset=utf-8")
    served.set_faults([Fault("redirect", to="http://elsewhere.example{path}")])
    assert get(served).headers["location"] == "http://elsewhere.example/assets/a.bin"


def test_files_open_with_a_token_of_the_service_while_it_lasts(served: ArchiveServer) -> None:
    served.set_faults([Fault("token", uses=2)])
    token = httpx.get(f"{served.url}/_tokens/account/assets").json()["token"]
    address = f"{served.url}/assets/a.bin"
    assert httpx.get(address).status_code == 403
    assert [httpx.get(f"{address}?{token}").status_code for _ in range(3)] == [200, 200, 403]
    assert httpx.get(f"{address}?sig=made-up").status_code == 403


def test_pages_repeat_lose_or_never_end(served: ArchiveServer) -> None:
    assert ids(served) == ["four", "three", "two", "one"]
    served.set_faults([Fault("page-repeats", "/search")])
    assert ids(served) == ["four", "three", "two", "one", "one"]
    served.set_faults([Fault("page-loses", "/search")])
    assert ids(served) == ["four", "three", "two"]
    served.set_faults([Fault("endless-pages", "/search")])
    page = httpx.get(f"{served.url}/search?limit=20").json()
    assert any(link["rel"] == "next" for link in page["links"])


def test_a_fault_reads_as_it_is_written_on_a_command_line() -> None:
    assert parse_fault("http-503:*B02.tif:2") == Fault("http-503", "*B02.tif", times=2)
    assert parse_fault("html:*B02.tif") == Fault("html", "*B02.tif")
    assert parse_fault("missing") == Fault("missing")
    for kind in KINDS:
        assert Fault(**Fault(kind).to_dict()) == Fault(kind)
    with pytest.raises(UsageError):
        parse_fault("gremlin:*")


def test_scenes_come_late_are_made_anew_and_go(served: ArchiveServer) -> None:
    folder = served.folder
    item = take_out(folder, "two")
    assert ids(served) == ["four", "three", "one"]
    put_in(folder, item)
    assert ids(served) == ["four", "three", "two", "one"]
    reprocess(folder, "one", "one-again", {"s2:processing_baseline": "05.10"})
    assert set(ids(served)) == {"four", "three", "two", "one", "one-again"}
    state(folder, "three", {"s2:processing_baseline": "02.07"})
    found = httpx.get(f"{served.url}/collections/c/items/three").json()
    assert found["properties"]["s2:processing_baseline"] == "02.07"
    delete(folder, "one-again")
    assert set(ids(served)) == {"four", "three", "two", "one"}
    with pytest.raises(UsageError):
        take_out(folder, "one-again")


def test_pixels_are_shifted_and_nothing_else(served: ArchiveServer, tmp_path: Path) -> None:
    import rasterio

    path = served.folder / "assets" / "one" / "B02.tif"
    with rasterio.open(path) as file:
        before, grid = file.read(), (file.transform, file.crs, file.nodata)
    shift_pixels(served.folder, "one", -1000)
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(), before - 1000)
        assert (file.transform, file.crs, file.nodata) == grid
    delete_files(served.folder, "one")
    assert not path.exists()
    assert "one" in ids(served)
