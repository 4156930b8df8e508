"""A compaction changes the order of samples and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.cubes import Cube, compact, layout, open_cube
from catalog.errors import CubeError
from catalog.products.model import Product
from catalog.settings import Settings
from tests.catalog.cubes.made_up import location, product, sample, scene

OPTICAL = product()
RADAR = product("toy-radar", dtype="float32", nodata=float("nan"), gsds=(10.0, 10.0), rule="power-to-db")
PLACES = 7
ROOT = Path(__file__).resolve().parents[3]


def append(cube: Cube, number: int, of: Product = OPTICAL, places: Any = range(PLACES)) -> str:
    with cube.write(f"scene {number}") as writer:
        writer.add_locations(location(i) for i in range(PLACES))
        writer.append(of, (sample(of, number, i) for i in places), [scene(number, of)])
    return writer.result.snapshot


def wanted_order(columns: pd.DataFrame) -> pd.DataFrame:
    block = columns["location"].map({location(i).id: location(i).block for i in range(PLACES)})
    return columns.assign(block=block).sort_values(["block", "location", "time", "scene"])


def everything(cube: Cube, of: Product, snapshot: str | None = None) -> dict[str, dict[str, Any]]:
    """Sample id → everything the cube holds of it but its row."""
    columns = cube.columns(of.id, snapshot)
    rows = columns["row"].to_numpy()
    parts = {f"r{gsd:g}": cube.read(of.id, gsd, rows, snapshot) for gsd in of.resolutions_m}
    parts |= {f"affine{gsd:g}": cube.affine(of.id, gsd, rows, snapshot) for gsd in of.resolutions_m}
    parts |= cube.calibration(of.id, rows, snapshot)
    parts["quality"] = cube.read_quality(of.id, rows, snapshot)
    records = columns.drop(columns="row").to_dict("records")
    return {
        record["sample"]: {k: repr(v) for k, v in record.items()}
        | {name: values[row].tobytes() for name, values in parts.items()}
        for row, record in enumerate(records)
    }


@pytest.fixture
def cube() -> Cube:
    made = open_cube("demo", create=True, chunk_samples=4)
    for number in (2, 0, 1):
        append(made, number)
        append(made, number, RADAR, places=range(0, PLACES, 2))
    return made


def test_samples_lie_by_block_place_and_date_in_every_product(cube: Cube) -> None:
    before = cube.snapshot()
    held = {of.id: everything(cube, of) for of in (OPTICAL, RADAR)}
    done = cube.compact()

    assert done.committed
    assert done.snapshot == cube.snapshot() != before
    for of in (OPTICAL, RADAR):
        columns = cube.columns(of.id)
        assert list(columns["sample"]) == list(wanted_order(columns)["sample"])
        old = dict(zip(*cube.columns(of.id, before)[["sample", "row"]].to_numpy().T, strict=True))
        assert done.moved[of.id] == sum(old[name] != row for row, name in enumerate(columns["sample"]))
        assert everything(cube, of) == held[of.id]
        assert everything(cube, of, before) == held[of.id]
    assert cube.verify() == []
    assert cube.verify(before) == []


def test_what_is_in_order_is_left_alone(cube: Cube) -> None:
    first = cube.compact()
    again = cube.compact()
    assert (again.committed, again.snapshot, dict(again.moved)) == (False, first.snapshot, {})
    assert cube.snapshot() == first.snapshot


def test_an_empty_cube_has_nothing_to_be_ordered() -> None:
    cube = open_cube("demo", create=True)
    assert cube.compact() == compact.Compacted(cube.snapshot(), False, {})
    cube.declare([OPTICAL])
    assert not cube.compact().committed


def test_chunks_that_are_in_order_are_not_written_again() -> None:
    cube = open_cube("demo", create=True, chunk_samples=2)
    append(cube, 0, places=range(PLACES))
    append(cube, 1, places=[PLACES - 1])
    append(cube, 2, places=[PLACES - 2])
    parent = cube.snapshot()
    assert dict(cube.compact().moved) == {OPTICAL.id: 3}
    changed = cube.repository.diff(from_snapshot_id=parent, to_snapshot_id=cube.snapshot()).updated_chunks
    assert {index[0] for index in changed[f"/{OPTICAL.id}/r10m"]} == {3, 4}


def test_superseded_samples_stay_and_stay_marked(cube: Cube) -> None:
    with cube.write("reprocessed") as writer:
        writer.append(OPTICAL, [sample(OPTICAL, 5, 3)], [scene(5, OPTICAL)])
        writer.supersede("scene-000", "scene-005", OPTICAL.id)
    cube.compact()
    columns = cube.columns(OPTICAL.id)
    assert set(columns.loc[columns["superseded_by"] != "", "scene"]) == {"scene-000"}
    assert len(columns) == 3 * PLACES + 1


def test_refreshes_go_on_after_a_compaction(cube: Cube) -> None:
    cube.compact()
    append(cube, 3)
    assert len(cube.columns(OPTICAL.id)) == 4 * PLACES
    assert cube.compact().committed
    assert cube.verify() == []


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    commits=st.lists(
        st.lists(
            st.tuples(st.integers(0, 5), st.integers(0, PLACES - 1)), min_size=1, max_size=6, unique=True
        ),
        min_size=1,
        max_size=5,
    ),
    chunk=st.integers(1, 5),
    cache=st.sampled_from([1, compact.CACHE_BYTES]),
)
def test_any_history_of_commits_ends_in_one_order(
    commits: list[list[tuple[int, int]]], chunk: int, cache: int, tmp_path_factory: Any, monkeypatch: Any
) -> None:
    home = tmp_path_factory.mktemp("home")
    cube = open_cube("demo", Settings(home, "", str(home / "store")), create=True, chunk_samples=chunk)
    for commit in commits:
        with cube.write("more") as writer:
            writer.add_locations(location(i) for i in range(PLACES))
            samples = (sample(OPTICAL, number, place) for number, place in commit)
            writer.append(OPTICAL, samples, [scene(n, OPTICAL) for n in range(6)])
    held = everything(cube, OPTICAL)
    with monkeypatch.context() as patched:
        patched.setattr(compact, "CACHE_BYTES", cache)
        cube.compact()
    columns = cube.columns(OPTICAL.id)
    assert list(columns["sample"]) == list(wanted_order(columns)["sample"])
    assert everything(cube, OPTICAL) == held
    assert cube.verify() == []


@pytest.mark.parametrize("name", ["r20m", "quality", "scale", "sha256"])
def test_damage_stops_it_and_nothing_is_published(cube: Cube, name: str, swath_home: Path) -> None:
    session = cube.repository.writable_session("main")
    values = layout.array(layout.subgroup(layout.open_root(session.store, write=True), OPTICAL.id), name)
    if name in ("r20m", "sha256"):
        values[9] = values[9] + 1 if name == "r20m" else layout.text(["0" * 64])[0]  # no longer as recorded
        session.commit("damage")
    else:
        stored = set((swath_home / "store/cubes/demo/chunks").rglob("*"))
        values[:] = np.random.default_rng(0).random(values.shape) if name == "scale" else values[:] ^ 1
        session.commit("rewritten")
        for path in set((swath_home / "store/cubes/demo/chunks").rglob("*")) - stored:
            if path.is_file():
                broken = bytearray(path.read_bytes())
                broken[len(broken) // 2] ^= 1
                path.write_bytes(broken)
    before = cube.snapshot()
    with pytest.raises(CubeError) as caught:
        open_cube("demo").compact()
    assert caught.value.code in ("cube-damaged", "unreadable-chunk")
    assert "swath cubes verify demo" in caught.value.next_step
    assert cube.snapshot() == before


KILLED = """
import os, signal
from catalog.cubes import compact, open_cube

whole = compact.{at}
def die(*given):
    die.left -= 1
    if die.left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(*given)
die.left = {calls}
compact.{at} = die
open_cube("demo").compact()
"""


@pytest.mark.parametrize(("at", "calls"), [("_place", 0), ("_place", 9), ("_place", 20), ("publish", 0)])
def test_killed_at_any_point_it_leaves_main_as_it_was(cube: Cube, at: str, calls: int) -> None:
    before = cube.snapshot()
    held = everything(cube, OPTICAL)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED.format(at=at, calls=calls)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    again = open_cube("demo")
    assert again.snapshot() == before
    assert again.verify() == []
    assert again.compact().committed
    assert everything(again, OPTICAL) == held
    assert again.verify() == []
