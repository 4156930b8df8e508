"""From an archive into a cube: whole scenes, exact pixels, each of them once."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from catalog.cubes import Cube, open_cube
from catalog.locations import sample_locations
from catalog.products import Product
from catalog.samples import Location
from catalog.scenes import Scene
from deployments.stac_server import serve_archive
from tasks.cube.scenes import cube_scenes, replaced
from tasks.readers import ReadFailure
from tasks.readers.direct import DirectReader
from tasks.readers.registry import load_reader
from tasks.search.scenes import search_scenes
from tests.tasks.sandbox_archive import PRODUCTS, Sandbox
from tests.tasks.scene_files import built_in, write_scene

QUICK = DirectReader(pause_s=0.01)


@dataclass(frozen=True)
class Work:
    """A sandbox product that is ready to be cubed."""

    product: Product
    scenes: tuple[Scene, ...]
    locations: list[Location]
    cube: Cube


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SWATH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def prepare(sandbox: Sandbox, name: str) -> Work:
    """All but the scene that the gate refuses."""
    product = built_in(name)
    found = search_scenes(sandbox.archive, product, sandbox.area, sandbox.period)
    scenes = tuple(scene for scene in found.scenes if scene.id != sandbox.info.refused[name])
    locations = sample_locations(sandbox.recipe().locations, sandbox.area, [product], list(scenes))
    return Work(product, scenes, locations, open_cube("small", create=True, products=[product]))


@pytest.mark.parametrize("name", PRODUCTS)
def test_what_lies_in_the_cube_is_bit_for_bit_what_lies_in_the_files(
    name: str, sandbox: Sandbox, home: Path
) -> None:
    work = prepare(sandbox, name)
    product, cube = work.product, work.cube
    done = cube_scenes(
        sandbox.recipe(), product, work.scenes, work.locations, cube, load_reader(), sandbox.archive
    )
    assert done.samples_written > 0 and not done.failures
    assert done.snapshot == cube.snapshot()
    columns = cube.columns(name)
    assert len(columns) == done.samples_written == sum(done.cubed.values())
    assert not columns["resampled"].any(), "the sandbox lies on its products' grids"
    scenes = cube.scenes(name)
    for row in range(0, len(columns), max(1, len(columns) // 12)):
        scene = scenes[columns["scene"][row]]
        for gsd in product.resolutions_m:
            values = cube.read(name, gsd, [row])[0]
            affine = cube.affine(name, gsd, [row])[0]
            np.testing.assert_array_equal(
                values, source_pixels(sandbox, scene, product, gsd, tuple(affine), values.shape[1:])
            )
    assert cube.verify() == []


def source_pixels(
    sandbox: Sandbox,
    scene: Scene,
    product: Product,
    gsd: float,
    affine: tuple[float, ...],
    shape: tuple[int, int],
) -> np.ndarray:
    """The same window straight from the file on disk, nodata beyond its edge."""
    found: dict[str, np.ndarray] = {}
    names = [band.name for band in product.bands_at(gsd)]
    for asset in scene.assets.values():
        numbers = [place for place, name in enumerate(asset.bands, start=1) if name in names]
        if not numbers:
            continue
        path = sandbox.info.folder / "assets" / asset.href.split("/assets/", 1)[1]
        with rasterio.open(path) as file:
            col, row = ~file.transform @ (affine[2], affine[5])
            window = Window(round(col), round(row), shape[1], shape[0])
            values = file.read(numbers, window=window, boundless=True, fill_value=product.nodata)
        found |= {asset.bands[number - 1]: values[place] for place, number in enumerate(numbers)}
    return np.stack([found[name] for name in names])


def test_a_rerun_reads_no_file_and_commits_nothing(sandbox: Sandbox, home: Path) -> None:
    work = prepare(sandbox, "landsat-oli-sr")
    arguments = (sandbox.recipe(), work.product, work.scenes, work.locations, work.cube)
    first = cube_scenes(*arguments, load_reader(), sandbox.archive)
    sandbox.server.reset_requests()
    again = cube_scenes(*arguments, load_reader(), sandbox.archive)
    assert sandbox.server.requests()["asset"] == 0
    assert (again.snapshot, again.samples_written, again.assets_read) == (first.snapshot, 0, 0)
    assert again.cubed == first.cubed


def test_one_new_scene_costs_one_scenes_work(sandbox: Sandbox, home: Path) -> None:
    work = prepare(sandbox, "landsat-oli-sr")
    recipe, reader = sandbox.recipe(), load_reader()
    cube_scenes(recipe, work.product, work.scenes[:-1], work.locations, work.cube, reader, sandbox.archive)
    sandbox.server.reset_requests()
    done = cube_scenes(recipe, work.product, work.scenes, work.locations, work.cube, reader, sandbox.archive)
    files = len(work.product.bands) + 1
    assert done.assets_read == files
    recent = sandbox.server.requests()["recent"]
    assert sum(wanted.startswith("bytes=0-") for _, _, wanted, _ in recent) == files
    assert set(work.cube.columns(work.product.id)["scene"]) == set(done.cubed)


def test_a_scene_given_again_is_read_only_where_locations_are_new(sandbox: Sandbox, home: Path) -> None:
    work = prepare(sandbox, "landsat-oli-sr")
    recipe, reader = sandbox.recipe(), load_reader()
    few, product = work.locations[::2], work.product
    first = cube_scenes(recipe, product, work.scenes, few, work.cube, reader, sandbox.archive)
    done = cube_scenes(recipe, product, work.scenes, work.locations, work.cube, reader, sandbox.archive)
    assert done.samples_written > 0
    columns = work.cube.columns(product.id)
    assert len(columns) == first.samples_written + done.samples_written == sum(done.cubed.values())
    late = columns[first.samples_written :] if columns["row"].is_monotonic_increasing else columns
    assert not set(late["location"]) & {location.id for location in few}


def test_a_reprocessed_scene_supersedes_the_older_one(sandbox: Sandbox, home: Path) -> None:
    work = prepare(sandbox, "sentinel-2-l2a")
    old, new = sandbox.info.superseded["sentinel-2-l2a"]
    by_id = {scene.id: scene for scene in work.scenes}
    recipe, reader = sandbox.recipe(), load_reader()
    before = cube_scenes(
        recipe, work.product, [by_id[old]], work.locations, work.cube, reader, sandbox.archive
    )
    assert not before.superseded
    after = cube_scenes(
        recipe, work.product, [by_id[new]], work.locations, work.cube, reader, sandbox.archive
    )
    assert after.superseded == {old: new}
    columns = work.cube.columns("sentinel-2-l2a").set_index("scene")
    assert set(columns.loc[[old], "superseded_by"]) == {new}
    assert set(columns.loc[[new], "superseded_by"]) == {""}
    assert (work.cube.columns("sentinel-2-l2a", before.snapshot)["superseded_by"] == "").all()


def test_a_damaged_scene_is_left_out_whole_and_named(sandbox: Sandbox, home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    shutil.copytree(sandbox.info.folder, folder)
    with serve_archive(folder) as server:
        damaged = replace(
            sandbox,
            server=server,
            archive=sandbox.archive.model_copy(update={"url": server.url}),
        )
        work = prepare(damaged, "landsat-oli-sr")
        cut, lost = work.scenes[0], work.scenes[1]
        for scene, key in ((cut, "green"), (lost, "swir16")):
            path = folder / "assets" / scene.assets[key].href.split("/assets/", 1)[1]
            if scene is cut:
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            else:
                path.unlink()
        steps: list[tuple[str, int, int]] = []
        done = cube_scenes(
            sandbox.recipe(),
            work.product,
            work.scenes,
            work.locations,
            work.cube,
            QUICK,
            damaged.archive,
            lambda *step: steps.append(step),
        )
    assert set(done.failures) == {cut.id, lost.id}
    failure = done.failures[lost.id]
    assert isinstance(failure, ReadFailure)
    assert (failure.subject, failure.status, failure.attempts) == (lost.id, 404, 1)
    assert failure.href == lost.assets["swir16"].href and failure.band == "SR_B6"
    held = set(work.cube.columns(work.product.id)["scene"])
    assert held == {scene.id for scene in work.scenes} - {cut.id, lost.id} == set(done.cubed)
    assert [done for _, done, _ in steps] == list(range(1, len(work.scenes) + 1))
    assert work.cube.verify() == []


def test_samples_beyond_the_recipes_limits_stay_out(sandbox: Sandbox, home: Path) -> None:
    work = prepare(sandbox, "sentinel-2-l2a")
    strict = {"sample_max_cloud_fraction": 0.05, "sample_max_nodata_fraction": 0.0}
    recipe = sandbox.recipe(sentinel_2_l2a=strict)
    done = cube_scenes(
        recipe, work.product, work.scenes, work.locations, work.cube, load_reader(), sandbox.archive
    )
    columns = work.cube.columns("sentinel-2-l2a")
    assert (columns["cloud_fraction"] <= 0.05).all() and (columns["nodata_fraction"] == 0).all()
    assert done.dropped["cloud"] > 0
    quality = work.cube.read_quality("sentinel-2-l2a", columns["row"])
    valid = (quality & 1) == 0
    cloudy = np.array([((q & 14) != 0)[v].mean() for q, v in zip(quality, valid, strict=True)])
    np.testing.assert_allclose(cloudy, columns["cloud_fraction"])


def test_a_scene_that_gives_no_sample_says_why(sandbox: Sandbox, home: Path, tmp_path: Path) -> None:
    work = prepare(sandbox, "sentinel-2-l2a")
    found = search_scenes(sandbox.archive, work.product, sandbox.area, sandbox.period)
    overcast = next(s for s in found.scenes if s.id == sandbox.info.refused["sentinel-2-l2a"])
    elsewhere = write_scene(tmp_path / "far", "http://127.0.0.1:1", work.product, "far").scene
    done = cube_scenes(
        sandbox.recipe(),
        work.product,
        [overcast, elsewhere],
        work.locations,
        work.cube,
        load_reader(),
        sandbox.archive,
    )
    assert not done.cubed and not done.failures
    assert "with too much cloud" in done.passed_over[overcast.id]
    assert done.passed_over["far"] == "no location lies in its footprint"
    assert done.snapshot == work.cube.snapshot()


def test_several_products_go_into_one_commit(sandbox: Sandbox, home: Path) -> None:
    works = [prepare(sandbox, name) for name in ("landsat-oli-sr", "sentinel-1-rtc")]
    cube = works[0].cube
    versions = len(cube.history())
    with cube.write("both") as writer:
        for work in works:
            done = cube_scenes(
                sandbox.recipe(),
                work.product,
                work.scenes,
                work.locations,
                cube,
                load_reader(),
                sandbox.archive,
                writer=writer,
            )
            assert done.samples_written and not done.snapshot
    assert len(cube.history()) == versions + 1
    assert {len(cube.columns(work.product.id)) > 0 for work in works} == {True}


def test_calibration_travels_with_the_sample(sandbox: Sandbox, home: Path) -> None:
    work = prepare(sandbox, "sentinel-2-l2a")
    done = cube_scenes(
        sandbox.recipe(), work.product, work.scenes, work.locations, work.cube, load_reader(), sandbox.archive
    )
    columns = work.cube.columns("sentinel-2-l2a", done.snapshot)
    offsets = work.cube.calibration("sentinel-2-l2a", columns["row"])["offset"]
    baselines = {scene.id: scene.baseline for scene in work.scenes}
    for row, scene in zip(columns["row"], columns["scene"], strict=True):
        expected = -0.1 if (baselines[scene] or "") >= "04.00" else 0.0
        np.testing.assert_allclose(offsets[row], expected)


def test_the_best_version_replaces_all_others(tmp_path: Path) -> None:
    product = built_in("sentinel-1-rtc")
    first = write_scene(tmp_path, "http://127.0.0.1:1", product, "a", baseline="02.14").scene
    second, third = replace(first, id="b", baseline="05.00"), replace(first, id="c", baseline="05.10")
    other = replace(first, id="d", tile="elsewhere", baseline="01.00")
    assert replaced([first, other], [second, third]) == {"a": "c"}
    assert replaced([first, second, third], [second, third]) == {"a": "c", "b": "c"}
    assert replaced([third], [first]) == {}


def test_an_interrupted_cube_leaves_nothing_behind(sandbox: Sandbox, home: Path) -> None:
    work = prepare(sandbox, "landsat-oli-sr")
    before = work.cube.snapshot()

    def stop(what: str, done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cube_scenes(
            sandbox.recipe(),
            work.product,
            work.scenes,
            work.locations,
            work.cube,
            load_reader(),
            sandbox.archive,
            stop,
        )
    assert work.cube.snapshot() == before
    assert len(work.cube.columns(work.product.id)) == 0
