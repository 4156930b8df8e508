"""Passes become time steps: mosaicked, in order, whole or not at all, and only when they are new."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from catalog.area_cubes import layout
from catalog.errors import CubeError
from catalog.quality import FLAGS
from tasks.area.build import reader_for
from tasks.area.passes import passes
from tests.tasks.area.pass_archive import PassArchive, open_cube, pixels
from tests.tasks.range_server import RangeServer, serve_ranges
from tests.tasks.scene_files import built_in

S2 = "sentinel-2-l2a"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RangeServer]:
    with serve_ranges(tmp_path_factory.mktemp("archive")) as running:
        yield running


@pytest.fixture(scope="module")
def archive(server: RangeServer) -> PassArchive:
    made = PassArchive(server)
    made.add("west-1", day=0, empty_columns=0.25)
    made.add("east-1", day=0.001, east=True)
    made.add("west-2", day=10)
    made.add("west-3", day=20)
    return made


@pytest.fixture(autouse=True)
def calm(server: RangeServer) -> Iterator[None]:
    server.requests.clear()
    yield
    server.fault = None


def scenes(archive: PassArchive, *names: str) -> list:  # type: ignore[type-arg]
    return [archive.files[name].scene for name in names]


def test_tiles_of_one_pass_fill_one_time_step_the_earlier_first(archive: PassArchive) -> None:
    cube = open_cube()
    built = archive.build(cube, scenes(archive, "east-1", "west-1"))
    (step,) = built.written
    assert step.ids == ("west-1", "east-1")
    for gsd in archive.product.resolutions_m:
        held = pixels(cube, S2, gsd)
        assert held.shape[0] == 1
        for number, band in enumerate(archive.product.bands_at(gsd)):
            np.testing.assert_array_equal(held[0, number], archive.truth(band.name, step.ids), band.name)


@pytest.mark.parametrize("reader", ["stackstac", "odc-stac"])
def test_every_reader_makes_the_same_cube(archive: PassArchive, reader: str) -> None:
    one, other = open_cube("one"), open_cube("other")
    archive.build(one, scenes(archive, "west-1", "east-1"))
    archive.build(other, scenes(archive, "west-1", "east-1"), reader=reader)
    for gsd in archive.product.resolutions_m:
        np.testing.assert_array_equal(pixels(one, S2, gsd), pixels(other, S2, gsd))
    flags = [np.asarray(layout.array(cube.group(S2), "r20m/quality")[:]) for cube in (one, other)]
    np.testing.assert_array_equal(*flags)
    assert {0, FLAGS["nodata"]} <= set(np.unique(flags[0]))


def test_little_memory_makes_the_same_cube(archive: PassArchive) -> None:
    one, other = open_cube("one"), open_cube("other")
    archive.build(one, scenes(archive, "west-1", "east-1"))
    archive.build(other, scenes(archive, "west-1", "east-1"), memory_bytes=1)
    np.testing.assert_array_equal(pixels(one, S2, 10), pixels(other, S2, 10))


def test_nothing_new_reads_nothing_and_commits_nothing(archive: PassArchive, server: RangeServer) -> None:
    cube = open_cube()
    archive.build(cube, scenes(archive, "west-1", "east-1"))
    before = cube.snapshot()
    server.requests.clear()
    built = archive.build(cube, scenes(archive, "west-1", "east-1"))
    assert (built.written, built.kept) == ([], 1)
    assert server.requests == []
    assert cube.snapshot() == before


def test_an_older_pass_that_comes_later_goes_where_it_belongs(
    archive: PassArchive, server: RangeServer
) -> None:
    cube = open_cube()
    archive.build(cube, scenes(archive, "west-3"))
    server.requests.clear()
    archive.build(cube, scenes(archive, "west-1", "west-2", "west-3"))
    assert [step.ids for step in cube.steps(S2)] == [("west-1",), ("west-2",), ("west-3",)]
    held = pixels(cube, S2, 10)
    for number, name in enumerate(("west-1", "west-2", "west-3")):
        np.testing.assert_array_equal(held[number, 0], archive.truth("B02", [name]), name)
    assert not [request for request in server.requests if "west-3" in request.path]
    dataset = xr.open_zarr(cube.store(), group=f"{S2}/r10m", consolidated=False)
    assert dataset.indexes["time"].is_monotonic_increasing
    assert list(dataset.scenes.values) == ["west-1", "west-2", "west-3"]


def test_a_late_tile_of_a_pass_has_its_time_step_read_anew(archive: PassArchive) -> None:
    cube = open_cube()
    archive.build(cube, scenes(archive, "west-1", "west-2"))
    old = cube.snapshot()
    built = archive.build(cube, scenes(archive, "west-1", "west-2", "east-1"))
    assert (len(built.written), built.replaced, built.kept) == (1, 1, 1)
    assert [step.ids for step in cube.steps(S2)] == [("west-1", "east-1"), ("west-2",)]
    np.testing.assert_array_equal(pixels(cube, S2, 10)[0, 0], archive.truth("B02", ["west-1", "east-1"]))
    assert [step.ids for step in cube.steps(S2, old)] == [("west-1",), ("west-2",)]


def test_a_pass_that_cannot_be_read_is_left_whole_to_the_next_run(
    archive: PassArchive, server: RangeServer
) -> None:
    cube = open_cube()
    server.fault = lambda asked: 404 if "/west-2/B08" in asked.path else None
    wanted = scenes(archive, "west-1", "west-2", "west-3")
    built = archive.build(cube, wanted)
    assert list(built.failures) == ["west-2"]
    assert [step.ids for step in cube.steps(S2)] == [("west-1",), ("west-3",)]
    np.testing.assert_array_equal(pixels(cube, S2, 10)[1, 0], archive.truth("B02", ["west-3"]))
    server.fault = None
    archive.build(cube, wanted)
    assert [step.ids for step in cube.steps(S2)] == [("west-1",), ("west-2",), ("west-3",)]


def test_an_error_of_the_caller_leaves_the_cube_as_it_was(archive: PassArchive) -> None:
    cube = open_cube()
    archive.build(cube, scenes(archive, "west-1"))
    before, held = cube.snapshot(), pixels(cube, S2, 10)

    def stop(what: str, done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        archive.build(cube, scenes(archive, "west-1", "west-2"), progress=stop)
    assert cube.snapshot() == before
    archive.build(cube, scenes(archive, "west-1", "west-3"))
    np.testing.assert_array_equal(pixels(cube, S2, 10)[0], held[0])


def test_scenes_whose_numbers_mean_different_things_are_different_time_steps(archive: PassArchive) -> None:
    old, new = scenes(archive, "west-1", "east-1")
    cube = open_cube()
    archive.build(cube, [replace(old, baseline="02.14"), new])
    dataset = xr.open_zarr(cube.store(), group=f"{S2}/r10m", consolidated=False)
    assert dataset.scenes.values.tolist() == ["west-1", "east-1"]
    np.testing.assert_allclose(dataset.offset.values[:, 0], [0.0, -0.1])
    np.testing.assert_allclose(dataset.scale.values, 1e-4)


def test_xarray_opens_it_with_all_that_an_analysis_needs(archive: PassArchive) -> None:
    cube = open_cube()
    archive.build(cube, scenes(archive, "west-1", "east-1"))
    dataset = xr.open_zarr(cube.store(), group=f"{S2}/r10m", consolidated=False)
    assert dataset.pixels.dims == ("time", "band", "y", "x")
    assert dataset.pixels.dtype == np.uint16
    assert dataset.band.values.tolist() == ["B02", "B03", "B04", "B08"]
    assert dataset.center_nm.values[0] == pytest.approx(492, abs=5)
    assert dataset.time.values[0] == np.datetime64("2022-06-01T10:20:00")
    grid = archive.grid.grids[10.0]
    assert dataset.x.values[0] == grid.affine[2] + 5 and dataset.y.values[0] == grid.affine[5] - 5
    assert "32632" in dataset.spatial_ref.attrs["proj:code"] and "crs_wkt" in dataset.spatial_ref.attrs
    assert 0 < float(dataset.nodata_fraction[0]) < 0.4
    coarse = xr.open_zarr(cube.store(), group=f"{S2}/r20m", consolidated=False)
    assert coarse.quality.dims == ("time", "y", "x")
    (step,) = cube.steps(S2)
    assert all("?" not in asset.href for scene in step.scenes for asset in scene.assets.values())


def test_another_grid_under_the_same_name_is_refused(archive: PassArchive) -> None:
    cube = open_cube()
    archive.build(cube, scenes(archive, "west-1"))
    grid = archive.grid
    moved = {
        gsd: replace(g, affine=(*g.affine[:2], g.affine[2] + 60, *g.affine[3:]))
        for gsd, g in grid.grids.items()
    }
    with pytest.raises(CubeError, match="another grid") as refusal, cube.write("test") as writer:
        writer.declare(archive.product, moved, grid.chunks_px)
    assert refusal.value.code == "area-cube-changed"


def test_files_of_several_bands_and_scenes_without_a_grid_go_to_readers_that_can() -> None:
    assert reader_for("stackstac", built_in("enmap-l2a")) == "odc-stac"
    assert reader_for("stackstac", built_in(S2)) == "stackstac"
    assert reader_for("odc-stac", built_in("sentinel-1-grd")) == "direct"


def test_a_reprocessed_scene_takes_the_place_of_the_old_one(archive: PassArchive) -> None:
    (scene,) = scenes(archive, "west-1")
    newer = replace(scene, id="west-1-again", baseline="05.12")
    assert [step.ids for step in passes([newer, scene], archive.product, minutes=20)] == [("west-1-again",)]


def test_hyperspectral_scenes_keep_all_their_bands(server: RangeServer) -> None:
    archive = PassArchive(server, built_in("enmap-l2a"))
    archive.add("enmap-1", day=0)
    cube = open_cube()
    archive.build(cube, scenes(archive, "enmap-1"), reader="stackstac")
    held = pixels(cube, "enmap-l2a", 30)[0]
    assert len(held) == 224
    for number, band in enumerate(archive.product.band_names):
        np.testing.assert_array_equal(held[number], archive.truth(band, ["enmap-1"]), band)
