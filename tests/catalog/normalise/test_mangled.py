"""However an item is mangled, it becomes a sound scene or is refused with reasons; nothing else happens."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.archives import Archive, load_archive
from catalog.archives.hrefs import href_refusal
from catalog.errors import UsageError
from catalog.normalise import RefusedScene, inspect_item, normalise_item
from catalog.products import Product, load_product
from catalog.scenes import Scene
from tests.catalog.made_up import s2_item
from tests.catalog.normalise.test_enmap import enmap_item
from tests.catalog.normalise.test_items import JUNK, landsat_item, places
from tests.recordings.library import saved_items

Case = tuple[dict[str, Any], Archive, Product]
KINDS: tuple[Case, ...] = (
    (s2_item(), load_archive("planetary-computer"), load_product("sentinel-2-l2a")),
    (landsat_item(), load_archive("planetary-computer"), load_product("landsat-oli-sr")),
    (enmap_item(), load_archive("dlr-eoc"), load_product("enmap-l2a")),
)
COLLECTION: dict[str, Any] = {
    "license": "proprietary",
    "sci:citation": "Copernicus Sentinel data [Year]",
    "links": [{"rel": "license", "href": "https://example.org/terms.pdf", "title": "Terms"}],
    "providers": [{"name": "ESA", "roles": ["producer"]}],
}


def mangled(document: dict[str, Any], data: st.DataObject) -> dict[str, Any]:
    """A copy in which one to four places are gone, of another type, or hold junk."""
    result = copy.deepcopy(document)
    for _ in range(data.draw(st.integers(1, 4))):
        path = data.draw(st.sampled_from(places(result)))
        parent: Any = result
        for key in path[:-1]:
            parent = parent[key]
        value = parent[path[-1]]
        match data.draw(st.sampled_from(("drop", "as text", "as number", "in a list", "junk", "null"))):
            case "drop":
                del parent[path[-1]]
            case "as text":
                parent[path[-1]] = str(value)
            case "as number":
                parent[path[-1]] = len(str(value))
            case "in a list":
                parent[path[-1]] = [value]
            case "null":
                parent[path[-1]] = None
            case _:
                parent[path[-1]] = data.draw(JUNK)
        if not result:
            break
    return result


def judge(item: dict[str, Any], archive: Archive, product: Product, collection: dict[str, Any]) -> None:
    try:
        scene = normalise_item(item, archive, product, collection)
    except RefusedScene as refusal:
        assert refusal.reasons and all(refusal.reasons) and refusal.code in {"item-refused", "other-product"}
        return
    assert Scene.from_dict(json.loads(json.dumps(scene.to_dict()))) == scene
    assert scene.sensed.tzinfo is not None and scene.key and scene.version
    assert scene.licence and isinstance(scene.attribution, str)
    assert scene.cloud_cover_percent is None or 0 <= scene.cloud_cover_percent <= 100
    assert {band for asset in scene.assets.values() for band in asset.bands} == set(product.band_names)
    for asset in scene.assets.values():
        assert href_refusal(asset.href, archive) is None and "?" not in asset.href and "@" not in asset.href


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_mangled_item_is_a_sound_scene_or_a_refusal(data: st.DataObject) -> None:
    item, archive, product = data.draw(st.sampled_from(KINDS))
    judge(mangled(item, data), archive, product, COLLECTION)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_mangled_collection_refuses_no_scene(data: st.DataObject) -> None:
    item, archive, product = data.draw(st.sampled_from(KINDS))
    scene = normalise_item(item, archive, product, mangled(COLLECTION, data))
    assert scene.licence and isinstance(scene.attribution, str)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_mangled_item_is_inspected_or_its_product_is_asked_for(data: st.DataObject) -> None:
    item, _, _ = data.draw(st.sampled_from(KINDS))
    try:
        verdict = inspect_item(mangled(item, data))
    except UsageError as error:
        assert error.code == "product-not-guessed"
    else:
        assert bool(verdict["refused"]) == (verdict["scene"] is None)
        json.dumps(verdict)


@pytest.mark.realdata
def test_mangled_real_items_too(realdata: Path) -> None:
    from catalog.normalise.inspection import candidates

    cases: list[Case] = []
    for name, item in saved_items(realdata):
        if name is not None:
            archive = load_archive(name)
            cases.append((item, archive, candidates(item, archive)[0]))

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def check(data: st.DataObject) -> None:
        item, archive, product = data.draw(st.sampled_from(cases))
        judge(mangled(item, data), archive, product, COLLECTION)

    check()
