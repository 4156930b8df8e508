"""A commit holds everything or nothing; what is there already is not written again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catalog.cubes import Cube, layout, list_cubes, open_cube
from catalog.errors import CubeError, UsageError
from catalog.products.model import Product
from catalog.samples import Sample
from tests.catalog.cubes.made_up import location, product, sample, scene

OPTICAL = product()


def append(cube: Cube, samples: list[Sample], of: Product = OPTICAL) -> Any:
    with cube.write("append") as writer:
        writer.add_locations(location(i) for i in range(8))
        writer.append(of, samples, [scene(i, of) for i in range(8)])
    return writer.result


def test_samples_that_are_held_are_not_written_again() -> None:
    cube = open_cube("demo", create=True)
    first = append(cube, [sample(OPTICAL, 0, p) for p in range(3)])
    again = append(cube, [sample(OPTICAL, 0, p) for p in range(3)])
    more = append(cube, [sample(OPTICAL, 0, p) for p in range(4)])

    assert (first.committed, first.appended, first.skipped) == (True, {OPTICAL.id: 3}, 0)
    assert (again.committed, again.appended, again.skipped) == (False, {}, 3)
    assert again.snapshot == first.snapshot
    assert (more.appended, more.skipped) == ({OPTICAL.id: 1}, 3)
    assert [version.id for version in cube.history()] == [more.snapshot, first.snapshot]
    assert [dict(version.appended) for version in cube.history()] == [{OPTICAL.id: 1}, {OPTICAL.id: 3}]
    assert cube.columns(OPTICAL.id)["sample"].is_unique


def test_nothing_appended_makes_no_commit() -> None:
    cube = open_cube("demo", create=True)
    before = cube.snapshot()
    with cube.write("nothing") as writer:
        writer.add_locations([location(0)])
        writer.append(OPTICAL, [], [scene(0, OPTICAL)])
        writer.supersede("scene-000", "scene-001", OPTICAL.id)
    assert not writer.result.committed
    assert writer.result.snapshot == before == cube.snapshot()
    assert cube.history() == []


def test_an_error_while_samples_come_leaves_the_cube_as_it_was() -> None:
    cube = open_cube("demo", create=True)
    before = append(cube, [sample(OPTICAL, 0, 0)]).snapshot

    def broken() -> Iterator[Sample]:
        yield sample(OPTICAL, 1, 0)
        raise OSError("the archive hung up")

    with pytest.raises(OSError, match="hung up"), cube.write("broken") as writer:
        writer.append(OPTICAL, broken(), [scene(1, OPTICAL)])
    assert cube.snapshot() == before
    with pytest.raises(CubeError, match="not-committed"):
        _ = writer.result
    assert append(cube, [sample(OPTICAL, 1, 0)]).appended == {OPTICAL.id: 1}
    assert cube.verify() == []


def test_a_superseded_scene_is_marked_in_the_new_snapshot_only() -> None:
    cube = open_cube("demo", create=True)
    old = append(cube, [sample(OPTICAL, s, p) for s in (0, 1) for p in (0, 1)]).snapshot
    with cube.write("reprocessed") as writer:
        writer.append(OPTICAL, [sample(OPTICAL, 5, 0)], [scene(5, OPTICAL)])
        writer.supersede("scene-000", "scene-005", OPTICAL.id)

    new = writer.result
    assert new.superseded == {OPTICAL.id: 2}
    marked = cube.columns(OPTICAL.id).set_index("sample")["superseded_by"]
    assert dict(marked[marked != ""]) == {
        f"{OPTICAL.id}/scene-000/{place}": "scene-005" for place in ("p000", "p001")
    }
    assert (cube.columns(OPTICAL.id, old)["superseded_by"] == "").all()
    assert len(cube.columns(OPTICAL.id, old)) == 4
    assert dict(cube.history()[0].superseded) == {"scene-000": "scene-005"}

    with cube.write("again") as writer:
        writer.supersede("scene-000", "scene-005", OPTICAL.id)
    assert not writer.result.committed


def test_an_old_snapshot_stays_as_it_was() -> None:
    cube = open_cube("demo", create=True, chunk_samples=4)
    first = append(cube, [sample(OPTICAL, 0, p) for p in range(3)]).snapshot
    pixels = cube.read(OPTICAL.id, 10.0, [0, 1, 2], first)
    cube.tag("paper", first)
    append(cube, [sample(OPTICAL, 1, p) for p in range(3)])

    for ref in (first, "paper"):
        assert len(open_cube("demo").columns(OPTICAL.id, ref)) == 3
        assert np.array_equal(open_cube("demo").read(OPTICAL.id, 10.0, [0, 1, 2], ref), pixels)
        with pytest.raises(CubeError, match="row-out-of-range"):
            cube.read(OPTICAL.id, 10.0, [3], ref)
    assert len(cube.columns(OPTICAL.id)) == 6


def test_an_append_writes_the_tail_chunk_only() -> None:
    cube = open_cube("demo", create=True, chunk_samples=4)
    append(cube, [sample(OPTICAL, 0, p) for p in range(6)])
    diff = append(cube, [sample(OPTICAL, 1, p) for p in range(3)])
    parent = cube.history()[1].id
    changed = cube.repository.diff(from_snapshot_id=parent, to_snapshot_id=diff.snapshot).updated_chunks
    assert {tuple(index) for index in changed[f"/{OPTICAL.id}/r10m"]} == {(1, 0, 0, 0), (2, 0, 0, 0)}


def test_a_tag_never_moves() -> None:
    cube = open_cube("demo", create=True)
    first = append(cube, [sample(OPTICAL, 0, 0)]).snapshot
    second = append(cube, [sample(OPTICAL, 1, 0)]).snapshot
    cube.tag("paper", first)
    cube.tag("paper", first)
    with pytest.raises(CubeError, match="tag-taken"):
        cube.tag("paper", second)
    assert cube.snapshot("paper") == first


def test_a_location_keeps_its_split() -> None:
    cube = open_cube("demo", create=True)
    append(cube, [sample(OPTICAL, 0, 0)])
    moved = location(0).__class__(**{**vars(location(0)), "split": "probe"})
    with pytest.raises(CubeError, match="location-changed"), cube.write("moved") as writer:
        writer.add_locations([moved])


@pytest.mark.parametrize(
    "changes",
    [
        {"quality": np.zeros((12, 12), np.int16)},
        {"scale": np.ones(2)},
        {"pixels": {10.0: np.zeros((2, 24, 24), np.uint16)}},
        {"pixels": {10.0: np.zeros((2, 24, 24), np.int32), 20.0: np.zeros((1, 12, 12), np.uint16)}},
        {"pixels": {10.0: np.zeros((2, 24, 20), np.uint16), 20.0: np.zeros((1, 12, 12), np.uint16)}},
    ],
)
def test_a_sample_that_would_not_be_kept_as_it_is_is_refused(changes: dict[str, Any]) -> None:
    cube = open_cube("demo", create=True)
    before = append(cube, [sample(OPTICAL, 0, 0)]).snapshot
    with pytest.raises(CubeError, match="sample-mismatch") as caught:
        append(cube, [sample(OPTICAL, 1, 0, **changes)])
    assert caught.value.subject == f"{OPTICAL.id}/scene-001/p000"
    assert cube.snapshot() == before


def test_samples_need_their_scene_and_location() -> None:
    cube = open_cube("demo", create=True)
    with pytest.raises(CubeError, match="location-missing"), cube.write("x") as writer:
        writer.append(OPTICAL, [sample(OPTICAL, 0, 0)], [scene(0, OPTICAL)])
    with pytest.raises(CubeError, match="scene-missing"), cube.write("x") as writer:
        writer.add_locations([location(0)])
        writer.append(OPTICAL, [sample(OPTICAL, 0, 0)], [])
    assert cube.history() == []


def test_a_product_that_changed_is_refused_and_a_new_title_is_not() -> None:
    cube = open_cube("demo", create=True, products=[OPTICAL])
    append(cube, [sample(OPTICAL, 0, 0)])
    retitled = OPTICAL.model_copy(update={"title": "Better title"})
    append(cube, [sample(OPTICAL, 1, 0)], retitled)
    changed = product(dtype="int16")
    with pytest.raises(CubeError, match="product-changed"):
        append(cube, [sample(changed, 2, 0)], changed)
    with pytest.raises(CubeError, match="product-changed"):
        open_cube("demo", create=True, products=[changed])


def test_a_product_without_samples_yet_has_empty_columns() -> None:
    radar = product("toy-radar", dtype="float32", nodata=float("nan"))
    cube = open_cube("demo", create=True, products=[OPTICAL, radar])
    declared = cube.snapshot()
    assert list(cube.products()) == [OPTICAL.id, radar.id]
    assert len(cube.columns(radar.id)) == 0
    assert cube.columns(radar.id).dtypes["time"] == "datetime64[ns, UTC]"
    assert cube.scenes(radar.id) == {}
    assert open_cube("demo", create=True, products=[OPTICAL, radar]).snapshot() == declared
    append(cube, [sample(radar, 0, 0)], radar)
    assert np.isnan(layout.array(cube.reader().group(radar.id), "r10m").fill_value)
    assert cube.verify() == []


def test_a_cube_opened_before_sees_what_another_wrote() -> None:
    early = open_cube("demo", create=True)
    assert early.products() == {}
    append(open_cube("demo"), [sample(OPTICAL, 0, 0)])
    assert len(early.columns(OPTICAL.id)) == 1


def test_a_cube_that_is_not_there_is_not_made_by_looking(swath_home: Path) -> None:
    with pytest.raises(CubeError, match="cube-not-found"):
        open_cube("demo")
    with pytest.raises(UsageError, match="bad-cube-name"):
        open_cube("../demo", create=True)
    assert list_cubes() == []
    assert not list(swath_home.rglob("demo*"))
    open_cube("demo", create=True)
    assert list_cubes() == ["demo"]


def test_a_foreign_repository_is_not_taken_for_a_cube(swath_home: Path) -> None:
    import icechunk
    import zarr

    folder = swath_home / "store" / "cubes" / "weather"
    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(folder)))
    session = repository.writable_session("main")
    zarr.open_group(session.store, mode="a").create_group("temperature")
    session.commit("not ours")
    with pytest.raises(CubeError, match="not-a-cube"):
        open_cube("weather")


def test_stdout_stays_empty(capfd: pytest.CaptureFixture[str]) -> None:
    cube = open_cube("demo", create=True)
    append(cube, [sample(OPTICAL, 0, 0)])
    open_cube("demo").read(OPTICAL.id, 10.0, [0])
    cube.history()
    assert cube.verify() == []
    assert capfd.readouterr().out == ""


def test_memory_stays_bounded_by_chunks_not_by_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    import tracemalloc

    from catalog.cubes import spool

    monkeypatch.setattr(spool, "IN_MEMORY_BYTES", 1 << 20)
    big = product("toy-big", gsds=(1.0,))
    count = 200
    cube = open_cube("demo", create=True, chunk_samples=4)
    tracemalloc.start()
    with cube.write("many") as writer:
        writer.add_locations(location(i) for i in range(count))
        writer.append(big, (sample(big, 0, i) for i in range(count)), [scene(0, big)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    raw = count * 240 * 240 * 2
    assert len(cube.columns(big.id)) == count
    assert peak < raw / 2
