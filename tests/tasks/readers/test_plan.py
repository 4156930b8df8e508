"""Which places are wanted from a scene, and in which order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.samples import Location
from tasks.readers.plan import (
    batches,
    plan_windows,
    quality_files,
    scene_footprint,
    window_bytes,
)
from tests.tasks.scene_files import (
    EPSG,
    NORTH,
    SIDE_M,
    WEST,
    SceneFiles,
    built_in,
    request,
    write_scene,
)


@pytest.fixture(scope="module")
def scene_files(tmp_path_factory: pytest.TempPathFactory) -> SceneFiles:
    folder: Path = tmp_path_factory.mktemp("scene")
    return write_scene(folder, "http://127.0.0.1:1", built_in("landsat-oli-sr"))


def location(name: str, x: float, y: float) -> Location:
    from rasterio.warp import transform

    longitude, latitude = transform(f"EPSG:{EPSG}", "EPSG:4326", [x], [y])
    return Location(name, EPSG, x, y, 480, longitude[0], latitude[0], "pretrain", "b")


def test_only_places_below_the_footprint_are_wanted(scene_files: SceneFiles) -> None:
    product = built_in("landsat-oli-sr")
    middle = location("middle", WEST + SIDE_M / 2, NORTH - SIDE_M / 2)
    edge = location("edge", WEST, NORTH)
    far = location("far", WEST + 3 * SIDE_M, NORTH)
    windows = plan_windows(product, scene_files.scene, [middle, edge, far])
    assert [window.location for window in windows] == ["middle", "edge"]
    assert windows[0].grids[30.0].shape == (16, 16)
    assert windows[0].grids[30.0].epsg == EPSG


@pytest.mark.parametrize(
    "geometry",
    [
        {"type": "Polygon", "coordinates": []},
        {"type": "MultiPolygon", "coordinates": [[[]]]},
        {"type": "Nonsense"},
        {},
    ],
)
def test_the_bounding_box_stands_in_for_a_broken_footprint(
    geometry: dict[str, object], scene_files: SceneFiles
) -> None:
    scene = replace(scene_files.scene, geometry=geometry)
    assert scene_footprint(scene).bounds == pytest.approx(scene.bbox)


def test_a_footprint_over_the_antimeridian_lies_on_both_sides(scene_files: SceneFiles) -> None:
    scene = replace(scene_files.scene, geometry={}, bbox=(179.0, -10.0, -179.0, -9.0))
    from shapely.geometry import Point

    footprint = scene_footprint(scene)
    assert footprint.contains(Point(179.5, -9.5)) and footprint.contains(Point(-179.5, -9.5))
    assert not footprint.contains(Point(0, -9.5))


@given(st.integers(1, 30), st.integers(0, 400_000))
def test_batches_hold_every_window_once_within_the_limit(count: int, limit: int) -> None:
    product = built_in("landsat-oli-sr")
    windows = [request(product, str(i), west=WEST + 480 * i, north=NORTH) for i in range(count)]
    groups = list(batches(product, windows, limit))
    assert sorted(w.location for group in groups for w in group) == sorted(w.location for w in windows)
    size = window_bytes(product, windows[0])
    assert all(len(group) == 1 or len(group) * size <= limit for group in groups)


def test_a_file_that_tells_of_two_things_is_read_once(tmp_path: Path) -> None:
    product = built_in("enmap-l2a")
    scene = write_scene(tmp_path, "http://127.0.0.1:1", product).scene
    files = quality_files(scene, product)
    assert len(files) == len({file.asset.key for file in files})
    meanings = {meaning for file in files for meaning in file.meanings}
    assert product.qa is not None and meanings == set(product.qa.flags)
