"""Folders of GeoTIFFs become archives."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import rasterio
import yaml

from catalog.archives.registry import read_archive
from catalog.errors import UsageError
from catalog.normalise import normalise_item
from catalog.products.registry import load_product
from deployments.stac_server import prepare_folder, serve_archive
from deployments.stac_server.conversions import exact_cast, find_conversion
from tests.deployments.stac_server.conftest import write_raster

PRODUCT = {
    "id": "two-bands",
    "title": "Two bands",
    "sensor": "test",
    "level": "L2",
    "dtype": "uint16",
    "nodata": 0,
    "radiometry": {"rule": "linear", "scale": 1e-4},
    "grid": {"crs": "utm", "snap_m": 10},
    "bands": [
        {"name": name, "gsd_m": 10, "quantity": "reflectance", "center_nm": centre, "fwhm_nm": 30}
        for name, centre in (("red", 665), ("nir", 842))
    ],
}
RULE: dict[str, Any] = {
    "product": "two-bands",
    "files": r"(?P<place>\w+)/(?P<time>\d{8}T\d{6})_(?P<band>\w+)\.tif",
    "scene": "{place}_{time}",
    "tile": "{place}",
    "platform": "sentinel-2a",
    "datetime": "{time}",
    "assets": {"B4": "red", "B8": "nir"},
}
Edit = Callable[[dict[str, Any]], None]


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Two places, two dates, two bands."""
    folder = tmp_path / "scenes"
    random = np.random.default_rng(5)
    for place in ("hill", "lake"):
        for day in ("20240105T101010", "20240203T101010"):
            for band in ("B4", "B8"):
                values = random.integers(1, 9000, (1, 40, 30)).astype("uint16")
                write_raster(folder / place / f"{day}_{band}.tif", values, nodata=None)
    return folder


def describe(folder: Path, edit: Edit = lambda document: None) -> Path:
    """An archive file with one rule and its product, edited."""
    document = {
        "name": "tiny",
        "title": "Tiny",
        "licence": "CC0-1.0",
        "attribution": "nobody",
        "products": "products",
        "scenes": [dict(RULE)],
    }
    edit(document)
    (folder / "products").mkdir(parents=True, exist_ok=True)
    (folder / "products" / "two-bands.yaml").write_text(yaml.safe_dump(PRODUCT), encoding="utf-8")
    path = folder / "archive.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def items_of(folder: Path, product: str = "two-bands") -> list[dict[str, Any]]:
    lines = (folder / "items" / f"{product}.ndjson").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def rule_edit(**changes: Any) -> Edit:
    return lambda document: document["scenes"][0].update(changes)


def test_files_become_scenes_and_are_served_from_where_they_lie(scenes: Path, tmp_path: Path) -> None:
    told: list[str] = []
    prepared = prepare_folder(scenes, describe(tmp_path), tmp_path / "ready", told.append)
    assert "two-bands: 4 scenes" in told
    assert [item["id"] for item in items_of(prepared)] == [
        "hill_20240105T101010",
        "lake_20240105T101010",
        "hill_20240203T101010",
        "lake_20240203T101010",
    ]
    assert list((prepared / "assets").rglob("*.tif")) == []
    source = scenes / "lake" / "20240203T101010_B8.tif"
    with serve_archive(prepared) as server:
        item = httpx.get(f"{server.url}/collections/two-bands/items/lake_20240203T101010").json()
        assert httpx.get(item["assets"]["nir"]["href"]).content == source.read_bytes()
        assert httpx.get(f"{server.url}/assets/scenes/../archive.yaml").status_code == 404


def test_items_normalise_without_a_repair(scenes: Path, tmp_path: Path) -> None:
    prepared = prepare_folder(scenes, describe(tmp_path), tmp_path / "ready")
    product = load_product("two-bands", prepared / "products")
    with serve_archive(prepared) as server:
        archive = read_archive(prepared / "archive.yaml").model_copy(update={"url": server.url})
        item = httpx.get(f"{server.url}/search").json()["features"][0]
    scene = normalise_item(item, archive, product)
    assert (scene.tile, scene.platform, scene.epsg, scene.origin) == (
        "hill",
        "sentinel-2a",
        32631,
        "observed",
    )
    assert scene.repairs == ()
    grid = scene.assets["red"].grid
    assert grid is not None
    assert (grid.shape, grid.affine) == ((40, 30), (10, 0, 500000, 0, -10, 5600000))
    assert archive.product_folder == prepared / "products"


def test_overrides_say_what_names_do_not(scenes: Path, tmp_path: Path) -> None:
    overrides = {
        "lake_*": {"cloud_cover": 40, "properties": {"view:sun_elevation": 20.5}},
        "lake/20240203T101010_B4.tif": {"datetime": "2024-02-04T09:00:00+01:00", "platform": "sentinel-2b"},
    }
    prepared = prepare_folder(scenes, describe(tmp_path, rule_edit(overrides=overrides)), tmp_path / "ready")
    found = {item["id"]: item["properties"] for item in items_of(prepared)}
    assert found["lake_20240203T101010"]["datetime"] == "2024-02-04T08:00:00Z"
    assert found["lake_20240203T101010"]["platform"] == "sentinel-2b"
    assert found["lake_20240105T101010"]["eo:cloud_cover"] == 40
    assert "eo:cloud_cover" not in found["hill_20240105T101010"]


