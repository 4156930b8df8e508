"""What lies beside the items: coefficients of Landsat's MTL, and the cloud of a Level-1C scene."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from catalog.quality import cloud_source
from catalog.radiometry import calibrate
from catalog.scenes import Scene, SceneAsset
from deployments.sandbox.sensors.landsat_instruments import INSTRUMENTS
from deployments.stac_server import serve_archive
from tasks.readers import ReadFailure
from tasks.readers.plan import quality_files
from tasks.readers.text_files import fetch_text
from tasks.search.side_files import complete_scenes, find_partners
from tests.tasks.all_products import observation, scenes_of
from tests.tasks.sandbox_archive import Sandbox
from tests.tasks.scene_files import built_in

LEVEL_1C, LEVEL_2A = built_in("sentinel-2-l1c"), built_in("sentinel-2-l2a")
TOA = ("landsat-tm-toa", "landsat-etm-toa", "landsat-oli-toa")


@contextmanager
def changed(sandbox: Sandbox, folder: Path) -> Iterator[Sandbox]:
    """A copy of the archive that a test may damage."""
    shutil.copytree(sandbox.info.folder, folder)
    with serve_archive(folder) as server:
        yield Sandbox(
            replace(sandbox.info, folder=folder),
            server,
            sandbox.archive.model_copy(update={"url": server.url}),
        )


def file_of(sandbox: Sandbox, scene: Scene, key: str) -> Path:
    return sandbox.info.folder / "assets" / scene.assets[key].href.split("/assets/", 1)[1]


@pytest.mark.parametrize("name", TOA)
def test_every_band_has_its_coefficients_from_the_mtl(name: str, all_products: Sandbox) -> None:
    product, scenes = built_in(name), scenes_of(all_products, name)
    assert all("mtl" not in scene.radiometry for scene in scenes)
    done, failures = complete_scenes(scenes, product, all_products.archive)
    assert not failures and [scene.id for scene in done] == [scene.id for scene in scenes]
    for scene in done:
        seen = observation(name, scene.id)
        stated = scene.radiometry["mtl"]
        for band in INSTRUMENTS[seen.platform].level_1.values():
            expected = band.coefficients(seen.when)
            assert stated["bands"][band.band] == pytest.approx(expected, rel=1e-9)
        assert stated["sun_elevation_deg"] == pytest.approx(scene.sun_elevation_deg, abs=1e-6)
        assert "sun elevation" in calibrate(product, scene).source
        assert Scene.from_dict(scene.to_dict()) == scene


def test_what_is_complete_is_not_fetched_again(all_products: Sandbox) -> None:
    product = built_in("landsat-oli-toa")
    done, _ = complete_scenes(scenes_of(all_products, product.id), product, all_products.archive)
    all_products.server.reset_requests()
    again, failures = complete_scenes(done, product, all_products.archive)
    assert again == done and not failures
    assert all_products.server.requests()["asset"] == 0


def test_products_that_need_nothing_ask_for_nothing(all_products: Sandbox) -> None:
    product = built_in("landsat-oli-sr")
    scenes = list(scenes_of(all_products, product.id))
    all_products.server.reset_requests()
    assert complete_scenes(scenes, product, all_products.archive) == (scenes, {})
    assert all_products.server.requests()["asset"] == 0


def test_the_text_stands_in_for_a_json_that_is_damaged_or_gone(all_products: Sandbox, tmp_path: Path) -> None:
    product = built_in("landsat-oli-toa")
    with changed(all_products, tmp_path / "archive") as sandbox:
        scenes = scenes_of(sandbox, product.id)
        gone, damaged = scenes[:2]
        file_of(sandbox, gone, "MTL.json").unlink()
        file_of(sandbox, damaged, "MTL.json").write_text('{"LANDSAT_METADATA_FILE": {}}')
        done, failures = complete_scenes(scenes[:2], product, sandbox.archive, pause_s=0.01)
    assert not failures
    whole, _ = complete_scenes(scenes_of(all_products, product.id)[:2], product, all_products.archive)
    assert [scene.radiometry["mtl"] for scene in done] == [scene.radiometry["mtl"] for scene in whole]


def test_a_scene_whose_mtl_does_not_come_says_which_file_and_why(
    all_products: Sandbox, tmp_path: Path
) -> None:
    product = built_in("landsat-tm-toa")
    with changed(all_products, tmp_path / "archive") as sandbox:
        scenes = scenes_of(sandbox, product.id)
        gone, page = scenes[:2]
        file_of(sandbox, gone, "MTL.txt").unlink()
        file_of(sandbox, page, "MTL.txt").write_text("<!DOCTYPE html><html><body>Please log in</body></html>")
        done, failures = complete_scenes(scenes, product, sandbox.archive, attempts=2, pause_s=0.01)
    assert set(failures) == {gone.id, page.id}
    assert done[:2] == [gone, page] and all("mtl" in scene.radiometry for scene in done[2:])
    missing = failures[gone.id]
    assert isinstance(missing, ReadFailure) and not missing.may_pass
    assert (missing.code, missing.status, missing.band) == ("asset-not-found", 404, "MTL.txt")
    assert missing.href == gone.assets["MTL.txt"].href and missing.subject == gone.id
    assert "text/html" in failures[page.id].message


def test_an_item_without_mtl_cannot_be_calibrated(all_products: Sandbox) -> None:
    product = built_in("landsat-tm-toa")
    scene = scenes_of(all_products, product.id)[0]
    bare = replace(scene, assets={k: v for k, v in scene.assets.items() if not k.startswith("MTL")})
    _, failures = complete_scenes([bare], product, all_products.archive)
    assert failures[bare.id].code == "calibration-missing"


def test_a_server_that_is_away_may_come_back(all_products: Sandbox) -> None:
    product = built_in("landsat-tm-toa")
    scene = scenes_of(all_products, product.id)[0]
    away = {
        key: replace(asset, href=asset.href.replace(all_products.archive.url, "http://127.0.0.1:9"))
        for key, asset in scene.assets.items()
    }
    _, failures = complete_scenes(
        [replace(scene, assets=away)], product, all_products.archive, attempts=2, pause_s=0.01
    )
    failure = failures[scene.id]
    assert isinstance(failure, ReadFailure) and failure.may_pass and failure.attempts == 2


def test_a_file_beyond_the_limit_elsewhere_or_in_object_storage_is_not_read(all_products: Sandbox) -> None:
    scene = scenes_of(all_products, "landsat-tm-toa")[0]
    mtl = scene.assets["MTL.txt"]
    assert fetch_text(mtl, scene.id, all_products.archive).startswith(b"GROUP = LANDSAT_METADATA_FILE")
    for asset, limit, code in (
        (mtl, 100, "side-file-too-large"),
        (SceneAsset("MTL.txt", "https://elsewhere.example/MTL.txt", ()), 10_000, "href-not-allowed"),
        (SceneAsset("MTL.txt", "s3://127.0.0.1/MTL.txt", ()), 10_000, "side-file-in-object-storage"),
    ):
        with pytest.raises(Exception) as refusal:
            fetch_text(asset, scene.id, all_products.archive, limit_bytes=limit)
        assert getattr(refusal.value, "code", None) == code
        assert getattr(refusal.value, "subject", None) == scene.id


def test_a_level_1c_scene_has_the_classification_of_its_datatake(all_products: Sandbox) -> None:
    scenes = scenes_of(all_products, LEVEL_1C.id)
    assert all(not quality_files(scene, LEVEL_1C) for scene in scenes)
    done, failures = complete_scenes(scenes, LEVEL_1C, all_products.archive)
    assert not failures
    partners = {scene.id: scene for scene in scenes_of(all_products, LEVEL_2A.id)}
    alone = []
    for scene in done:
        if "SCL" not in scene.assets:
            alone.append(scene)
            continue
        partner = partners[scene.assets["SCL"].href.split("/")[-2]]
        assert (partner.platform, partner.tile, partner.sensed) == (scene.platform, scene.tile, scene.sensed)
        assert cloud_source(LEVEL_1C, scene) == f"SCL of {partner.id}"
        assert Scene.from_dict(scene.to_dict()) == scene
    assert [scene.id for scene in alone] == ["S2B_33UTP_20220710_0_L1C"]
    assert cloud_source(LEVEL_1C, alone[0]) == "unknown (no L2A of this datatake)"


def test_of_several_versions_the_newest_classification_is_taken(all_products: Sandbox) -> None:
    old, new = all_products.info.superseded[LEVEL_1C.id]
    done, _ = complete_scenes(scenes_of(all_products, LEVEL_1C.id), LEVEL_1C, all_products.archive)
    newest = all_products.info.superseded[LEVEL_2A.id][1]
    for scene in done:
        if scene.id in (old, new):
            assert scene.assets["SCL"].href.split("/")[-2] == newest


def test_scenes_near_each_other_cost_one_search(all_products: Sandbox) -> None:
    scenes = scenes_of(all_products, LEVEL_1C.id)
    within = [scene for scene in scenes if scene.sensed.year == 2022]
    assert len(within) >= 3 and len({scene.tile for scene in within}) == 2
    all_products.server.reset_requests()
    partners, unanswered = find_partners(within, LEVEL_2A, all_products.archive)
    assert len(partners) == len(within) - 1 and not unanswered
    assert all_products.server.requests()["search"] == 1


def test_an_archive_without_level_2a_leaves_cloud_unknown(all_products: Sandbox, tmp_path: Path) -> None:
    with changed(all_products, tmp_path / "archive") as sandbox:
        (sandbox.info.folder / "items" / "sentinel-2-l2a.ndjson").unlink()
        (sandbox.info.folder / "collections" / "sentinel-2-l2a.json").unlink()
        scenes = list(scenes_of(sandbox, LEVEL_1C.id))
        assert complete_scenes(scenes, LEVEL_1C, sandbox.archive) == (scenes, {})
    closed = all_products.archive.model_copy(
        update={"closed": True, "collections": {LEVEL_1C.id: LEVEL_1C.id}}
    )
    scenes = list(scenes_of(all_products, LEVEL_1C.id))
    assert complete_scenes(scenes, LEVEL_1C, closed) == (scenes, {})


def test_another_pass_of_the_same_day_is_no_partner(all_products: Sandbox) -> None:
    scene = next(s for s in scenes_of(all_products, LEVEL_1C.id) if "20230615" in s.id)
    for change, found in (
        (
            {"sensed": scene.sensed + timedelta(seconds=14)},
            True,
        ),  # the tile's own time, as Earth Search has it
        ({"sensed": scene.sensed + timedelta(minutes=98)}, False),
        ({"platform": "sentinel-2c"}, False),
        ({"tile": "32UPU"}, False),
    ):
        partners, _ = find_partners([replace(scene, **change)], LEVEL_2A, all_products.archive)
        assert bool(partners) == found, change
