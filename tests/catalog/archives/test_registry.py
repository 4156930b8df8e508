"""Archives are found by name or address, and say what they call a product."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalog.archives import Archive, archive_names, load_archive, load_archives
from catalog.errors import UsageError
from catalog.products import load_product, load_products
from tests.conftest import REPOSITORY


def test_the_archives_that_are_described() -> None:
    assert archive_names() == [
        "cdse", "dlr-eoc", "earth-search", "planetary-computer", "sandbox", "sandbox-all",
        "usgs-landsatlook",
    ]  # fmt: skip


def test_every_collection_belongs_to_a_product_that_exists() -> None:
    products = set(load_products())
    for archive in load_archives().values():
        assert set(archive.collections) <= products


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"cdse, dlr-eoc, earth-search") as error:
        load_archive("planetary")
    assert error.value.exit_code == 2


def test_the_sandbox_learns_its_address_when_it_is_served() -> None:
    assert load_archive("sandbox").url == ""
    served = load_archive("sandbox", url="http://127.0.0.1:8651/")
    assert served.url == "http://127.0.0.1:8651" and served.may_hold("127.0.0.1")
    elsewhere = load_archive("sandbox", url="http://sandbox:8080")
    assert elsewhere.may_hold("sandbox") and not elsewhere.may_hold("example.org")


def test_an_address_of_a_known_archive_is_that_archive() -> None:
    assert load_archive("https://planetarycomputer.microsoft.com/api/stac/v1/").name == "planetary-computer"


def test_of_an_unknown_address_nothing_is_assumed() -> None:
    archive = load_archive("https://stac.example.org/api")
    assert archive.filter == "client" and archive.access == "anonymous" and not archive.closed
    assert archive.name == "stac.example.org-api"
    assert archive.collection(load_product("enmap-l2a")) == "enmap-l2a"


@pytest.mark.parametrize("address", ["file:///etc", "ftp://example.org", "http://"])
def test_an_address_is_http(address: str) -> None:
    with pytest.raises(UsageError, match="http"):
        load_archive(address)


def test_landsats_sensors_share_a_collection() -> None:
    archive = load_archive("planetary-computer")
    names = {archive.collection(load_product(f"landsat-{s}-sr")) for s in ("tm", "etm", "oli")}
    assert names == {"landsat-c2-l2"}


def test_the_planetary_computer_has_no_landsat_top_of_atmosphere() -> None:
    with pytest.raises(UsageError, match="has no landsat-oli-toa") as error:
        load_archive("planetary-computer").collection(load_product("landsat-oli-toa"))
    assert error.value.code == "product-not-in-archive"


def test_a_product_file_may_name_its_collection() -> None:
    product = load_product("sentinel-2-l2a").model_copy(
        update={"collections": {"earth-search": "sentinel-2-l2a"}}
    )
    assert load_archive("earth-search").collection(product) == "sentinel-2-l2a"
    assert load_archive("earth-search").collection(load_product("sentinel-2-l2a")) == "sentinel-2-c1-l2a"


def test_users_describe_archives_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWATH_HOME", str(tmp_path))
    (tmp_path / "archives").mkdir()
    path = tmp_path / "archives" / "ours.yaml"
    path.write_text("name: ours\nurl: https://stac.example.org\nfilter: cql2-text\n", encoding="utf-8")
    assert load_archive("ours").filter == "cql2-text"
    path.write_text("name: ours\nfilters: cql2-text\n", encoding="utf-8")
    with pytest.raises(UsageError, match="filters"):
        load_archive("ours")


def test_every_key_of_an_archive_file_is_on_the_page() -> None:
    page = (REPOSITORY / "docs" / "archives.md").read_text(encoding="utf-8")
    assert [name for name in Archive.model_fields if f"`{name}`" not in page] == []


def test_hosts_are_compared_whole() -> None:
    archive = load_archive("planetary-computer")
    assert archive.may_hold("sentinel2l2a01.blob.core.windows.net")
    assert not archive.may_hold("blob.core.windows.net.example.org")
