"""A real client, and our own search, against what each archive really answered."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pytest

from catalog.archives import load_archive
from catalog.products import load_product
from catalog.recipes import Area, Period
from catalog.scenes import Scene
from tasks.search.probe import probe_archive
from tasks.search.scenes import SearchResult, search_scenes
from tests.recordings.library import recordings
from tests.recordings.replay import replay

pytestmark = pytest.mark.realdata

WORLD = Area(bbox=(-180, -90, 180, 90))


def search(realdata: Path, name: str, product: str, start: date, end: date, **options: Any) -> SearchResult:
    with replay(realdata, name) as server:
        found = search_scenes(
            server.archive, load_product(product), WORLD, Period(start=start, end=end), retries=0, **options
        )
        assert set(server.kinds()) == {"collection"}
    return found


@pytest.mark.parametrize(
    ("name", "product", "start", "end", "counts"),
    [
        # (items that came, scenes, refused, sensed outside the period, of other products)
        ("planetary-computer", "sentinel-2-l2a", date(2019, 1, 1), date(2019, 3, 1), (70, 56, 0, 14, 0)),
        ("planetary-computer", "sentinel-1-rtc", date(2025, 3, 1), date(2025, 3, 31), (1, 1, 0, 0, 0)),
        ("planetary-computer", "sentinel-1-grd", date(2025, 3, 1), date(2025, 3, 31), (2, 1, 0, 0, 1)),
        ("planetary-computer", "landsat-oli-sr", date(2022, 3, 1), date(2022, 3, 31), (13, 1, 0, 12, 0)),
        ("earth-search", "sentinel-2-l2a", date(2024, 9, 1), date(2024, 9, 30), (29, 10, 0, 19, 0)),
        ("earth-search", "sentinel-2-l1c", date(2024, 9, 1), date(2024, 9, 30), (29, 10, 0, 19, 0)),
        ("earth-search", "sentinel-1-grd", date(2024, 9, 1), date(2024, 9, 30), (33, 11, 18, 0, 4)),
        ("earth-search", "landsat-oli-sr", date(2024, 8, 1), date(2024, 8, 31), (11, 10, 0, 1, 0)),
        ("dlr-eoc", "enmap-l2a", date(2025, 1, 1), date(2025, 3, 31), (48, 25, 0, 23, 0)),
        ("cdse", "sentinel-2-l2a", date(2020, 7, 1), date(2020, 7, 31), (24, 4, 0, 20, 0)),
    ],
)
def test_a_search_of_a_recorded_archive_gives_scenes_refusals_and_nothing_else(
    realdata: Path, name: str, product: str, start: date, end: date, counts: tuple[int, ...]
) -> None:
    found = search(realdata, name, product, start, end)
    parts = (len(found.scenes), len(found.refusals), len(found.passed_over), found.others)
    assert (found.matched, *parts) == counts
    assert sum(parts) == found.matched
    assert all(reason for _, reason in (*found.refusals, *found.passed_over))
    assert all(start <= scene.sensed.date() <= end for scene in found.scenes)
    assert all(scene.licence != "unknown" and scene.attribution for scene in found.scenes)


def test_clouds_that_an_archive_stores_as_text_are_compared_as_numbers(realdata: Path) -> None:
    period = (date(2025, 1, 1), date(2025, 3, 31))
    clear = search(realdata, "dlr-eoc", "enmap-l2a", *period, max_cloud_percent=9)
    everything = search(realdata, "dlr-eoc", "enmap-l2a", *period)
    assert clear.scenes == tuple(s for s in everything.scenes if (s.cloud_cover_percent or 0) <= 9)
    # As text "71" is less than "9".
    assert any((s.cloud_cover_percent or 0) > 10 for s in everything.scenes)


def test_pages_as_they_were_recorded_are_followed_to_their_end(realdata: Path) -> None:
    """Element 84's answer to a box and five days: ten items, two more, and an empty page behind them."""
    product = load_product("sentinel-2-l2a")
    product = product.model_copy(update={"collections": {"earth-search": "sentinel-2-l2a"}})
    days = Period(start=date(2020, 3, 1), end=date(2020, 3, 5))
    with replay(realdata, "earth-search") as server:
        found = search_scenes(server.archive, product, Area(bbox=(9, 47, 10, 48)), days, retries=0)
        assert server.kinds() == ["question", "exact", "exact"]
    assert found.matched == len(found.scenes) == 12 and not found.notes
    observations: dict[str, list[Scene]] = {}
    for scene in found.scenes:
        observations.setdefault(scene.key, []).append(scene)
    pairs = [versions for versions in observations.values() if len(versions) == 2]
    assert len(observations) == 8 and len(pairs) == 4
    for pair in pairs:
        old, new = sorted(pair, key=lambda scene: scene.version)
        assert (old.baseline, new.baseline) == ("02.14", "05.00")


@pytest.mark.parametrize(
    ("name", "declared", "dialect", "method"),
    [
        # Recorded in 2021, when it spoke the draft of CQL; what it speaks now is in its description.
        ("planetary-computer", ("query",), "query", "POST"),
        ("earth-search", ("query",), "query", "POST"),
        ("dlr-eoc", ("cql2-text",), "cql2-text", "GET"),
        ("cdse", ("cql2-json", "query", "cql2-text"), "cql2-json", "POST"),
    ],
)
def test_landing_pages_declare_what_the_descriptions_say(
    realdata: Path, name: str, declared: tuple[str, ...], dialect: str, method: str
) -> None:
    with replay(realdata, name) as server:
        found = probe_archive(server.archive, searches=False)
    assert (found.declared, found.filter, found.method) == (declared, dialect, method)
    described = load_archive(name)
    assert described.method == method
    assert described.filter == (dialect if name != "planetary-computer" else "cql2-json")


def test_a_probe_sees_that_an_archive_stores_cloud_cover_as_text(realdata: Path) -> None:
    with replay(realdata, "dlr-eoc") as server:
        assert probe_archive(server.archive).stored_as_text == ("eo:cloud_cover",)
    assert load_archive("dlr-eoc").stored_as_text == ("eo:cloud_cover",)


@pytest.mark.parametrize("name", ["planetary-computer", "earth-search", "dlr-eoc", "cdse"])
def test_every_recorded_request_is_answered_as_it_was(realdata: Path, name: str) -> None:
    known = load_archive(name)
    again = [r for r in recordings(realdata, name) if r.url.startswith(known.url)]
    with replay(realdata, name) as server, httpx.Client(timeout=30) as http:
        for recording in again:
            url = recording.url.replace(known.url, server.archive.url)
            body = dict(recording.body) if recording.method == "POST" else None
            answer = http.request(recording.method, url, json=body)
            assert answer.status_code == recording.status and answer.headers["X-Recording"] == "exact"
            assert len(answer.json().get("features", ())) == len(recording.document().get("features", ()))
            assert known.url not in answer.text
        assert len(again) > 10


def test_what_was_not_recorded_is_said_so_and_never_empty(realdata: Path) -> None:
    with replay(realdata, "cdse") as server:
        answer = httpx.post(f"{server.archive.url}/search", json={"collections": ["sentinel-3-olci"]})
        assert answer.status_code == 501 and "not" in answer.text
        answer = httpx.get(f"{server.archive.url}/collections/sentinel-3-olci")
        assert answer.status_code == 501
