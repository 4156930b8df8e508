"""Searching a real STAC API, and archives that misbehave."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.archives import load_archive
from catalog.errors import ArchiveError, UsageError
from catalog.recipes import Area, Period
from tasks.search.scenes import _boxes_touch as boxes_touch
from tasks.search.scenes import (
    clearest_first,
    not_asked_for,
    property_filter,
    search_scenes,
    take_scenes,
)
from tests.tasks.odd_archive import stac_that
from tests.tasks.sandbox_archive import PRODUCTS, Sandbox
from tests.tasks.scene_files import built_in, write_scene


def collection_of(features: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": features, "links": []}


@pytest.fixture(scope="session")
def items(sandbox: Sandbox) -> list[dict[str, Any]]:
    """Real items of the sandbox's Sentinel-2 collection, as its API answers with them."""
    query = {"collections": ["sentinel-2-l2a"], "limit": 100}
    return list(httpx.post(f"{sandbox.archive.url}/search", json=query).json()["features"])


@pytest.mark.parametrize("name", PRODUCTS)
def test_every_scene_of_the_archive_is_found(name: str, sandbox: Sandbox) -> None:
    found = search_scenes(sandbox.archive, built_in(name), sandbox.area, sandbox.period)
    assert sorted(scene.id for scene in found.scenes) == sorted(sandbox.info.scenes[name])
    assert found.matched == len(found.scenes) and not found.refusals
    assert [scene.sensed for scene in found.scenes] == sorted(scene.sensed for scene in found.scenes)


def test_small_pages_find_the_same_scenes(sandbox: Sandbox) -> None:
    product = built_in("sentinel-2-l2a")
    paged = sandbox.archive.model_copy(update={"page_size": 2})
    whole = search_scenes(sandbox.archive, product, sandbox.area, sandbox.period)
    assert search_scenes(paged, product, sandbox.area, sandbox.period) == whole


def test_cloudy_scenes_are_left_out_whether_the_archive_filters_or_not(sandbox: Sandbox) -> None:
    product = built_in("sentinel-2-l2a")
    results = [
        search_scenes(
            sandbox.archive.model_copy(update={"filter": dialect, "method": method}),
            product,
            sandbox.area,
            sandbox.period,
            max_cloud_percent=20,
        )
        for dialect, method in (
            ("cql2-json", "POST"),
            ("client", "POST"),
            ("client", "GET"),
            ("cql2-text", "GET"),
            ("query", "POST"),
        )
    ]
    assert all(result.scenes == results[0].scenes and not result.notes for result in results)
    assert 0 < len(results[0].scenes) < len(sandbox.info.scenes[product.id])
    assert all((scene.cloud_cover_percent or 0) <= 20 for scene in results[0].scenes)
    assert results[1].passed_over and "cloud cover" in results[1].passed_over[0][1]
    assert not any(result.passed_over for result in (results[0], *results[3:])), "the archive filtered"


def test_a_period_includes_both_of_its_days(sandbox: Sandbox) -> None:
    product = built_in("landsat-oli-sr")
    whole = search_scenes(sandbox.archive, product, sandbox.area, sandbox.period)
    day = whole.scenes[2].sensed.date()
    found = search_scenes(sandbox.archive, product, sandbox.area, Period(start=day, end=day))
    assert {s.id for s in found.scenes} == {s.id for s in whole.scenes if s.sensed.date() == day}


def test_what_was_not_asked_for_is_passed_over(sandbox: Sandbox, items: list[dict[str, Any]]) -> None:
    with stac_that(lambda path, body: (200, collection_of(items))) as (archive, _):
        # This archive answers every search with everything it has.
        day = date(2023, 6, 15)
        found = search_scenes(archive, built_in("sentinel-2-l2a"), sandbox.area, Period(start=day, end=day))
    assert {scene.sensed.date() for scene in found.scenes} == {day}
    assert len(found.passed_over) == len(items) - len(found.scenes)
    assert all("sensed" in reason for _, reason in found.passed_over)


