"""The digest of an item: the same for the same scene, another one as soon as it says something else."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from catalog.normalise.digest import item_digest

ITEM: dict[str, Any] = {
    "id": "S2A_1",
    "collection": "sentinel-2-l2a",
    "bbox": [1, 2, 3, 4],
    "geometry": {"type": "Point", "coordinates": [1, 2]},
    "properties": {"datetime": "2024-01-01T00:00:00Z", "eo:cloud_cover": 3.5, "updated": "2024-02-01"},
    "assets": {"B02": {"href": "https://example.org/B02.tif?se=1&sig=abc", "type": "image/tiff"}},
    "links": [{"rel": "self", "href": "https://example.org/1"}],
}


def changed(*path: str, to: Any) -> dict[str, Any]:
    item = copy.deepcopy(ITEM)
    target = item
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = to
    return item


def test_signatures_links_and_the_time_of_the_last_update_do_not_count() -> None:
    same = changed("assets", "B02", "href", to="https://example.org/B02.tif?se=2&sig=def")
    same["links"] = []
    same["properties"]["updated"] = "2026-01-01"
    assert item_digest(same) == item_digest(ITEM)


def test_whatever_makes_another_scene_counts() -> None:
    others = [
        changed("properties", "eo:cloud_cover", to=3.6),
        changed("assets", "B02", "href", to="https://example.org/moved/B02.tif"),
        changed("assets", "B03", to={"href": "https://example.org/B03.tif"}),
        changed("bbox", to=[1, 2, 3, 5]),
        changed("id", to="S2A_2"),
    ]
    digests = {item_digest(item) for item in (ITEM, *others)}
    assert len(digests) == 6


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["id", "properties", "assets", "bbox", "geometry"]), json_values))
def test_any_document_has_a_digest_that_the_order_of_its_keys_does_not_change(item: dict[str, Any]) -> None:
    shuffled = list(item.items())
    random.Random(1).shuffle(shuffled)
    assert item_digest(dict(shuffled)) == item_digest(item) == item_digest(json.loads(json.dumps(item)))
