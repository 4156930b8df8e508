"""Damage to a cube is found, named, and never read as pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

from catalog.cubes import Cube, layout, open_cube
from catalog.errors import CubeError
from catalog.scenes import Scene
from tests.catalog.cubes.made_up import location, product, sample, scene

OPTICAL = product()


@pytest.fixture
def cube() -> Cube:
    made = open_cube("demo", create=True, chunk_samples=4)
    with made.write("append") as writer:
        writer.add_locations(location(i) for i in range(6))
        writer.append(OPTICAL, [sample(OPTICAL, s, p) for s in (0, 1) for p in range(6)], scenes())
    assert made.verify() == []
    return made


def scenes() -> list[Scene]:
    return [scene(0, OPTICAL), scene(1, OPTICAL)]


def edit(cube: Cube, name: str, change: Callable[[zarr.Group, str], None]) -> None:
    session = cube.repository.writable_session("main")
    group = layout.subgroup(zarr.open_group(session.store, mode="r+"), OPTICAL.id)
    change(group, name)
    session.commit(f"edit {name}")


@pytest.mark.parametrize("name", ["r10m", "r20m"])
def test_a_wrong_value_is_found_in_the_snapshot_that_has_it(cube: Cube, name: str) -> None:
    sound = cube.snapshot()

    def add_one(group: zarr.Group, name: str) -> None:
        values = layout.array(group, name)
        values[7, 0, 3, 4] = values[7, 0, 3, 4] + 1

    edit(cube, name, add_one)
    damaged = cube.columns(OPTICAL.id)["sample"][7]
    problems = cube.verify()
    assert len(problems) == 1
    assert problems[0].startswith(f"{damaged}: ")
    assert cube.verify(sound) == []


def test_a_flipped_bit_in_any_stored_chunk_is_found(cube: Cube, swath_home: Path) -> None:
    files = sorted((swath_home / "store/cubes/demo/chunks").rglob("*"))
    assert len(files) >= 9
    for path in files:
        sound = path.read_bytes()
        broken = bytearray(sound)
        broken[len(broken) // 2] ^= 0x10
        path.write_bytes(broken)
        assert open_cube("demo").verify(), path
        path.write_bytes(sound)
    assert open_cube("demo").verify() == []


def test_a_broken_chunk_is_an_error_not_pixels(cube: Cube, swath_home: Path) -> None:
    for path in (swath_home / "store/cubes/demo/chunks").rglob("*"):
        broken = bytearray(path.read_bytes())
        broken[len(broken) // 2] ^= 0x01
        path.write_bytes(broken)
    with pytest.raises(CubeError, match="unreadable-chunk") as caught:
        open_cube("demo").read(OPTICAL.id, 10.0, np.arange(12))
    assert "swath cubes verify demo" in caught.value.next_step


def test_a_lost_chunk_is_found(cube: Cube, swath_home: Path) -> None:
    chunks = (swath_home / "store/cubes/demo/chunks").rglob("*")
    max(chunks, key=lambda path: path.stat().st_size).unlink()
    assert any(
        "rows 0 to 3" in problem or "rows 4 to 7" in problem or "rows 8 to 11" in problem
        for problem in open_cube("demo").verify()
    )


def test_an_orphan_column_is_found(cube: Cube) -> None:
    def add(group: zarr.Group, name: str) -> None:
        group.create_array(name, shape=(12,), dtype="float32", dimension_names=("sample",))

    edit(cube, "vegetation", add)
    assert cube.verify() == [f"{OPTICAL.id}/vegetation: orphan column, not part of the layout"]


@pytest.mark.parametrize("name", ["quality", "scale", "affine_20m", "superseded_by"])
def test_an_array_of_another_length_is_found(cube: Cube, name: str) -> None:
    def cut(group: zarr.Group, name: str) -> None:
        values = layout.array(group, name)
        values.resize((11, *values.shape[1:]))

    edit(cube, name, cut)
    assert f"{OPTICAL.id}/{name}: 11 entries for 12 samples" in cube.verify()


def test_a_missing_array_is_found(cube: Cube) -> None:
    def remove(group: zarr.Group, name: str) -> None:
        del group[name]

    edit(cube, "r20m", remove)
    assert f"{OPTICAL.id}/r20m: missing" in cube.verify()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("scene", "scene-009", "its scene is not listed in the cube"),
        ("location", "p999", "its location is not listed in the cube"),
        ("sample", f"{OPTICAL.id}/scene-000/p000", "there 2 times"),
    ],
)
def test_a_reference_that_leads_nowhere_is_found(cube: Cube, name: str, value: str, expected: str) -> None:
    def change(group: zarr.Group, name: str) -> None:
        layout.array(group, name)[11:12] = layout.text([value])

    edit(cube, name, change)
    assert any(problem.endswith(expected) for problem in cube.verify())


@pytest.mark.parametrize("name", ["band", "center_nm_20m", "fwhm_nm", "gsd_m"])
def test_a_band_that_is_not_the_products_is_found(cube: Cube, name: str) -> None:
    def change(group: zarr.Group, name: str) -> None:
        values = layout.array(group, name)
        values[0:1] = layout.text(["b9"]) if name == "band" else np.array([1.5])

    edit(cube, name, change)
    assert f"{OPTICAL.id}/{name}: not what the product's definition says" in cube.verify()


def test_a_scene_list_whose_ids_and_documents_differ_is_found(cube: Cube) -> None:
    def change(group: zarr.Group, name: str) -> None:
        listed = layout.array(layout.subgroup(group, layout.SCENES), "scene")
        listed[:] = layout.text([str(value) for value in listed[:]][::-1])

    edit(cube, "scenes", change)
    assert cube.verify() == [f"{OPTICAL.id}/scenes: ids and documents differ"]


@pytest.mark.parametrize("name", ["longitude", "split"])
def test_a_table_of_locations_of_two_lengths_is_found(cube: Cube, name: str) -> None:
    session = cube.repository.writable_session("main")
    column = layout.array(layout.subgroup(layout.open_root(session.store, write=True), "locations"), name)
    column.resize((column.shape[0] - 1,))
    session.commit(f"cut {name}")
    assert len(cube.verify()) == 1
