"""A probe tells what an archive does from what it only declares."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from catalog.archives import load_archive
from catalog.errors import ArchiveError, UsageError
from catalog.recipes import Area, Period
from tasks.search.probe import Capabilities, as_probed, probe_archive
from tasks.search.scenes import search_scenes
from tests.tasks.odd_archive import Pages, stac_that
from tests.tasks.sandbox_archive import Sandbox
from tests.tasks.scene_files import built_in

CQL2 = "http://www.opengis.net/spec/cql2/1.0/conf/"
SEARCH = "https://api.stacspec.org/v1.0.0/item-search"


def probed(answer: Callable[[str, dict[str, Any]], tuple[int, Any]], **landing: Any) -> Capabilities:
    with stac_that(answer, "planetary-computer", **landing) as (archive, _):
        return probe_archive(archive)


def nothing_meets(body: dict[str, Any]) -> bool:
    """Whether a search asks for less cloud than none."""
    condition = body.get("filter")
    if isinstance(condition, dict):
        return bool(condition["op"] == "<")
    return " < " in condition if condition else "lt" in body.get("query", {}).get("eo:cloud_cover", {})


def understanding(pages: Pages, *dialects: str, refuse: bool = False) -> Callable[..., tuple[int, Any]]:
    """An archive that understands some dialects, and refuses or ignores the others."""

    def answer(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        said = "query" if "query" in body else body.get("filter-lang")
        if said is not None and said not in dialects and refuse:
            return 400, {"code": "BadRequest"}
        always = {"datetime": "2000-01-01T00:00:00Z/2100-01-01T00:00:00Z", "bbox": [-180, -90, 180, 90]}
        found = [] if said in dialects and nothing_meets(body) else pages.found({**always, **body})
        sort = body.get("sortby")
        if sort:
            found = found[::-1] if "desc" in str(sort) or str(sort).startswith("-") else found
        start, size = int(body.get("token", 0)), pages.size(body)
        more = {**body, "token": start + size} if start + size < len(found) else None
        return pages.reply(found[start : start + size], found, more)

    return answer


def test_the_sandbox_does_what_its_description_says(sandbox: Sandbox) -> None:
    found = probe_archive(sandbox.archive, collection="sentinel-2-l2a")
    assert found.filters["cql2-json"] == "works" and found.filter == sandbox.archive.filter
    assert found.method == sandbox.archive.method and found.methods == {"GET": "works", "POST": "works"}
    assert found.sort == "works" and found.paging == "works" and found.counts
    assert found.page_size is not None and found.page_size >= sandbox.archive.page_size
    assert json.loads(json.dumps(found.to_dict()))["filter"] == "cql2-json"
    assert "to use       filter: cql2-json, method: POST" in found.lines()


@pytest.mark.parametrize("refuse", [True, False])
@pytest.mark.parametrize(
    ("dialects", "chosen", "method"),
    [
        (("cql2-json", "query", "cql2-text"), "cql2-json", "POST"),
        (("query",), "query", "POST"),
        (("cql2-text",), "cql2-text", "GET"),
        ((), "client", "POST"),
    ],
)
def test_a_filter_counts_only_if_it_filters(
    dialects: tuple[str, ...], chosen: str, method: str, refuse: bool
) -> None:
    classes = [f"{CQL2}cql2-json", f"{CQL2}cql2-text", f"{SEARCH}#query", f"{SEARCH}#sort"]
    found = probed(understanding(Pages(), *dialects, refuse=refuse), conformsTo=classes)
    assert set(found.declared) == {"cql2-json", "cql2-text", "query"}
    assert (found.filter, found.method) == (chosen, method)
    otherwise = "refused" if refuse else "ignored"
    assert found.filters == {
        dialect: "works" if dialect in dialects else otherwise
        for dialect in ("cql2-json", "query", "cql2-text")
    }
    assert found.sort == "works" and found.counts


def test_an_archive_that_gives_no_answer_to_a_search_is_believed_what_it_declares() -> None:
    found = probed(lambda path, body: (500, {}), conformsTo=[f"{CQL2}cql2-json"])
    assert found.filter == "cql2-json" and found.sort == "unknown" and found.page_size is None


def test_the_largest_page_that_is_accepted_is_found() -> None:
    pages = Pages()

    def answer(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if int(body.get("limit", 10)) > 250:
            return 400, {"code": "BadRequest", "description": "limit"}
        return understanding(pages)(path, body)

    assert probed(answer).page_size == 250


def test_a_page_that_does_not_turn_is_noticed() -> None:
    pages = Pages(count=5)

    def answer(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        status, page = understanding(pages)(path, {k: v for k, v in body.items() if k != "token"})
        return status, page

    assert probed(answer).paging == "ignored"


def test_an_archive_by_its_address_is_probed_before_it_is_searched() -> None:
    pages = Pages(count=7)
    with stac_that(understanding(pages, "query", refuse=True), "planetary-computer") as (described, searches):
        archive = load_archive(described.url)
        assert not archive.described and archive.filter == "client"
        product = built_in("sentinel-2-l2a")
        period = Period(start=date(2022, 12, 1), end=date(2023, 2, 1))
        asked = len(searches)
        found = search_scenes(archive, product, Area(bbox=(9, 46, 40, 49)), period, max_cloud_percent=50)
        changed, notes = as_probed(archive, "sentinel-2-l2a")
    assert len(found.scenes) == 7 and found.notes[0].startswith("probed: filters by query")
    assert (changed.filter, changed.method, changed.sort) == ("query", "POST", True)
    assert notes and not changed.described
    assert searches[asked:] and any("query" in body for body in searches[-60:])


def test_what_is_no_archive_is_said_so(sandbox: Sandbox) -> None:
    with pytest.raises(ArchiveError) as caught:
        probe_archive(load_archive("http://127.0.0.1:9"))
    assert caught.value.code == "archive-unreachable"
    with pytest.raises(UsageError) as usage:
        probe_archive(load_archive("sandbox"))
    assert usage.value.code == "archive-has-no-address"
    with pytest.raises(ArchiveError) as no_archive:
        probe_archive(load_archive(f"{sandbox.archive.url}/collections/sentinel-2-l2a/items?limit=1"))
    assert no_archive.value.code in {"not-an-archive", "archive-unreachable"}