def test_an_item_that_comes_twice_is_one_scene(sandbox: Sandbox, items: list[dict[str, Any]]) -> None:
    with stac_that(lambda path, body: (200, collection_of([*items, *items]))) as (archive, _):
        found = search_scenes(archive, built_in("sentinel-2-l2a"), sandbox.area, sandbox.period)
    assert found.matched == len(items) == len({scene.id for scene in found.scenes})


def test_an_item_that_is_no_scene_is_refused_with_its_reason(
    sandbox: Sandbox, items: list[dict[str, Any]]
) -> None:
    broken = json.loads(json.dumps(items[0]))
    del broken["assets"]["B05"]
    with stac_that(lambda path, body: (200, collection_of([broken, items[1]]))) as (archive, _):
        found = search_scenes(archive, built_in("sentinel-2-l2a"), sandbox.area, sandbox.period)
    assert [scene.id for scene in found.scenes] == [items[1]["id"]]
    ((name, reason),) = found.refusals
    assert name == broken["id"] and "B05" in reason


def test_an_archive_that_stumbles_is_asked_again(sandbox: Sandbox, items: list[dict[str, Any]]) -> None:
    stumbles = iter([503, 429, 500])

    def answer(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        status = next(stumbles, 200)
        return status, collection_of(items) if status == 200 else {"code": "later"}

    with stac_that(answer) as (archive, _):
        found = search_scenes(archive, built_in("sentinel-2-l2a"), sandbox.area, sandbox.period, pause_s=0.01)
    assert len(found.scenes) == len(items)


def test_an_archive_that_is_overloaded_by_a_long_period_is_asked_for_less(
    sandbox: Sandbox, items: list[dict[str, Any]]
) -> None:
    def answer(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        first, last = (datetime.fromisoformat(text) for text in body["datetime"].split("/"))
        if last - first > timedelta(days=20):
            return 504, {"code": "too much"}
        dates = {item["id"]: datetime.fromisoformat(item["properties"]["datetime"]) for item in items}
        return 200, collection_of([item for item in items if first <= dates[item["id"]] <= last])

    summer = Period(start=date(2023, 5, 20), end=date(2023, 8, 10))
    with stac_that(answer) as (archive, searches):
        found = search_scenes(archive, built_in("sentinel-2-l2a"), sandbox.area, summer, retries=0)
    assert {scene.id for scene in found.scenes} == {
        item["id"] for item in items if "2023-05-20" <= item["properties"]["datetime"] < "2023-08-11"
    }
    assert len(found.scenes) > 1 and len(searches) > 4


@pytest.mark.parametrize("status", [None, 503, 400])
def test_an_archive_that_does_not_answer_is_named_with_a_next_step(
    status: int | None, sandbox: Sandbox
) -> None:
    product = built_in("sentinel-2-l2a")
    if status is None:
        archive = load_archive("sandbox", url="http://127.0.0.1:9")
        with pytest.raises(ArchiveError) as caught:
            search_scenes(archive, product, sandbox.area, sandbox.period, retries=1, pause_s=0.01)
    else:
        with stac_that(lambda path, body: (status, {"token": "sig=abc"})) as (archive, _):
            day = Period(start=date(2022, 1, 1), end=date(2022, 1, 1))
            with pytest.raises(ArchiveError) as caught:
                search_scenes(archive, product, sandbox.area, day, retries=1, pause_s=0.01)
    assert caught.value.code == ("archive-refused" if status == 400 else "archive-unreachable")
    assert caught.value.subject == "sandbox" and archive.url in caught.value.message
    assert caught.value.next_step


def test_a_product_that_the_archive_lacks_is_named(sandbox: Sandbox) -> None:
    with pytest.raises(UsageError) as caught:
        search_scenes(sandbox.archive, built_in("sentinel-2-l1c"), sandbox.area, sandbox.period)
    assert caught.value.code == "product-not-in-archive"
    assert "sentinel-2-l1c" in caught.value.message and "sandbox" in caught.value.message


def test_an_archive_that_is_not_served_says_so(sandbox: Sandbox) -> None:
    with pytest.raises(UsageError) as caught:
        search_scenes(load_archive("sandbox"), built_in("enmap-l2a"), sandbox.area, sandbox.period)
    assert "swath archive serve" in caught.value.next_step


def test_a_page_that_is_no_stac_api_is_called_that(sandbox: Sandbox, tmp_path: Path) -> None:
    from tests.tasks.range_server import serve_ranges

    with serve_ranges(tmp_path) as server:
        server.fault = lambda request: b"<html>hello</html>"
        with pytest.raises(ArchiveError) as caught:
            archive = load_archive("sandbox", url=server.url)
            search_scenes(archive, built_in("enmap-l2a"), sandbox.area, sandbox.period)
    assert caught.value.code == "not-an-archive"


def test_cloud_is_filtered_as_a_number_where_the_archive_can_and_only_for_optical_products() -> None:
    optical, radar = built_in("sentinel-2-l2a"), built_in("sentinel-1-rtc")
    earth_search, dlr = load_archive("earth-search"), load_archive("dlr-eoc")
    assert property_filter(earth_search, optical, 20) == {"query": {"eo:cloud_cover": {"lte": 20}}}
    assert property_filter(dlr, optical, 20) == {}, "its cloud cover is text; a filter would find nothing"
    assert property_filter(earth_search, radar, 20) == {}
    assert property_filter(earth_search, optical, None) == {}


@given(west=st.floats(-180, 180), width=st.floats(0.5, 90), x=st.floats(-180, 180), south=st.floats(-80, 70))
def test_boxes_touch_over_the_antimeridian_as_anywhere_else(
    west: float, width: float, x: float, south: float
) -> None:
    def wrapped(longitude: float) -> float:
        return (longitude + 180) % 360 - 180

    box = (wrapped(west), south, wrapped(west + width), south + 5)
    point = (x, south + 1, x, south + 2)
    distance = (x - west) % 360
    if min(abs(distance - width), distance, 360 - distance) > 1e-6:
        assert boxes_touch(box, point) == boxes_touch(point, box) == (distance < width)
    assert not boxes_touch(box, (x, south + 6, x, south + 7))


def test_the_clearest_scenes_are_taken_and_stay_in_order(sandbox: Sandbox, tmp_path: Path) -> None:
    product = built_in("sentinel-2-l2a")
    found = search_scenes(sandbox.archive, product, sandbox.area, sandbox.period)
    few = clearest_first(found, 3)
    limit = sorted(scene.cloud_cover_percent or 0 for scene in found.scenes)[2]
    assert len(few.scenes) == 3 and all((s.cloud_cover_percent or 0) <= limit for s in few.scenes)
    assert [s.sensed for s in few.scenes] == sorted(s.sensed for s in few.scenes)
    assert len(few.passed_over) == len(found.scenes) - 3
    assert take_scenes(found.scenes, None) == found.scenes


def test_a_scene_of_another_platform_was_not_asked_for(tmp_path: Path) -> None:
    product = built_in("landsat-oli-sr")
    scene = write_scene(tmp_path, "http://127.0.0.1:1", product).scene
    area = Area(bbox=(scene.bbox[0], scene.bbox[1], scene.bbox[2], scene.bbox[3]))
    period = Period(start=date(2022, 6, 15), end=date(2022, 6, 15))
    assert not_asked_for(scene, product, area, period) is None
    assert "platform" in str(not_asked_for(replace(scene, platform="landsat-7"), product, area, period))
    late = replace(scene, sensed=datetime(2022, 6, 16, 0, 0, 1, tzinfo=UTC))
    assert "sensed" in str(not_asked_for(late, product, area, period))
