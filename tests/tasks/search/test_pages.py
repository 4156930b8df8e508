"""Whatever an archive's paging does, every item is found, or it is said that some are not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.archives import Archive
from catalog.errors import ArchiveError
from catalog.recipes import Area, Period
from tasks.search.scenes import SearchResult, search_scenes
from tests.tasks.odd_archive import Pages, stac_that
from tests.tasks.scene_files import built_in

AREA = Area(bbox=(9, 46, 40, 49))
PERIOD = Period(start=date(2022, 12, 20), end=date(2023, 3, 1))
Answer = Callable[[str, dict[str, Any]], tuple[int, Any]]


def search(archive: Archive, **options: Any) -> SearchResult:
    return search_scenes(archive, built_in("sentinel-2-l2a"), AREA, PERIOD, retries=0, **options)


def found_by(answer: Answer) -> tuple[SearchResult, list[dict[str, Any]]]:
    with stac_that(answer, "planetary-computer") as (archive, searches):
        return search(archive), searches


def ids(pages: Pages) -> set[str]:
    return {item["id"] for item in pages.items}


@pytest.mark.parametrize("counts", [True, False])
def test_pages_that_hold_are_read_once_each(counts: bool) -> None:
    pages = Pages(counts=counts)
    result, searches = found_by(pages.answer)
    assert {scene.id for scene in result.scenes} == ids(pages) and not result.notes
    assert len(searches) == 4


def repeats(pages: Pages) -> Answer:
    """Answers the first page to every token."""

    def answer(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        found, size = pages.found(body), pages.size(body)
        more = {**body, "token": int(body.get("token", 0)) + size} if size < len(found) else None
        return pages.reply(found[:size], found, more)

    return answer


def loops(pages: Pages) -> Answer:
    """The last page leads to the first, for ever."""

    def answer(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        status, page = pages.answer(path, body)
        if not page["links"]:
            link = {"rel": "next", "href": "/search", "method": "POST", "body": {**body, "token": 0}}
            page["links"].append(link)
        return status, page

    return answer


def forgets(pages: Pages) -> Answer:
    """The next link has lost the body, so that the whole archive comes."""

    def answer(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if "datetime" not in body:
            strangers = [item | {"id": f"X{n}", "collection": "other"} for n, item in enumerate(pages.items)]
            return pages.reply(strangers[:4], strangers, {})
        status, page = pages.answer(path, body)
        for link in page["links"]:
            del link["body"]
        return status, page

    return answer


def becomes_get(pages: Pages) -> Answer:
    """The next link has lost its method, and with it everything else."""

    def answer(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if body.get("GET"):
            return 400, {"code": "BadRequest", "description": "collections is missing"}
        status, page = pages.answer(path, body)
        for link in page["links"]:
            del link["body"], link["method"]
        return status, page

    return answer


def loses(pages: Pages) -> Answer:
    """Every second page begins one item too late."""

    def answer(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        status, page = pages.answer(path, body)
        if int(body.get("token", 0)) % 8 == 4:
            page["features"] = page["features"][1:]
        return status, page

    return answer


def overlaps(pages: Pages) -> Answer:
    """Pages repeat the last item of the one before instead of their first, so that their sum is right."""

    def answer(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        found, start, size = pages.found(body), int(body.get("token", 0)), pages.size(body)
        page = found[start : start + size]
        if start:
            page[0] = found[start - 1]
        more = {**body, "token": start + size} if start + size < len(found) else None
        return pages.reply(page, found, more)

    return answer


def empties_forever(pages: Pages) -> Answer:
    """After the first page only empty ones come, each with another to follow."""

    def answer(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        found, size, token = pages.found(body), pages.size(body), int(body.get("token", 0))
        page = found[:size] if token == 0 else []
        return pages.reply(page, found, {**body, "token": token + 1} if size < len(found) else None)

    return answer


def leads_away(pages: Pages) -> Answer:
    """The next page lies on another host."""

    def answer(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        status, page = pages.answer(path, body)
        for link in page["links"]:
            link["href"] = "http://169.254.169.254/search"
        return status, page

    return answer


ODD = [repeats, loops, forgets, becomes_get, loses, overlaps, empties_forever, leads_away]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd.__name__)
def test_paging_that_does_not_hold_loses_nothing_where_the_archive_counts(
    odd: Callable[[Pages], Answer],
) -> None:
    pages = Pages()
    result, _ = found_by(odd(pages))
    assert {scene.id for scene in result.scenes} == ids(pages)
    if odd is not loops:  # it has handed out all that it counts before it begins again
        assert any("asked again in smaller parts" in note for note in result.notes)


@pytest.mark.parametrize(
    "odd", [repeats, loops, forgets, empties_forever, leads_away], ids=lambda odd: odd.__name__
)
def test_what_gives_itself_away_needs_no_count(odd: Callable[[Pages], Answer]) -> None:
    pages = Pages(counts=False)
    result, _ = found_by(odd(pages))
    assert {scene.id for scene in result.scenes} == ids(pages) and result.notes


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(count=st.integers(0, 12), page=st.integers(1, 5), odd=st.sampled_from(ODD))
def test_every_item_is_found_whatever_the_size_of_a_page(
    count: int, page: int, odd: Callable[[Pages], Answer]
) -> None:
    pages = Pages(count=count, page=page)
    result, _ = found_by(odd(pages))
    assert {scene.id for scene in result.scenes} == ids(pages)


def test_items_of_one_instant_are_told_apart_by_place() -> None:
    pages = Pages(count=9, page=2, together=True)
    result, searches = found_by(repeats(pages))
    assert {scene.id for scene in result.scenes} == ids(pages)
    assert any(body["bbox"][2] - body["bbox"][0] < 5 for body in searches)


def test_an_empty_page_in_the_middle_is_not_the_end() -> None:
    pages = Pages()

    def answer(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if int(body.get("token", 0)) == 8 and not body.get("again"):
            return pages.reply([], pages.found(body), {**body, "again": 1})
        return pages.answer(path, body)

    result, _ = found_by(answer)
    assert {scene.id for scene in result.scenes} == ids(pages) and not result.notes


def test_an_archive_that_counts_more_than_it_has_is_named_in_the_end() -> None:
    pages = Pages(count=3)

    def answer(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        status, page = pages.answer(path, body)
        return status, page | {"numberMatched": len(page["features"]) + 2}

    with (
        stac_that(answer, "planetary-computer") as (archive, searches),
        pytest.raises(ArchiveError) as caught,
    ):
        search(archive)
    assert caught.value.code == "archive-loses-items" and "counts 2" in caught.value.message
    assert len(searches) < 200


@pytest.mark.parametrize(
    ("refuses", "note"),
    [
        (lambda body: "filter" in body, "the filter (cql2-json)"),
        (lambda body: "sortby" in body, "sorting"),
        (lambda body: int(body.get("limit", 10)) > 100, "250 items on a page"),
        (lambda body: bool({"filter", "sortby"} & set(body)), "(cql2-json), sorting, 250 items on a page"),
    ],
)  # fmt: skip
def test_what_an_archive_refuses_is_left_out_and_noted(
    refuses: Callable[[dict[str, Any]], bool], note: str
) -> None:
    pages = Pages()

    def answer(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if refuses(body):
            return 400, {"code": "BadRequest", "description": "what is that?"}
        return pages.answer(path, body)

    with stac_that(answer, "planetary-computer") as (archive, searches):
        result = search(archive, max_cloud_percent=12)
    # The items' cloud cover is 12.5: the condition is checked on this side, whoever filters.
    assert not result.scenes and len(result.passed_over) == len(pages.items)
    assert any(note in text and "HTTP 400" in text for text in result.notes)
    assert sum(refuses(body) for body in searches) <= 5, "what was refused once is not tried on every page"


def test_an_archive_that_knows_only_get_is_asked_so() -> None:
    pages = Pages(counts=False, page=100)

    def answer(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        return pages.answer(path, body) if body.get("GET") else (405, {"code": "MethodNotAllowed"})

    result, _ = found_by(answer)
    assert {scene.id for scene in result.scenes} == ids(pages)
    assert any("POST searches" in note for note in result.notes)


def test_items_of_another_collection_were_not_asked_for() -> None:
    pages = Pages(count=4)
    pages.items[1]["collection"] = "sentinel-2-l2a-copy"
    result, _ = found_by(pages.answer)
    assert len(result.scenes) == 3 and "collection" in result.passed_over[0][1]


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 50), st.text(max_size=5), st.just([]), st.just({}),
    st.just([7]), st.just([{"rel": "next"}]), st.just([{"rel": "next", "href": 7}]),
    st.just({"matched": "many"}),
    st.just([{"rel": "next", "href": "http://[bad", "method": "POST", "body": []}]), st.just([{"id": None}]),
)  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    junk=st.dictionaries(
        st.sampled_from(["features", "links", "numberMatched", "context", "search:metadata", "type"]),
        JUNK,
        min_size=1,
    ),
    later=st.booleans(),
)
def test_a_page_of_junk_is_an_error_of_the_archive_or_a_page(junk: dict[str, Any], later: bool) -> None:
    pages = Pages(count=5, page=3)

    def answer(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        status, page = pages.answer(path, body)
        return status, page | junk if bool(body.get("token")) == later else page

    try:
        result, _ = found_by(answer)
    except ArchiveError as error:
        assert error.code in {
            "not-an-archive",
            "archive-loses-items",
            "archive-refused",
            "archive-unreachable",
        }
    else:
        assert result.matched <= 6


def test_an_archive_that_stumbles_in_small_parts_too_is_named() -> None:
    pages = Pages()
    asked = []

    def answer(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        asked.append(body)
        return repeats(pages)(path, body) if len(asked) < 4 else (503, {"code": "later"})

    with pytest.raises(ArchiveError) as caught:
        found_by(answer)
    assert caught.value.code == "archive-unreachable"
