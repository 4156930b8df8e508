"""The STAC API as its clients see it."""

from __future__ import annotations

import json
import warnings
from typing import Any

import httpx
import pystac
import pystac_client
import pytest

from deployments.stac_server import ArchiveServer
from tests.deployments.stac_server.conftest import SCENES

BOTH = pytest.mark.parametrize("method", ["GET", "POST"])
CLEAR = {"op": "<", "args": [{"property": "eo:cloud_cover"}, 5]}


@pytest.fixture
def client(archive: ArchiveServer) -> pystac_client.Client:
    return pystac_client.Client.open(archive.url)


def search(client: pystac_client.Client, **parts: Any) -> list[pystac.Item]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # pystac-client warns of what a server does not conform to
        return list(client.search(**parts).items())


@BOTH
def test_one_item_per_page_gives_every_item_once(client: pystac_client.Client, method: str) -> None:
    found = search(client, method=method, collections=["optical"], limit=1)
    assert [item.id for item in found] == [f"optical-{number:02d}" for number in reversed(range(SCENES))]


@BOTH
def test_pages_keep_the_whole_search(client: pystac_client.Client, method: str) -> None:
    found = search(
        client,
        method=method,
        collections=["optical"],
        bbox=[0, 0, 15.5, 1],
        datetime="2024-01-01/2024-01-12",
        filter=CLEAR,
        filter_lang="cql2-json",
        sortby="+properties.eo:cloud_cover",
        limit=1,
    )
    assert [item.properties["eo:cloud_cover"] for item in found] == [0, 1, 3]


@BOTH
def test_filters_as_text_and_as_json_mean_the_same(client: pystac_client.Client, method: str) -> None:
    text = search(client, method=method, filter="eo:cloud_cover < 5", filter_lang="cql2-text")
    as_json = search(client, method=method, filter=CLEAR, filter_lang="cql2-json")
    query = search(client, method=method, query={"eo:cloud_cover": {"lt": 5}})
    assert len(text) == 5
    assert [item.id for item in text] == [item.id for item in as_json] == [item.id for item in query]


def test_a_text_filter_in_a_post_body_is_understood(archive: ArchiveServer) -> None:
    body = {"filter": "platform = 'sentinel-1a'", "filter-lang": "cql2-text"}
    answer = httpx.post(f"{archive.url}/search", json=body).json()
    assert [item["id"] for item in answer["features"]] == ["radar-00"]


@BOTH
def test_ids_intersects_and_collections_narrow(client: pystac_client.Client, method: str) -> None:
    assert [item.id for item in search(client, method=method, ids=["optical-07"])] == ["optical-07"]
    point = {"type": "Point", "coordinates": [0.5, 0.5]}
    assert {item.id for item in search(client, method=method, intersects=point)} == {"optical-00", "radar-00"}
    assert search(client, method=method, collections=["nothing"]) == []


@BOTH
def test_the_server_counts(client: pystac_client.Client, method: str) -> None:
    answer = client.search(method=method, collections=["optical"], limit=4, max_items=4)
    assert answer.matched() == SCENES
    page = next(answer.pages_as_dicts())
    assert (page["numberMatched"], page["numberReturned"]) == (SCENES, 4)


@BOTH
def test_sorting_by_two_fields(client: pystac_client.Client, method: str) -> None:
    found = search(
        client, method=method, collections=["optical"], sortby=["+platform", "-datetime"], limit=SCENES
    )
    keys = [(item.properties["platform"], -item.datetime.timestamp()) for item in found if item.datetime]
    assert keys == sorted(keys)


def test_assets_and_links_point_at_this_server(archive: ArchiveServer, client: pystac_client.Client) -> None:
    item = client.get_collection("optical").get_item("optical-03")
    assert item is not None
    assert item.assets["B02"].href == f"{archive.url}/assets/optical/B02.tif"
    assert item.self_href == f"{archive.url}/collections/optical/items/optical-03"
    assert not [link for link in item.links if "elsewhere" in str(link.href)]


def test_a_collection_pages_through_its_own_items(archive: ArchiveServer) -> None:
    url: str | None = f"{archive.url}/collections/optical/items?limit=10"
    found: list[str] = []
    while url:
        page = httpx.get(url).json()
        found += [item["id"] for item in page["features"]]
        url = next((link["href"] for link in page["links"] if link["rel"] == "next"), None)
    assert len(found) == len(set(found)) == SCENES


def test_documents_are_valid_stac(archive: ArchiveServer) -> None:
    landing = httpx.get(archive.url).json()
    assert pystac.Catalog.from_dict(landing).id == "swath"
    collections = httpx.get(f"{archive.url}/collections").json()["collections"]
    assert [pystac.Collection.from_dict(document).id for document in collections] == ["optical", "radar"]
    assert landing["conformsTo"] == httpx.get(f"{archive.url}/conformance").json()["conformsTo"]
    queryables = httpx.get(f"{archive.url}/collections/optical/queryables").json()["properties"]
    assert queryables["eo:cloud_cover"] == {"type": "number"}


@pytest.mark.parametrize(
    "parameters",
    [
        {"filter": "eo:cloud_cover <"},
        {"filter": "{", "filter-lang": "cql2-json"},
        {"bbox": "1,2,3"},
        {"datetime": "yesterday"},
        {"token": "not-mine"},
        {"intersects": "{"},
        {"query": json.dumps({"eo:cloud_cover": {"roughly": 3}})},
        {"filter": "eo:cloud_cover < 5", "filter-crs": "http://www.opengis.net/def/crs/EPSG/0/32632"},
    ],
)
def test_a_search_that_makes_no_sense_is_the_clients_error(
    archive: ArchiveServer, parameters: dict[str, str]
) -> None:
    assert httpx.get(f"{archive.url}/search", params=parameters).status_code == 400


def test_unknown_things_are_not_found(archive: ArchiveServer) -> None:
    for path in ("collections/none", "collections/none/items", "collections/optical/items/none"):
        assert httpx.get(f"{archive.url}/{path}").status_code == 404
