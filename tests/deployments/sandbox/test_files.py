"""The files are Cloud-Optimized GeoTIFFs as the real archives keep them, on the grids of their products."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime

import numpy as np
import pytest
import rasterio

from catalog.grids import Grid
from catalog.labels import label_window, read_label_set
from catalog.products.model import Product
from catalog.products.registry import load_product, load_products
from catalog.quality import CLOUDY, FLAGS, quality_flags
from catalog.recipes import GateLimits
from deployments.sandbox import SandboxInfo
from deployments.sandbox.plan import PRODUCTS
from deployments.sandbox.seasons import CLASSES
from tests.deployments.sandbox.small_archive import all_assets, asset_path, item_of, items_of, read


def test_every_asset_is_a_cloud_optimized_geotiff(archive: SandboxInfo) -> None:
    for _, _, key, path in all_assets(archive):
        with rasterio.open(path) as file:
            structure = file.tags(ns="IMAGE_STRUCTURE")
            assert structure["LAYOUT"] == "COG", path
            assert file.compression.name == "deflate"
            assert file.profile["tiled"]
            assert file.profile["blockxsize"] == file.profile["blockysize"] == 128
            # One overview; 224 bands of a small image have none.
            assert len(file.overviews(1)) == (0 if key == "image" else 1), path


def test_every_file_lies_where_its_item_says(archive: SandboxInfo) -> None:
    products = load_products()
    for product, item, key, path in all_assets(archive):
        fields = {**item["properties"], **item["assets"][key]}
        with rasterio.open(path) as file:
            assert file.crs.to_epsg() == fields["proj:epsg"], path
            assert list(file.shape) == fields["proj:shape"]
            assert list(file.transform)[: len(fields["proj:transform"])] == fields["proj:transform"]
            grid = Grid(file.crs.to_epsg(), tuple(file.transform)[:6], file.shape)
        convention = products[product].grid
        snap = convention.snap_m or 0
        assert (grid.affine[2] - convention.origin_m[0]) % snap == 0
        assert (grid.affine[5] - convention.origin_m[1]) % snap == 0


@pytest.mark.parametrize("product_id", PRODUCTS)
def test_bands_types_and_nodata_are_the_products(archive: SandboxInfo, product_id: str) -> None:
    product = load_product(product_id)
    untagged = 0
    for item in items_of(archive, product_id):
        for band in product.bands:
            key = product.multiband_asset or band.asset or band.name
            with rasterio.open(asset_path(archive, item, key)) as file:
                assert file.count == (len(product.bands) if product.multiband_asset else 1)
                assert set(file.dtypes) == {product.dtype}
                assert file.res == (band.gsd_m, band.gsd_m)
                untagged += file.nodata is None
                assert file.nodata in (product.nodata, None)
            if product.multiband_asset:
                break
    # Some files of the real Sentinel-2 archive lack the nodata tag.
    assert (untagged > 0) == (product_id == "sentinel-2-l2a")


def test_sizes_and_checksums_are_those_of_the_files(archive: SandboxInfo) -> None:
    for item in items_of(archive, "sentinel-1-rtc"):
        for key, asset in item["assets"].items():
            content = asset_path(archive, item, key).read_bytes()
            assert asset["file:size"] == len(content)
            assert asset["file:checksum"] == "1220" + hashlib.sha256(content).hexdigest()


def _gate_numbers(archive: SandboxInfo, product: Product, scene: str) -> tuple[float, float, float]:
    """(nodata fraction, cloud fraction of what is left, sun elevation) as the gate would find them."""
    item = item_of(archive, product.id, scene)
    key = product.multiband_asset or product.bands[0].asset or product.bands[0].name
    pixels = read(archive, item, key)[0]
    nodata = float((pixels == product.nodata).mean())
    cloud = 0.0
    if product.qa is not None:
        if product.qa.kind == "flags":
            raw = {
                meaning: read(archive, item, product.qa.flags[meaning])[0]
                for meaning in ("cloud", "shadow", "cirrus")
            }
            flags, inside = quality_flags(product.qa, raw), read(archive, item, "quality_classes")[0] != 3
        else:
            flags = quality_flags(product.qa, read(archive, item, str(product.qa.asset))[0])
            inside = (flags & FLAGS["nodata"]) == 0
        cloud = float(((flags & CLOUDY) != 0)[inside].mean())
    properties = item["properties"]
    zenith = properties.get("s2:mean_solar_zenith")
    return nodata, cloud, properties.get("view:sun_elevation", 90 if zenith is None else 90 - zenith)


@pytest.mark.parametrize("product_id", PRODUCTS)
def test_the_gate_refuses_exactly_the_scene_made_for_it(archive: SandboxInfo, product_id: str) -> None:
    limits, product = GateLimits(), load_product(product_id)
    refused = []
    for scene in archive.scenes[product_id]:
        nodata, cloud, sun = _gate_numbers(archive, product, scene)
        if (
            nodata > limits.max_nodata_fraction
            or cloud > limits.max_cloud_fraction
            or sun < limits.min_sun_elevation_deg
        ):
            refused.append(scene)
    assert refused == [archive.refused[product_id]]


def test_the_metadata_of_the_overcast_scene_do_not_give_it_away(archive: SandboxInfo) -> None:
    overcast = item_of(archive, "sentinel-2-l2a", archive.refused["sentinel-2-l2a"])
    assert overcast["properties"]["eo:cloud_cover"] < 40
    assert (np.isin(read(archive, overcast, "SCL"), (8, 9))).mean() > 0.99


@pytest.mark.parametrize("product_id", PRODUCTS)
def test_a_reprocessed_scene_is_the_same_observation_a_little_different(
    archive: SandboxInfo, product_id: str
) -> None:
    old, new = (item_of(archive, product_id, scene) for scene in archive.superseded[product_id])
    assert old["id"] != new["id"]
    assert old["properties"]["datetime"] == new["properties"]["datetime"]
    made = "s2:generation_time" if product_id == "sentinel-2-l2a" else "created"
    before, after = (datetime.fromisoformat(item["properties"][made]) for item in (old, new))
    assert after > before
    key = {"sentinel-2-l2a": "B08", "sentinel-1-rtc": "vv", "landsat-oli-sr": "nir08", "enmap-l2a": "image"}
    a, b = (read(archive, item, key[product_id]).astype(float) for item in (old, new))
    assert (a != b).mean() > 0.3
    assert np.median(np.abs(a - b)) < 0.02 * np.median(np.abs(a))


def test_the_labels_are_read_by_the_catalog_and_know_every_class(archive: SandboxInfo) -> None:
    labels = read_label_set(archive.label_set)
    assert labels.classes == CLASSES
    assert "simulated" in labels.caveat
    assert labels.ignore == (0,)
    places, found = set(), set()
    for path in labels.files():
        with rasterio.open(path) as file:
            assert file.nodata == 0
            places.add((file.crs.to_epsg(), *file.bounds))
            found |= set(np.unique(file.read(1)).tolist())
    assert found == set(CLASSES)
    # Pixel for pixel those of the 10 m bands.
    for item in items_of(archive, "sentinel-2-l2a"):
        with rasterio.open(asset_path(archive, item, "B02")) as file:
            assert (file.crs.to_epsg(), *file.bounds) in places
            grid = Grid(file.crs.to_epsg(), tuple(file.transform)[:6], file.shape)
    with rasterio.open(next(name for name in labels.files() if str(grid.epsg) in name)) as file:
        assert np.array_equal(label_window(labels, grid), file.read(1))


def test_the_collections_say_that_nothing_was_observed(archive: SandboxInfo) -> None:
    for product, collection in archive.collections.items():
        document = json.loads((archive.folder / "collections" / f"{collection}.json").read_text())
        assert document["id"] == collection
        assert "SIMULATED" in document["description"]
        west, south, east, north = document["extent"]["spatial"]["bbox"][0]
        for item in items_of(archive, product):
            assert item["collection"] == collection
            assert item["properties"]["swath:simulated"] is True
            assert west <= item["bbox"][0] < item["bbox"][2] <= east
            assert south <= item["bbox"][1] < item["bbox"][3] <= north
