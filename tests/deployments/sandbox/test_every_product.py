"""The sandbox of every product: who shares a collection or a measurement, and what the four keep."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from catalog.archives import load_archive
from catalog.errors import UsageError
from catalog.normalise import normalise_item, read_mtl
from catalog.products import load_product
from deployments.sandbox import SandboxInfo, make_sandbox
from deployments.sandbox.items import scene_id
from deployments.sandbox.observation import Observation, at
from deployments.sandbox.plan import ALL_PRODUCTS, PRODUCTS, plan_scenes
from deployments.sandbox.plan_landsat import SLC_OFF
from deployments.sandbox.sensors.enmap import enmap_bands
from deployments.sandbox.sensors.landsat_instruments import INSTRUMENTS
from deployments.sandbox.sensors.scan_lines import missing_lines
from deployments.sandbox.spectra import VEILS, WAVELENGTHS_NM, full_spectra
from deployments.sandbox.top_of_atmosphere import rayleigh_depth, toa_reflectance

TINY: dict[str, Any] = {"size_m": 960, "dates": 1}
GRIDDED = tuple(product for product in ALL_PRODUCTS if product != "sentinel-1-grd")
TOA = tuple(product for product in ALL_PRODUCTS if product.endswith("-toa"))


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> SandboxInfo:
    return make_sandbox(tmp_path_factory.mktemp("every") / "archive", products=GRIDDED, **TINY)


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> SandboxInfo:
    return make_sandbox(tmp_path_factory.mktemp("four") / "archive", **TINY)


def items_of(info: SandboxInfo, product: str) -> list[dict[str, Any]]:
    path = info.folder / "items" / f"{info.collections[product]}.ndjson"
    items = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [item for item in items if item["id"] in info.scenes[product]]


def asset_path(info: SandboxInfo, item: dict[str, Any], key: str) -> Path:
    return info.folder / str(item["assets"][key]["href"]).lstrip("/")


def test_there_are_eleven_products() -> None:
    assert len(ALL_PRODUCTS) == 11 and set(PRODUCTS) < set(ALL_PRODUCTS)
    assert {load_product(name).id for name in ALL_PRODUCTS} == set(ALL_PRODUCTS)
    with pytest.raises(UsageError) as refusal:
        make_sandbox(Path("nowhere"), products=["sentinel-2-l2a", "sentinel-3-olci"])
    assert refusal.value.code == "unknown-product" and "sentinel-3-olci" in refusal.value.message


def test_further_products_change_no_pixel_of_the_four(everything: SandboxInfo, four: SandboxInfo) -> None:
    def digests(info: SandboxInfo) -> dict[str, str]:
        return {
            path.relative_to(info.folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for part in ("assets", "labels")
            for path in sorted((info.folder / part).rglob("*"))
            if path.is_file()
        }

    alone, together = digests(four), digests(everything)
    assert alone.items() <= together.items()
    for product in PRODUCTS:
        known = {item["id"]: item for item in items_of(everything, product)}
        assert all(known[item["id"]] == item for item in items_of(four, product))


@given(dates=st.integers(1, 12), products=st.sets(st.sampled_from(ALL_PRODUCTS), min_size=1))
def test_every_choice_has_all_roles_and_no_id_twice(dates: int, products: set[str]) -> None:
    scenes = plan_scenes(dates, sorted(products))
    ids = [(seen.product, scene_id(seen)) for seen in scenes]
    assert len(set(ids)) == len(ids)
    roles = Counter((seen.product, seen.role) for seen in scenes)
    for product in products:
        for role in ("superseded", "reprocessed", "refused"):
            assert roles[product, role] == 1
        assert roles[product, "ordinary"] >= 1


def test_landsats_instruments_share_their_collections(everything: SandboxInfo) -> None:
    archive = load_archive("sandbox", url="http://127.0.0.1:1")
    for level, collection in (("sr", "landsat-c2-l2"), ("toa", "landsat-c2l1")):
        products = [f"landsat-{sensor}-{level}" for sensor in ("tm", "etm", "oli")]
        assert {everything.collections[product] for product in products} == {collection}
        path = everything.folder / "items" / f"{collection}.ndjson"
        items = [json.loads(line) for line in path.read_text().splitlines()]
        for item in items:
            for asset in item["assets"].values():
                asset["href"] = archive.url + asset["href"]
        for name in products:
            product, taken = load_product(name), set()
            for item in items:
                try:
                    taken.add(normalise_item(item, archive, product).id)
                except Exception as error:
                    assert getattr(error, "code", "") == "other-product"
            assert taken == set(everything.scenes[name])


@pytest.mark.parametrize("name", GRIDDED)
def test_files_have_the_types_and_grids_of_their_product(everything: SandboxInfo, name: str) -> None:
    product = load_product(name)
    for item in items_of(everything, name):
        for band in product.bands:
            keys = [k for k in (product.multiband_asset, band.asset, band.name, *band.aliases) if k]
            path = asset_path(everything, item, next(key for key in keys if key in item["assets"]))
            with rasterio.open(path) as file:
                assert set(file.dtypes) == {product.dtype} and file.res == (band.gsd_m, band.gsd_m)
                assert file.nodata in (product.nodata, None)
                assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
                edge = 7.5 if band.gsd_m == 15 else product.grid.origin_m[0]
                assert (file.transform.c - edge) % band.gsd_m == 0
            if product.multiband_asset:
                break


@pytest.mark.parametrize("name", TOA)
def test_the_mtl_states_the_instruments_coefficients_in_both_forms(
    everything: SandboxInfo, name: str
) -> None:
    for item in items_of(everything, name):
        forms = [key for key in ("MTL.json", "MTL.txt") if key in item["assets"]]
        assert forms == (["MTL.txt"] if name == "landsat-tm-toa" else ["MTL.json", "MTL.txt"])
        facts = [read_mtl(asset_path(everything, item, key).read_text()) for key in forms]
        assert all(fact == facts[0] for fact in facts)
        assert facts[0]["sun_elevation_deg"] == pytest.approx(item["properties"]["view:sun_elevation"])
        instrument = INSTRUMENTS[item["properties"]["platform"].lower().replace("_", "-")]
        assert set(facts[0]["bands"]) == {band.band for band in instrument.level_1.values()}
        assert not any("raster:bands" in asset for asset in item["assets"].values())


def test_level_1c_was_measured_with_level_2a(everything: SandboxInfo) -> None:
    level_2a = {
        (item["properties"]["datetime"], item["properties"]["s2:mgrs_tile"])
        for item in items_of(everything, "sentinel-2-l2a")
    }
    alone, offsets = [], set()
    for item in items_of(everything, "sentinel-2-l1c"):
        properties = item["properties"]
        if (properties["datetime"], properties["grid:code"].removeprefix("MGRS-")) not in level_2a:
            alone.append(item["id"])
        stated = {asset["raster:bands"][0]["offset"] for asset in item["assets"].values()}
        expected = -0.1 if properties["s2:processing_baseline"] >= "04.00" else 0.0
        assert stated == {expected}
        offsets |= stated
        with rasterio.open(asset_path(everything, item, "cirrus")) as file:
            darkest = np.percentile(file.read(1), 1)
        # Nothing of the ground is seen in B10: its darkest number tells the offset.
        assert 0 < darkest - 1000 * (expected < 0) < 45
    assert alone == ["S2B_33UTP_20220710_0_L1C"] and offsets == {0.0, -0.1}


@given(rows=st.integers(33, 300), cols=st.integers(33, 300), place=st.integers(0, 8))
def test_scan_lines_are_missing_since_the_failure_and_only_then(rows: int, cols: int, place: int) -> None:
    from catalog.grids import north_up

    grid = north_up(32632, 500_000.0, 5_000_000.0, 30.0, (rows, cols))
    seen = Observation("landsat-etm-sr", 0, at("2005-07-30", "09:58:47"), "landsat-7")
    before = Observation("landsat-etm-sr", 0, at("2003-05-30", "09:58:47"), "landsat-7")
    other = Observation("landsat-tm-sr", 0, at("2005-07-30", "09:58:47"), "landsat-5")
    gaps = missing_lines(seen, grid, place)
    assert before.when < SLC_OFF < seen.when
    assert 0.05 < gaps.mean() < 0.35
    # Wider towards the edge that lies further from the middle of the swath.
    assert gaps[:, -cols // 4 :].mean() > gaps[:, : cols // 4].mean()
    assert not missing_lines(before, grid, place).any() and not missing_lines(other, grid, place).any()


def test_enmap_has_both_wavelength_grids_where_it_is_asked_for(
    everything: SandboxInfo, four: SandboxInfo
) -> None:
    def grids(info: SandboxInfo) -> set[tuple[float, ...]]:
        return {
            tuple(band["center_wavelength"] for band in item["assets"]["image"]["eo:bands"])
            for item in items_of(info, "enmap-l2a")
        }

    new, old = enmap_bands().centers_nm, enmap_bands("01.03.02").centers_nm
    assert grids(four) == {new} and grids(everything) == {new, old}
    assert len(set(np.round(old, 1)) - set(np.round(new, 1))) > 0
    assert sum(enmap_bands("01.03.02").swir) == 133


def test_the_air_is_blue_and_bends_with_the_sun() -> None:
    assert rayleigh_depth(np.array([450.0]))[0] == pytest.approx(0.224, rel=0.03)  # Bucholtz 1995: 0.2211

    class Dark:
        covers = ("water",)

    def black(centre: float, elevation: float) -> float:
        weights = np.zeros((4, 1, 1), np.float32)
        return float(toa_reflectance(Dark(), weights, [centre], [20.0], elevation)[0, 0, 0])  # type: ignore[arg-type]

    assert black(443, 45) > 1.8 * black(560, 45) > 3 * black(865, 45) > 0
    assert black(443, 20) > black(443, 60)
    assert black(1375, 45) < 0.003
    # Cirrus lies above the water vapour, the ground below it.
    cirrus = np.zeros((4, 1, 1), np.float32)
    cirrus[-1] = 1
    seen = toa_reflectance(Dark(), cirrus, [1375.0], [20.0], 45)[0, 0, 0]  # type: ignore[arg-type]
    real = full_spectra(VEILS)[np.argmin(np.abs(WAVELENGTHS_NM - 1375)), 1]
    assert 0.7 * real < seen < 1.05 * real
