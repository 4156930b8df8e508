"""Licences are known by any of their names, and together they allow what the strictest allows."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.archives import load_archive
from catalog.licences import (
    LICENCES,
    UNKNOWN,
    allowed_together,
    collection_attribution,
    collection_licence,
    known_licence,
    licences_of,
)
from catalog.normalise import normalise_item
from catalog.products import load_product, load_products
from tests.catalog.made_up import s2_item, scene_of, with_changes

TEXTS = st.sampled_from([licence.id for licence in LICENCES] + ["house rules", "proprietary"])
SENTINEL_LINK = "https://sentinel.esa.int/documents/247904/690755/Sentinel_Data_Legal_Notice"


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("Copernicus Sentinel data terms (free, full and open)", "Copernicus-Sentinel"),
        ("modified Copernicus Sentinel data 2015-2018 (free, full and open)", "Copernicus-Sentinel"),
        (SENTINEL_LINK, "Copernicus-Sentinel"),
        ("public domain (USGS)", "USGS-public-domain"),
        ("https://www.usgs.gov/core-science-systems/hdds/data-policy", "USGS-public-domain"),
        ("EnMAP Data License (DLR, proprietary; no redistribution of pixels)", "EnMAP-Data-License"),
        (".../licenses/enmap/EnMAP-Data_License_v1_1.pdf", "EnMAP-Data-License"),
        ("cc-by-4.0", "CC-BY-4.0"),
        ("CC BY-NC-SA", "CC-BY-NC-SA-4.0"),
        # Pixels and labels in one line: the stricter of the two holds for the line.
        ("modified Copernicus Sentinel data; change maps CC BY-NC-SA", "CC-BY-NC-SA-4.0"),
        ("proprietary", "unknown"),
        ("", "unknown"),
    ],
)
def test_a_licence_is_known_by_its_names(text: str, known: str) -> None:
    assert known_licence(text).id == known


def test_every_built_in_product_has_a_licence_that_is_known() -> None:
    for product in load_products().values():
        assert known_licence(product.licence) is not UNKNOWN, product.id


@given(st.lists(TEXTS, min_size=1, max_size=5), TEXTS)
def test_one_licence_more_never_allows_more(some: list[str], other: str) -> None:
    may, must = {"yes": 0, "unknown": 1, "no": 2}, {"no": 0, "unknown": 1, "yes": 2}
    before, after = allowed_together(some), allowed_together([*some, other])
    for question in ("redistribution", "commercial_use"):
        assert may[after[question]] == max(
            may[before[question]], may[getattr(known_licence(other), question)]
        )
    assert must[after["attribution_required"]] >= must[before["attribution_required"]]
    assert after["share_alike"] >= before["share_alike"]
    assert set(before["unknown"]) <= set(after["unknown"])
    assert allowed_together([*some, other]) == allowed_together([*some, other, *some])


def test_what_is_not_known_is_not_allowed() -> None:
    assert allowed_together([])["redistribution"] == "unknown"
    mixed = allowed_together(["CC0-1.0", "house rules"])
    assert mixed["commercial_use"] == "unknown" and mixed["unknown"] == ["house rules"]
    assert allowed_together(["house rules", load_product("enmap-l2a").licence])["redistribution"] == "no"


def test_a_collection_says_by_its_link_what_proprietary_means() -> None:
    collection: dict[str, Any] = {
        "license": "proprietary",
        "links": [{"rel": "license", "href": SENTINEL_LINK}],
        "providers": [{"name": "ESA", "roles": ["producer"]}, {"name": "AWS", "roles": ["host"]}],
    }
    assert collection_licence(collection) == "Copernicus-Sentinel"
    assert collection_attribution(collection) == "ESA"
    assert collection_licence({"license": "proprietary", "links": "none"}) is None
    assert collection_licence(collection | {"license": "CC-BY-4.0"}) == "CC-BY-4.0"


def test_a_scene_carries_its_collections_licence_and_citation() -> None:
    item, product, archive = s2_item(), load_product("sentinel-2-l2a"), load_archive("cdse")
    archive = archive.model_copy(update={"hosts": ()})
    cited = {
        "license": "other",
        "sci:citation": "Copernicus Sentinel data [Year]",
        "links": [{"rel": "license", "href": SENTINEL_LINK}],
    }
    scene = normalise_item(item, archive, product, cited)
    assert (scene.licence, scene.attribution) == (product.licence, "Copernicus Sentinel data 2023")
    assert normalise_item(item, archive, product, {"license": "CC-BY-4.0"}).licence == "CC-BY-4.0"
    own = with_changes(item, license="CC0-1.0")
    assert normalise_item(own, archive, product, cited).licence == "CC0-1.0"


def test_of_an_archive_that_nobody_described_terms_are_not_assumed() -> None:
    item, product = s2_item(), load_product("sentinel-2-l2a")
    archive = load_archive("https://stac.example.org")
    scene = normalise_item(item, archive, product, {"license": "proprietary"})
    assert known_licence(scene.licence) is UNKNOWN and "proprietary" in scene.licence


def test_scenes_are_summed_up_by_licence_and_attribution() -> None:
    s2, enmap = load_product("sentinel-2-l2a"), load_product("enmap-l2a")
    scenes = [
        scene_of(s2, id="a", licence=s2.licence, attribution="one"),
        scene_of(s2, id="b", licence=s2.licence, attribution="one"),
        scene_of(enmap, id="c", licence=enmap.licence, attribution="two"),
    ]
    entries = licences_of(scenes)
    assert [(e["licence"], e["scenes"], e["products"]) for e in entries] == [
        (s2.licence, 2, ["sentinel-2-l2a"]),
        (enmap.licence, 1, ["enmap-l2a"]),
    ]
    assert entries[1]["facts"]["redistribution"] == "no"
    json.dumps(entries)


@pytest.mark.realdata
def test_recorded_collections_state_licences_that_are_known(realdata: Path) -> None:
    files = sorted((realdata / "stac-items" / "_collections").glob("*.json"))
    found = {file.stem: collection_licence(json.loads(file.read_text(encoding="utf-8"))) for file in files}
    assert found and None not in found.values()
    assert all(known_licence(text or "") is not UNKNOWN for text in found.values())
    assert found["planetarycomputer.microsoft.com__sentinel-1-rtc"] == "CC-BY-4.0"
    assert found["stac.dataspace.copernicus.eu__sentinel-2-l2a"] == "Copernicus-Sentinel"
    assert found["planetarycomputer.microsoft.com__landsat-c2-l2"] == "USGS-public-domain"


@pytest.mark.realdata
def test_citations_name_the_year_of_the_pixels(realdata: Path) -> None:
    file = realdata / "stac-items" / "_collections" / "stac.dataspace.copernicus.eu__sentinel-2-l2a.json"
    collection = json.loads(file.read_text(encoding="utf-8"))
    sensed = datetime(2021, 5, 1, tzinfo=UTC)
    assert collection_attribution(collection, sensed) == "Copernicus Sentinel data 2021"