def test_the_second_time_does_nothing_until_a_file_changes(scenes: Path, tmp_path: Path) -> None:
    description, ready = describe(tmp_path), tmp_path / "ready"
    listing = prepare_folder(scenes, description, ready) / "items" / "two-bands.ndjson"
    before = listing.stat().st_mtime_ns
    told: list[str] = []
    prepare_folder(scenes, description, ready, told.append)
    assert (listing.stat().st_mtime_ns, told) == (before, [])
    values = np.ones((1, 40, 30), "uint16")
    for band in ("B4", "B8"):
        write_raster(scenes / "moor" / f"20240301T101010_{band}.tif", values)
    prepare_folder(scenes, description, ready, told.append)
    assert told == ["two-bands: 5 scenes"]


@pytest.mark.parametrize(
    ("edit", "code", "named"),
    [
        (lambda document: document.update(sceens=[]), "invalid-archive-file", "sceens: unknown key"),
        (rule_edit(colour="red"), "invalid-archive-file", "scenes.0.colour: unknown key"),
        (rule_edit(files="(unclosed"), "invalid-archive-file", "scenes.0.files"),
        (rule_edit(options={"nodata": 1}), "invalid-archive-file", "scenes.0"),
        (rule_edit(tile="{town}"), "invalid-archive-file", "scenes.0.tile"),
        (rule_edit(scene="{place}"), "invalid-archive-file", "scenes.0.scene"),
        (rule_edit(datetime=None), "invalid-archive-file", "scenes.0.datetime"),
        (rule_edit(datetime="{band}"), "invalid-archive-file", "scenes.0.datetime"),
        (rule_edit(mtl="{place}_MTL.txt"), "mtl-not-found", "hill_MTL.txt"),
        (rule_edit(files="none"), "no-scenes-found", "scenes.0.files"),
        (rule_edit(convert="magic"), "unknown-conversion", "'magic'"),
        (rule_edit(convert="unpack-zip", options={"member": "x"}), "invalid-archive-file", "options.member"),
        (rule_edit(product="no-such"), "unknown-product", "no-such"),
        (lambda document: document.update(products="none"), "invalid-archive-file", "products"),
        (lambda document: document["scenes"].append(dict(RULE)), "invalid-archive-file", "two rules"),
    ],
)
def test_a_mistake_is_named_and_leaves_nothing_behind(
    scenes: Path, tmp_path: Path, edit: Edit, code: str, named: str
) -> None:
    with pytest.raises(UsageError) as caught:
        prepare_folder(scenes, describe(tmp_path, edit), tmp_path / "ready")
    assert caught.value.code == code
    assert named in str(caught.value)
    left = {path.name for path in tmp_path.iterdir()} - {".ready.lock"}
    assert left == {"archive.yaml", "products", "scenes"}


def test_files_that_cannot_be_served_as_they_are_name_a_way_out(scenes: Path, tmp_path: Path) -> None:
    bad = scenes / "hill" / "20240105T101010_B4.tif"
    values = np.ones((2, 40, 30), "float32")
    write_raster(bad, values, epsg=None)
    with pytest.raises(UsageError) as caught:
        prepare_folder(scenes, describe(tmp_path), tmp_path / "ready")
    assert caught.value.code == "cannot-serve-as-is"
    assert caught.value.subject == str(bad)
    for reason in ("no CRS", "2 bands", "float32"):
        assert reason in caught.value.message


def test_a_folder_of_other_things_is_never_replaced(scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(UsageError) as caught:
        prepare_folder(scenes, describe(tmp_path), tmp_path / "mine")
    assert caught.value.code == "folder-in-use"
    assert (tmp_path / "mine" / "thesis.txt").is_file()


def test_a_failed_preparation_leaves_the_former_one_in_place(scenes: Path, tmp_path: Path) -> None:
    ready = prepare_folder(scenes, describe(tmp_path), tmp_path / "ready")
    (scenes / "hill" / "20240105T101010_B4.tif").write_bytes(b"no raster")
    with pytest.raises(UsageError):
        prepare_folder(scenes, describe(tmp_path), ready)
    assert len(items_of(ready)) == 4


def test_two_at_once_prepare_it_once(scenes: Path, tmp_path: Path) -> None:
    description, told = describe(tmp_path), list[str]()
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(prepare_folder, scenes, description, tmp_path / "r", told.append) for _ in "ab"]
    assert {job.result() for job in both} == {tmp_path / "r"}
    assert told == ["two-bands: 4 scenes"]


