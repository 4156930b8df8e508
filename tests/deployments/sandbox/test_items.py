"""The items have the shape, the spellings and the defects of the real catalogues."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pystac
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import shape

from catalog.archives.registry import load_archive
from catalog.normalise import normalise_item
from catalog.products.registry import load_product
from deployments.sandbox import SandboxInfo
from deployments.sandbox.atmosphere import sun_position
from deployments.sandbox.items.described import absolute_orbit, scene_id
from deployments.sandbox.plan import PRODUCTS, plan_scenes
from deployments.sandbox.sensors.enmap import enmap_bands
from tests.deployments.sandbox.small_archive import items_of, read


def test_sentinel_2_items_do_not_tell_scale_offset_or_nodata(archive: SandboxInfo) -> None:
    bands = set(load_product("sentinel-2-l2a").band_names)
    for item in items_of(archive, "sentinel-2-l2a"):
        assert set(item["assets"]) == bands | {"SCL"}
        assert not any("raster:bands" in asset for asset in item["assets"].values())
        assert item["properties"]["platform"] in ("Sentinel-2A", "Sentinel-2B")
        assert item["assets"]["B02"]["eo:bands"][0]["full_width_half_max"] == 0.098


def test_the_date_of_a_sentinel_2_scene_does_not_tell_its_offset(archive: SandboxInfo) -> None:
    offset_before, none_before = 0, 0
    for item in items_of(archive, "sentinel-2-l2a"):
        properties = item["properties"]
        if properties["datetime"] > "2022-01-25" or item["id"] == archive.refused["sentinel-2-l2a"]:
            continue
        scl, swir = read(archive, item, "SCL")[0], read(archive, item, "B12")[0]
        darkest = np.quantile(swir[(scl > 0) & (scl < 8)], 0.002)
        if properties["s2:processing_baseline"] == "05.00":
            assert darkest > 980
            offset_before += 1
        else:
            assert properties["s2:processing_baseline"] == "03.01"
            assert darkest < 300
            none_before += 1
    assert offset_before and none_before


def test_enmap_items_have_the_defects_of_the_real_ones(archive: SandboxInfo) -> None:
    for item in items_of(archive, "enmap-l2a"):
        properties, image = item["properties"], item["assets"]["image"]
        assert isinstance(properties["eo:cloud_cover"], str)
        assert properties["proj:epsg"] is None and image["proj:epsg"] in (32632, 32633)
        assert properties["sat:orbit_state"].isupper()
        turned = properties["view:sun_azimuth"] - float(properties["enmap:sunAzimuthAngle"])
        assert turned == pytest.approx(180, abs=1e-5)
        assert [band["name"] for band in image["eo:bands"]] == list(range(1, 225))
        assert "raster:bands" not in image
        assert "quality_cloud_shadow" in item["assets"]


def test_enmap_bands_ascend_and_interleave_the_detectors() -> None:
    bands = enmap_bands()
    assert len(bands.centers_nm) == 224
    assert list(bands.centers_nm) == sorted(bands.centers_nm)
    assert sum(bands.swir) == 133
    assert bands.swir[79] and not bands.swir[100]


def test_sentinel_1_times_have_a_space_and_landsat_items_are_complete(archive: SandboxInfo) -> None:
    for item in items_of(archive, "sentinel-1-rtc"):
        assert " " in item["properties"]["start_datetime"]
        assert item["properties"]["platform"] == "SENTINEL-1A"
    bands = load_product("landsat-oli-sr").bands
    for item in items_of(archive, "landsat-oli-sr"):
        for key in bands:
            raster = item["assets"][str(key.asset)]["raster:bands"][0]
            assert (raster["scale"], raster["offset"], raster["nodata"]) == (2.75e-5, -0.2, 0)
        assert item["properties"]["landsat:collection_number"] == "02"


@pytest.mark.parametrize("product_id", PRODUCTS)
def test_the_catalog_normalises_every_item_and_finds_the_newer_version(
    archive: SandboxInfo, product_id: str
) -> None:
    product, place = load_product(product_id), load_archive("sandbox", url="http://127.0.0.1:1")
    scenes = {}
    for item in items_of(archive, product_id):
        for asset in item["assets"].values():
            asset["href"] = f"{place.url}{asset['href']}"
        scene = normalise_item(item, place, product)
        assert scene.origin == "simulated"
        assert {name for asset in scene.assets.values() for name in asset.bands} >= set(product.band_names)
        scenes[scene.id] = scene
    old, new = (scenes[scene] for scene in archive.superseded[product_id])
    assert old.key == new.key
    assert old.version < new.version
    assert len({scene.key for scene in scenes.values()}) == len(scenes) - 1


def test_items_are_stac_and_their_outlines_are_where_the_data_are(archive: SandboxInfo) -> None:
    for product in PRODUCTS:
        for item in items_of(archive, product):
            pystac.Item.from_dict(item)
            outline = shape(item["geometry"])
            assert outline.is_valid and not outline.is_empty
            assert outline.bounds == pytest.approx(item["bbox"], abs=1e-7)
    enmap = items_of(archive, "enmap-l2a")[0]
    covered = shape(enmap["geometry"]).area / shape(enmap["geometry"]).minimum_rotated_rectangle.area
    assert covered < 0.999
    data = (read(archive, enmap, "image")[0] != -32768).mean()
    assert 0.6 < data < 0.9


def test_the_whole_plan_has_unique_ids_both_zones_and_two_years() -> None:
    scenes = plan_scenes()
    ids = [scene_id(seen) for seen in scenes]
    assert len(set(ids)) == len(ids)
    for product in PRODUCTS:
        chosen = [seen for seen in scenes if seen.product == product]
        assert {seen.zone for seen in chosen} == {0, 1}
        assert sorted(seen.role for seen in chosen if seen.role != "ordinary") == [
            "refused",
            "reprocessed",
            "superseded",
        ]
    assert {seen.when.year for seen in scenes} == {2021, 2022, 2023}


def test_sentinel_1_orbit_numbers_fit_each_other() -> None:
    for seen in plan_scenes():
        if seen.product == "sentinel-1-rtc":
            orbit = absolute_orbit(seen)
            assert (orbit - 73) % 175 + 1 == seen.orbit
            passed = (seen.when - datetime(2025, 3, 11, 4, 42, 40, tzinfo=UTC)) / timedelta(days=12) * 175
            assert abs(orbit - 58252 - passed) < 1


def test_the_sun_stands_where_the_almanac_says() -> None:
    noon = sun_position(datetime(2022, 6, 21, 11, 14, tzinfo=UTC), 12.0, 48.0)
    assert noon.elevation == pytest.approx(90 - 48 + 23.44, abs=0.1)
    assert noon.azimuth == pytest.approx(180, abs=1)
    # Sun angles that the metadata of a southern Landsat scene state for its centre.
    south = sun_position(datetime(2025, 3, 10, 23, 53, 9, tzinfo=UTC), 146.67, -44.60)
    assert south.elevation == pytest.approx(37.49, abs=0.3)
    assert south.azimuth == pytest.approx(50.04, abs=0.4)


@given(st.datetimes(datetime(2015, 1, 1), datetime(2035, 1, 1)), st.floats(-180, 180), st.floats(-89, 89))
def test_the_sun_is_in_the_sky_and_never_higher_than_the_latitude_allows(
    when: datetime, longitude: float, latitude: float
) -> None:
    sun = sun_position(when.replace(tzinfo=UTC), longitude, latitude)
    assert -90 <= sun.elevation <= 90 - max(0.0, abs(latitude) - 23.5) + 1e-6
    assert 0 <= sun.azimuth <= 360
