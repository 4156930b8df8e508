"""The archive descriptions in deployments/archives, over the real scenes they describe."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import rasterio
import yaml
from rasterio.errors import NotGeoreferencedWarning

from catalog.archives.registry import read_archive
from catalog.grids import Grid
from catalog.labels import label_window, read_label_set
from catalog.normalise import normalise_item
from catalog.products.model import Product
from catalog.products.registry import load_products
from catalog.radiometry import calibrate
from catalog.scenes import Scene
from deployments.stac_server import prepare_folder, serve_archive

pytestmark = pytest.mark.realdata
ARCHIVES = Path(__file__).resolve().parents[3] / "deployments" / "archives"
ROOTS = {
    "oscd": "change-detection/ChenHongruixuan__ChangeDetectionRepository",
    "enmap-potsdam": "enmap/EnMAP-Box__enmap-box",
    "worldcereal": "s1-s2-l8-timeseries/WorldCereal__worldcereal-classification",
    "landsat": "landsat",
}
LANDSAT = {
    "landsat-oli-sr-browse": 4,
    "landsat-oli-toa-l1t": 1,
    "landsat-tm-toa-l1t": 1,
    "landsat-etm-sr-ledaps": 1,
}
WORLDCEREAL = {
    "sentinel-2-l2a-worldcereal": 118 + 72,
    "sentinel-2-l2a-worldcereal-20m": 118 + 72 + 146 + 136,
    "sentinel-1-grd-worldcereal": 159 + 80 + 157 + 60,
    "landsat-8-sr-c1-worldcereal": 26 + 23,
    "landsat-8-st-c2-worldcereal": 55 + 61 + 30,
}
Prepare = Callable[..., Path]


@pytest.fixture(scope="module")
def prepare(realdata: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepare:
    """Prepares a described archive, or some of its products, once."""
    done: dict[tuple[str, ...], Path] = {}

    def ready(name: str, *products: str) -> Path:
        if (name, *products) not in done:
            description = ARCHIVES / name / "archive.yaml"
            if products:
                copy = tmp_path_factory.mktemp("description") / name
                shutil.copytree(description.parent, copy)
                description = copy / "archive.yaml"
                document = yaml.safe_load(description.read_text(encoding="utf-8"))
                document["scenes"] = [rule for rule in document["scenes"] if rule["product"] in products]
                description.write_text(yaml.safe_dump(document), encoding="utf-8")
            into = tmp_path_factory.mktemp("prepared") / name
            done[(name, *products)] = prepare_folder(realdata / ROOTS[name], description, into)
        return done[(name, *products)]

    return ready


@cache
def scenes_of(prepared: Path) -> tuple[list[Scene], dict[str, Product]]:
    """Everything a server over the folder offers, normalised; a refusal fails the test."""
    products = load_products(prepared / "products")
    with serve_archive(prepared) as server:
        archive = read_archive(prepared / "archive.yaml").model_copy(update={"url": server.url})
        items = httpx.get(f"{server.url}/search", params={"limit": 10000}, timeout=60).json()["features"]
    return [normalise_item(item, archive, products[item["collection"]]) for item in items], products


def file_of(prepared: Path, item: dict[str, Any], key: str) -> Path:
    """The local file behind an asset."""
    name = item["assets"][key]["href"].removeprefix("/assets/")
    listed = json.loads((prepared / "asset-files.json").read_text(encoding="utf-8"))
    return Path(listed[name]) if name in listed else prepared / "assets" / name


def items_of(prepared: Path, product: str) -> dict[str, dict[str, Any]]:
    lines = (prepared / "items" / f"{product}.ndjson").read_text(encoding="utf-8").splitlines()
    return {item["id"]: item for item in map(json.loads, lines)}


@pytest.mark.parametrize(
    ("name", "products", "counts"),
    [
        ("oscd", (), {"sentinel-2-l1c-oscd": 12}),
        ("enmap-potsdam", (), {"enmap-l2a-2022": 18}),
        ("landsat", (), LANDSAT),
        ("worldcereal", ("landsat-8-sr-c1-worldcereal",), {"landsat-8-sr-c1-worldcereal": 49}),
        pytest.param("worldcereal", (), WORLDCEREAL, marks=pytest.mark.long),
    ],
)
def test_every_scene_is_normalised_and_told_apart(
    prepare: Prepare, name: str, products: tuple[str, ...], counts: dict[str, int]
) -> None:
    scenes, known = scenes_of(prepare(name, *products))
    assert Counter(scene.product for scene in scenes) == counts
    assert len({scene.key for scene in scenes}) == len(scenes)
    assert {scene.repairs for scene in scenes} == {()}
    for scene in scenes:
        calibration = calibrate(known[scene.product], scene)
        assert np.isfinite(calibration.scale).all()


def test_oscd_cities_keep_their_dates_and_their_change_lies_on_them(prepare: Prepare) -> None:
    prepared = prepare("oscd")
    items = items_of(prepared, "sentinel-2-l1c-oscd")
    assert items["aguasclaras-1"]["properties"]["datetime"] == "2015-09-16T00:00:00Z"
    assert items["paris-2"]["properties"]["datetime"] == "2017-11-07T10:52:29Z"
    assert not list((prepared / "assets").rglob("*.tif"))
    labels = read_label_set("oscd-change", base=prepared)
    for city in ("paris", "rennes"):
        before, after = (file_of(prepared, items[f"{city}-{date}"], "B04") for date in (1, 2))
        with rasterio.open(before) as one, rasterio.open(after) as two:
            assert (one.transform, one.shape) == (two.transform, two.shape)
            grid = Grid(4326, tuple(one.transform)[:6], one.shape)
            difference = np.abs(one.read(1).astype(float) - two.read(1))
        classes = label_window(labels, grid)
        assert set(np.unique(classes)) == {1, 2}
        assert difference[classes == 2].mean() > 1.5 * difference[classes == 1].mean()


def test_enmap_tiles_are_int16_in_the_order_of_their_wavelengths(realdata: Path, prepare: Prepare) -> None:
    prepared = prepare("enmap-potsdam")
    product = load_products(prepared / "products")["enmap-l2a-2022"]
    known = json.loads((realdata / "stac-items/dlr/enmap_l2a_bands_potsdam_20220724.json").read_text())
    centres = [band["center_nm"] for band in known]
    assert [band.center_nm for band in product.bands] == centres == sorted(centres)
    items = items_of(prepared, product.id)
    assert all(item["properties"]["swath:derived"] for item in items.values())
    item = next(item for name, item in items.items() if name.endswith("_128_32"))
    stated = [band["center_wavelength"] * 1000 for band in item["assets"]["image"]["eo:bands"]]
    np.testing.assert_allclose(stated, centres, atol=0.01)
    source = realdata / ROOTS["enmap-potsdam"] / "images" / "enmap_potsdam_tile_128_32.tif"
    with rasterio.open(source) as raw, rasterio.open(file_of(prepared, item, "image")) as opened:
        assert (opened.dtypes[0], opened.nodata, opened.transform) == ("int16", -32768, raw.transform)
        for index in (1, 80, 92, 101, 224):
            wavelength = float(opened.tags(index)["wavelength"])
            origin = [float(raw.tags(number)["wavelength"]) for number in raw.indexes].index(wavelength) + 1
            np.testing.assert_array_equal(opened.read(index), raw.read(origin))


def test_enmap_labels_fall_on_ground_that_looks_like_their_class(prepare: Prepare) -> None:
    prepared = prepare("enmap-potsdam")
    labels = read_label_set("enmap-potsdam-landcover", base=prepared)
    near_infrared: dict[int, list[float]] = {}
    total: Counter[int] = Counter()
    for item in items_of(prepared, "enmap-l2a-2022").values():
        with rasterio.open(file_of(prepared, item, "image")) as opened:
            grid = Grid(32633, tuple(opened.transform)[:6], opened.shape)
            values = opened.read(72)
        classes = label_window(labels, grid)
        total.update(classes[classes > 0].tolist())
        for value in np.unique(classes[classes > 0]):
            near_infrared.setdefault(int(value), []).extend(values[classes == value].tolist())
    assert total == {1: 505, 2: 953, 3: 1694, 4: 2070, 5: 91, 6: 359}
    mean = {value: float(np.mean(found)) for value, found in near_infrared.items()}
    assert mean[6] < 1000 < 2500 < mean[4]  # water is dark there, trees are bright; reflectance x 10000


def test_series_lie_north_up_where_their_labels_do(realdata: Path, prepare: Prepare) -> None:
    prepared = prepare("worldcereal", "landsat-8-sr-c1-worldcereal")
    items = items_of(prepared, "landsat-8-sr-c1-worldcereal")
    site = "00002806639B424A"
    item = items[f"L8-SR_{site}_20170815T104028"]
    assert item["properties"]["datetime"] == "2017-08-15T10:40:28Z"
    with rasterio.open(file_of(prepared, item, "B05")) as opened:
        assert opened.bounds == (501360, 5629040, 502000, 5629680)
        assert (opened.crs.to_epsg(), opened.dtypes[0], opened.nodata) == (32631, "int16", -999)
        stored = opened.read(1)
    folder = realdata / ROOTS["worldcereal"] / "training_patches" / site
    (series,) = folder.glob("L8_SR_10m_*.nc")
    with pytest.warns(NotGeoreferencedWarning), rasterio.open(f'HDF5:"{series}"://y') as opened:
        assert opened.read(1)[0, 0] == 5629675  # the first row is the northern one
    with pytest.warns(NotGeoreferencedWarning), rasterio.open(f'HDF5:"{series}"://B05') as opened:
        np.testing.assert_array_equal(stored, opened.read(1))
    for name, values in (
        ("worldcereal-landcover", {11, 13, 60, 99}),
        ("worldcereal-croptype", {-1, 1200, 9120}),
    ):
        window = label_window(
            read_label_set(name, base=prepared), Grid(32631, (10, 0, 501360, 0, -10, 5629680), (64, 64))
        )
        assert values <= set(np.unique(window))


def test_landsat_scenes_have_plausible_reflectance(prepare: Prepare) -> None:
    prepared = prepare("landsat")
    scenes, products = scenes_of(prepared)
    for scene in scenes:
        product = products[scene.product]
        calibration = calibrate(product, scene)
        index = next(i for i, band in enumerate(product.bands) if band.common_name == "red")
        item = items_of(prepared, scene.product)[scene.id]
        with rasterio.open(file_of(prepared, item, "red")) as opened:
            raw = opened.read(1).astype(float)
        valid = raw[raw != product.nodata] * calibration.scale[index] + calibration.offset[index]
        assert 0.01 < np.median(valid) < 1.1, scene.id
    by_product = {scene.product: scene for scene in scenes}
    assert by_product["landsat-tm-toa-l1t"].origin == "derived"
    assert by_product["landsat-oli-toa-l1t"].sun_elevation_deg == pytest.approx(64.74360932)
