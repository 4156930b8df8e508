"""A large run commits in portions: whole scenes, with the marks of what they replace, each sample once."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalog.cubes import Cube, open_cube
from catalog.cubes.writer import WriteResult
from catalog.locations import sample_locations
from catalog.scenes import Scene
from tasks.cube.scenes import CubeResult, Progress, cube_scenes
from tasks.readers.registry import load_reader
from tasks.search.scenes import search_scenes
from tests.tasks.sandbox_archive import Sandbox
from tests.tasks.scene_files import built_in

PRODUCT = "landsat-oli-sr"


def cubed(
    sandbox: Sandbox,
    name: str,
    product: str = PRODUCT,
    *,
    every_bytes: int = 8 << 30,
    progress: Progress | None = None,
    order: tuple[str, ...] = (),
) -> tuple[Cube, CubeResult, WriteResult]:
    """All scenes of the product, or those named, into a cube of this name."""
    definition = built_in(product)
    found: dict[str, Scene] = {
        scene.id: scene
        for scene in search_scenes(sandbox.archive, definition, sandbox.area, sandbox.period).scenes
    }
    scenes = [found[scene] for scene in order] or list(found.values())
    recipe = sandbox.recipe()
    locations = sample_locations(recipe.locations, sandbox.area, [definition], list(found.values()))
    cube = open_cube(name, create=True, products=[definition])
    with cube.write("in portions", commit_every_bytes=every_bytes) as writer:
        done = cube_scenes(
            recipe,
            definition,
            scenes,
            locations,
            cube,
            load_reader(),
            sandbox.archive,
            progress,
            writer=writer,
        )
    return cube, done, writer.result


def samples(cube: Cube, product: str = PRODUCT) -> dict[str, str]:
    """Checksum by sample id; each is there once."""
    columns = cube.columns(product)
    assert columns["sample"].is_unique
    return dict(zip(columns["sample"], columns["sha256"], strict=True))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWATH_HOME", str(tmp_path))


def test_portions_hold_together_what_one_commit_holds(sandbox: Sandbox) -> None:
    one, expected, whole = cubed(sandbox, "one")
    many, done, portions = cubed(sandbox, "many", every_bytes=1)
    assert samples(many) == samples(one) and many.verify() == []
    assert (done, portions.appended) == (expected, whole.appended)
    assert portions.committed and portions.snapshot == many.snapshot()
    written = [version for version in many.history() if version.appended]
    assert len(written) == len(done.cubed) > 1, "a portion of one byte is a scene"
    for version in written:
        # Never a part of a scene.
        for scene, count in many.columns(PRODUCT, version.id)["scene"].value_counts().items():
            assert count == done.cubed[scene]


def test_a_run_of_ordinary_size_is_one_commit(sandbox: Sandbox) -> None:
    cube, _, _ = cubed(sandbox, "ordinary")
    assert sum(bool(version.appended) for version in cube.history()) == 1


def test_a_run_that_ends_early_has_lost_the_open_portion_only(sandbox: Sandbox) -> None:
    def stop(what: str, done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cubed(sandbox, "stopped", every_bytes=1, progress=stop)
    cube = open_cube("stopped")
    begun = samples(cube)
    assert begun
    _, again, _ = cubed(sandbox, "stopped", every_bytes=1)
    one, expected, _ = cubed(sandbox, "one")
    assert samples(cube) == samples(one) and cube.verify() == []
    assert again.samples_written == len(samples(one)) - len(begun)
    assert again.cubed == expected.cubed


@pytest.mark.parametrize("newer_first", [False, True])
def test_a_replaced_scene_is_marked_in_the_commit_that_replaces_it(
    newer_first: bool, sandbox: Sandbox
) -> None:
    product = "sentinel-2-l2a"
    old, new = sandbox.info.superseded[product]
    order = (new, old) if newer_first else (old, new)
    cube, done, _ = cubed(sandbox, "versions", product, every_bytes=1, order=order)
    assert done.superseded == {old: new}
    for version in cube.history():
        if product not in version.appended:
            continue
        columns = cube.columns(product, version.id)
        if new in set(columns["scene"]) and old in set(columns["scene"]):
            assert set(columns.loc[columns["scene"] == old, "superseded_by"]) == {new}