def test_float_tiles_become_int16_and_say_so(tmp_path: Path) -> None:
    scenes = tmp_path / "scenes"
    values = np.random.default_rng(2).integers(-50, 9000, (2, 20, 20)).astype("float32")
    values[:, 0, 0] = np.nan
    write_raster(scenes / "tile_20240105.tif", values, nodata=np.nan)
    with rasterio.open(scenes / "tile_20240105.tif", "r+") as opened:
        opened.update_tags(1, wavelength="900", fwhm="10")
        opened.update_tags(2, wavelength="700", fwhm="7")
    description = describe(
        tmp_path,
        rule_edit(
            files=r"tile_(?P<day>\d{8})\.tif",
            scene="{day}",
            tile="here",
            datetime="{day}",
            datetime_format="%Y%m%d",
            band="image",
            wavelengths=True,
            convert="float-tiles-to-int16",
            options={"ascending": True},
        ),
    )
    product = {**PRODUCT, "dtype": "int16", "nodata": -32768, "multiband_asset": "image"}
    (tmp_path / "products" / "two-bands.yaml").write_text(yaml.safe_dump(product), encoding="utf-8")
    prepared = prepare_folder(scenes, description, tmp_path / "ready")
    (item,) = items_of(prepared)
    assert item["properties"]["swath:derived"] is True
    assert "float32 to int16" in item["properties"]["swath:lineage"]
    centres = [band["center_wavelength"] for band in item["assets"]["image"]["eo:bands"]]
    assert centres == [0.7, 0.9]
    with rasterio.open(prepared / item["assets"]["image"]["href"].lstrip("/")) as opened:
        stored = opened.read()
    assert stored.dtype == np.int16
    assert (stored[:, 0, 0] == -32768).all()
    np.testing.assert_array_equal(stored[:, 1:], values[::-1, 1:])


def test_a_cast_that_would_change_a_value_is_refused(tmp_path: Path) -> None:
    for values in (np.array([1.5]), np.array([40000.0]), np.array([np.inf])):
        with pytest.raises(UsageError, match="exactly"):
            exact_cast(values, "int16", tmp_path)
    assert exact_cast(np.array([-3.0, 7.0]), "int16", tmp_path).tolist() == [-3, 7]


def test_jpeg_2000_bands_are_decoded_unchanged(tmp_path: Path) -> None:
    values = np.random.default_rng(4).integers(0, 12000, (1, 64, 64)).astype("uint16")
    source = tmp_path / "granule" / "B02.jp2"
    source.parent.mkdir()
    with rasterio.open(
        source,
        "w",
        driver="JP2OpenJPEG",
        dtype="uint16",
        count=1,
        height=64,
        width=64,
        crs="EPSG:32631",
        transform=rasterio.Affine(60, 0, 300000, 0, -60, 5700000),
        QUALITY="100",
        REVERSIBLE="YES",
    ) as opened:
        opened.write(values)
    (made,) = find_conversion("jp2-to-geotiff")(source, {}, tmp_path / "out")
    with rasterio.open(made.path) as opened:
        assert (opened.driver, opened.crs.to_epsg()) == ("GTiff", 32631)
        np.testing.assert_array_equal(opened.read(), values)


def test_members_of_a_zip_file_are_unpacked_byte_for_byte(scenes: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed.zip"
    source = scenes / "hill" / "20240105T101010_B4.tif"
    with zipfile.ZipFile(packed, "w") as sink:
        sink.write(source, "deep/B4.tif")
        sink.writestr("../escape_B8.tif", b"x")
        sink.writestr("README", "x")
    found = list(
        find_conversion("unpack-zip")(packed, {"members": r".*?(?P<band>B\d)\.tif"}, tmp_path / "out")
    )
    assert [made.groups for made in found] == [{"band": "B8"}, {"band": "B4"}]
    assert found[1].path.read_bytes() == source.read_bytes()
    assert all(made.path.is_relative_to(tmp_path / "out" / "packed") for made in found)


def test_labels_without_a_crs_take_the_grid_of_their_image(scenes: Path, tmp_path: Path) -> None:
    classes = np.random.default_rng(6).integers(1, 3, (1, 40, 30)).astype("float32")
    write_raster(scenes / "labels" / "hill.tif", classes, epsg=None, nodata=None)
    (tmp_path / "change.yaml").write_text(
        yaml.safe_dump({"name": "change", "kind": "raster", "classes": {1: "no", 2: "yes"}}), encoding="utf-8"
    )
    rule = {
        "label_set": "change.yaml",
        "files": r"labels/(?P<place>\w+)\.tif",
        "name": "{place}",
        "like": "{place}/20240105*_B4.tif",
    }
    description = describe(tmp_path, lambda document: document.update(labels=[rule]))
    prepared = prepare_folder(scenes, description, tmp_path / "ready")
    written = yaml.safe_load((prepared / "labels" / "change.yaml").read_text(encoding="utf-8"))
    assert written["paths"] == ["change/hill.tif"]
    with rasterio.open(prepared / "labels" / "change" / "hill.tif") as opened:
        assert (opened.crs.to_epsg(), opened.transform.c, opened.dtypes[0]) == (32631, 500000, "uint8")
        np.testing.assert_array_equal(opened.read(), classes)

    rule.pop("like")
    with pytest.raises(UsageError) as caught:
        prepare_folder(scenes, describe(tmp_path, lambda d: d.update(labels=[rule])), tmp_path / "other")
    assert caught.value.code == "labels-without-crs"
