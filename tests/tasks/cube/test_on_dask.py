"""Cubing on several processes: the same cube, bit for bit, whoever dies on the way."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import distributed
import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from catalog.archives import Archive
from catalog.cubes import Cube, open_cube
from catalog.cubes.place import place_of
from catalog.cubes.spool import Spooled
from catalog.locations import sample_locations
from catalog.products import Product
from catalog.recipes import Recipe
from catalog.samples import Location
from catalog.scenes import Scene
from tasks.cube.on_dask import DaskCubing, cubing_on
from tasks.cube.scenes import CubeResult, cube_scenes
from tasks.cube.staging import FetchedPixels, Staging, staging_area
from tasks.readers import ReadFailure, WindowPixels, WindowRequest
from tasks.readers.contract import Reader
from tasks.readers.direct import DirectReader
from tasks.search.scenes import search_scenes
from tests.tasks.sandbox_archive import Sandbox
from tests.tasks.scene_files import built_in

PRODUCT = "sentinel-2-l2a"
QUICK = DirectReader(pause_s=0.01)
CHUNK = 3
"""Samples: many chunks, of which two commits share one."""


@dataclass(frozen=True)
class Work:
    """What is cubed by one process and by several."""

    recipe: Recipe
    product: Product
    scenes: tuple[Scene, ...]
    locations: list[Location]
    archive: Archive

    def cube(
        self, name: str, scenes: Sequence[Scene], reader: Reader = QUICK, dask: DaskCubing | None = None
    ) -> tuple[Cube, CubeResult]:
        """Into the cube of this name, made where it is missing."""
        cube = open_cube(name, create=True, products=[self.product], chunk_samples=CHUNK)
        with cube.write("made by a test", pixels=dask and dask.writing) as writer:
            done = cube_scenes(
                self.recipe,
                self.product,
                scenes,
                self.locations,
                cube,
                reader,
                self.archive,
                writer=writer,
                reading=dask and dask.reading,
            )
        return cube, done


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[distributed.Client]:
    with (
        distributed.LocalCluster(
            n_workers=3,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            local_directory=str(tmp_path_factory.mktemp("dask")),
            silence_logs=50,
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture
def work(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    monkeypatch.setenv("SWATH_HOME", str(tmp_path))
    product = built_in(PRODUCT)
    scenes = tuple(search_scenes(sandbox.archive, product, sandbox.area, sandbox.period).scenes)
    locations = sample_locations(sandbox.recipe().locations, sandbox.area, [product], list(scenes))
    return Work(sandbox.recipe(), product, scenes, locations, sandbox.archive)


def contents(cube: Cube) -> dict[str, tuple[dict[str, Any], bytes]]:
    """Every array of a cube by path: its metadata and its bytes."""
    root = zarr.open_group(cube.session_store(), mode="r")
    found: dict[str, tuple[dict[str, Any], bytes]] = {}
    for path, node in root.members(max_depth=None):
        values = "" if isinstance(node, zarr.Group) else node[...]
        if isinstance(values, np.ndarray) and values.dtype == np.dtypes.StringDType():
            values = "\0".join(values.ravel().tolist())
        data = values.encode() if isinstance(values, str) else values.tobytes()
        found[path] = (node.metadata.to_dict(), data)
    return found


def left_in_staging(name: str) -> list[Path]:
    place = place_of(name)
    return list((place.folder.parent.parent / "staging" / name).glob("*[!k]"))


def test_several_processes_make_the_very_cube_that_one_makes(work: Work, client: distributed.Client) -> None:
    first, second = work.scenes[:2], work.scenes
    for scenes in (first, second):
        alone, expected = work.cube("alone", scenes)
        place = place_of("shared")
        with cubing_on(client, place) as dask:
            shared, done = work.cube("shared", scenes, dask=dask)
        assert replace(done, snapshot="") == replace(expected, snapshot="")
        assert done.samples_written > CHUNK
    assert contents(shared) == contents(alone)
    assert len(shared.history()) == len(alone.history()) and shared.verify() == []
    assert left_in_staging("shared") == []


@pytest.mark.parametrize("stage", ["reading", "writing"])
def test_a_worker_that_is_killed_changes_nothing(
    stage: str, work: Work, client: distributed.Client, tmp_path: Path
) -> None:
    alone, expected = work.cube("alone", work.scenes)
    died = tmp_path / "died"
    with cubing_on(client, place_of("shared")) as dask:
        reader: Reader = QUICK
        if stage == "reading":
            reader = DiesOnce(QUICK, died)
        else:
            dask.writing._staging = StagingOfADyingWorker(dask.writing._staging.url, died)
        shared, done = work.cube("shared", work.scenes, reader, dask)
    assert died.exists(), "no worker was killed"
    assert replace(done, snapshot="") == replace(expected, snapshot="")
    assert contents(shared) == contents(alone)
    assert shared.verify() == [] and left_in_staging("shared") == []


def test_a_scene_that_a_worker_cannot_read_is_left_out_whole_and_named(
    work: Work, client: distributed.Client
) -> None:
    lost = work.scenes[0]
    gone = replace(lost.assets["B04"], href=lost.assets["B04"].href + ".gone")
    broken = replace(lost, assets={**lost.assets, "B04": gone})
    with cubing_on(client, place_of("shared")) as dask:
        cube, done = work.cube("shared", (broken, *work.scenes[1:]), dask=dask)
    failure = done.failures[lost.id]
    assert isinstance(failure, ReadFailure)
    assert (failure.status, failure.href, failure.band) == (404, gone.href, "B04")
    assert set(cube.columns(PRODUCT)["scene"]) == set(done.cubed)
    assert lost.id not in done.cubed and done.cubed


def test_an_interrupted_run_commits_nothing(work: Work, client: distributed.Client) -> None:
    cube = open_cube("shared", create=True, products=[work.product])
    before = cube.snapshot()
    with (
        pytest.raises(KeyboardInterrupt),
        cubing_on(client, cube.place) as dask,
        cube.write("stopped", pixels=dask.writing) as writer,
    ):
        cube_scenes(
            work.recipe,
            work.product,
            work.scenes,
            work.locations,
            cube,
            QUICK,
            work.archive,
            stop,
            writer=writer,
            reading=dask.reading,
        )
    assert cube.snapshot() == before


def stop(what: str, done: int, total: int) -> None:
    raise KeyboardInterrupt


def test_what_a_killed_run_staged_is_swept_by_the_next_and_a_living_runs_area_is_not(
    work: Work, tmp_path: Path
) -> None:
    place = place_of("shared")
    folder = place.folder.parent.parent / "staging" / "shared"
    (folder / "left").mkdir(parents=True)
    (folder / "left" / "pixels").write_bytes(b"0" * 100)
    (folder / "left.lock").touch()
    with staging_area(place) as living, staging_area(place) as other:
        assert not (folder / "left").exists() and not (folder / "left.lock").exists()
        assert Path(living.url).is_dir() and Path(other.url).is_dir()
    assert left_in_staging("shared") == []


@dataclass(frozen=True)
class DiesOnce:
    """A reader whose process is killed when it has read some windows of a scene, the first time."""

    reader: DirectReader
    died: Path
    name: str = "dies-once"

    def read(
        self, scene: Scene, product: Product, windows: Sequence[WindowRequest], archive: Archive
    ) -> Iterator[WindowPixels]:
        for number, pixels in enumerate(self.reader.read(scene, product, windows, archive)):
            if number == 2:
                die_once(self.died)
            yield pixels


@dataclass(frozen=True)
class StagingOfADyingWorker(Staging):
    """Its worker is killed when the finest pixels of a chunk are written, and the others are not."""

    died: Path = Path()

    def fetch(self, samples: Sequence[Spooled]) -> FetchedPixels:
        return PixelsOfADyingWorker(super().fetch(samples).parts, self.died)


@dataclass(frozen=True)
class PixelsOfADyingWorker(FetchedPixels):
    died: Path = Path()

    def read(self, sample: Spooled, gsd_m: float | None) -> NDArray[Any]:
        if gsd_m != min(gsd for gsd in sample.layout.parts if gsd is not None):
            die_once(self.died)
        return super().read(sample, gsd_m)


def die_once(died: Path) -> None:
    try:
        died.touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
