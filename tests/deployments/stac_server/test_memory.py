"""Searching a memory catalog."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.stac_server.memory import BadQuery, MemoryCatalog, Query
from tests.deployments.stac_server.conftest import SCENES, make_item

CATALOG = MemoryCatalog.of([], [make_item(number) for number in range(SCENES)])


def ids(query: Query) -> list[str]:
    return [item["id"] for item in CATALOG.search(query).items]


def walk(catalog: MemoryCatalog, limit: int, sortby: tuple[tuple[str, bool], ...] = ()) -> list[str]:
    found, token = [], None
    while True:
        page = catalog.search(Query(limit=limit, token=token, sortby=sortby))
        found += [item["id"] for item in page.items]
        if page.next_token is None:
            return found
        token = page.next_token


@given(
    covers=st.lists(st.none() | st.integers(0, 3), max_size=12),
    limit=st.integers(1, 5),
    descending=st.booleans(),
)
def test_paging_gives_every_item_once_and_in_order_whatever_ties_or_gaps(
    covers: list[int | None], limit: int, descending: bool
) -> None:
    items = [make_item(number) for number in range(len(covers))]
    for item, cover in zip(items, covers, strict=True):
        item["properties"] |= {"eo:cloud_cover": cover}  # type: ignore[operator]
    catalog = MemoryCatalog.of([], items)
    found = walk(catalog, limit, (("eo:cloud_cover", descending),))
    assert sorted(found) == sorted(item["id"] for item in items)
    by_id = dict(zip([item["id"] for item in items], covers, strict=True))
    known = [by_id[name] for name in found if by_id[name] is not None]
    assert known == sorted(known, reverse=descending)
    assert all(by_id[name] is None for name in found[len(known) :])


def test_an_item_that_arrives_between_two_pages_makes_none_appear_twice() -> None:
    catalog = MemoryCatalog.of([], [make_item(number) for number in range(4)])
    first = catalog.search(Query(limit=2))
    catalog.replace([], [make_item(number) for number in range(6)])
    second = catalog.search(Query(limit=9, token=first.next_token))
    assert [item["id"] for item in (*first.items, *second.items)] == [
        "optical-03",
        "optical-02",
        "optical-01",
        "optical-00",
    ]


def test_the_newest_scene_comes_first_unless_another_order_is_asked_for() -> None:
    assert ids(Query(limit=2)) == ["optical-22", "optical-21"]
    assert ids(Query(limit=2, sortby=(("datetime", False),))) == ["optical-00", "optical-01"]
    assert ids(Query(limit=2, sortby=(("properties.eo:cloud_cover", False),))) == ["optical-00", "optical-10"]


def test_an_instant_and_open_intervals_include_their_ends() -> None:
    day = datetime(2024, 1, 3, 10, tzinfo=UTC)
    assert ids(Query(start=day, end=day)) == ["optical-02"]
    assert len(ids(Query(end=day, limit=99))) == 3
    assert len(ids(Query(start=day, limit=99))) == SCENES - 2


def test_a_box_across_the_antimeridian_finds_both_sides() -> None:
    assert set(ids(Query(bbox=[170, -1, 0.5, 2]))) == {"optical-00"}
    east = make_item(30)
    east["geometry"] = {
        "type": "Polygon",
        "coordinates": [[[178, 0], [179, 0], [179, 1], [178, 1], [178, 0]]],
    }
    catalog = MemoryCatalog.of(
        [], [make_item(0), east | {"properties": {"datetime": "2024-02-01T00:00:00Z"}}]
    )
    assert catalog.search(Query(bbox=[170, -1, 0.5, 2])).matched == 2


def test_a_missing_value_is_neither_less_nor_not_less() -> None:
    bare = make_item(5)
    bare["properties"] = {"datetime": "2024-01-06T10:00:00Z"}
    catalog = MemoryCatalog.of([], [bare, make_item(1)])
    assert catalog.search(Query(filter="eo:cloud_cover < 50")).matched == 1
    assert catalog.search(Query(filter="NOT eo:cloud_cover < 50")).matched == 0
    assert catalog.search(Query(filter="eo:cloud_cover IS NULL")).matched == 1


def test_a_cloud_cover_that_is_text_is_not_compared_with_a_number() -> None:
    text = make_item(1)
    text["properties"] |= {"eo:cloud_cover": "12"}  # type: ignore[operator]
    assert MemoryCatalog.of([], [text]).search(Query(filter="eo:cloud_cover < 50")).matched == 0


def test_an_item_with_a_broken_geometry_is_served_but_lies_nowhere() -> None:
    broken = make_item(1) | {"geometry": {"type": "Polygon", "coordinates": [[[0, 0]]]}}
    catalog = MemoryCatalog.of([], [broken])
    assert catalog.search(Query()).matched == 1
    assert catalog.search(Query(bbox=[-180, -90, 180, 90])).matched == 0


@pytest.mark.parametrize(
    "query",
    [
        Query(filter="eo:cloud_cover <"),
        Query(bbox=[1, 2, 3]),
        Query(bbox=[0, 5, 1, 2]),
        Query(intersects={"type": "Nonsense"}),
        Query(token="not-mine"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(query: Query) -> None:
    with pytest.raises(BadQuery):
        CATALOG.search(query)
