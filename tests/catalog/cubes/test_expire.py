"""Old snapshots go with the bytes that only they need; what somebody needs stays whole."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import zarr

from catalog.cubes import Cube, open_cube
from catalog.cubes import expire as expire_module
from catalog.errors import CubeError
from tests.catalog.cubes.made_up import location, product, sample, scene

OPTICAL = product()


def append(cube: Cube, number: int) -> str:
    with cube.write(f"scene {number}") as writer:
        writer.add_locations(location(i) for i in range(5))
        writer.append(OPTICAL, (sample(OPTICAL, number, i) for i in range(5)), [scene(number, OPTICAL)])
    return writer.result.snapshot


def now() -> datetime:
    return datetime.now(UTC)


def stored(cube: Cube) -> int:
    folders = ("chunks", "manifests", "snapshots", "transactions")
    files = (path for name in folders for path in (cube.place.folder / name).rglob("*"))
    return sum(path.stat().st_size for path in files)


def ids(cube: Cube) -> list[str]:
    return [version.id for version in cube.history()]


@pytest.fixture
def cube() -> Cube:
    return open_cube("demo", create=True, chunk_samples=4)


def test_old_snapshots_go_and_the_newest_stays(cube: Cube) -> None:
    first, second, third = (append(cube, number) for number in range(3))
    before = stored(cube)
    done = cube.expire(now())

    assert done.snapshots == (first, second)
    assert done.kept == {third: "the newest"}
    assert ids(cube) == [third]
    assert done.bytes_freed == before - stored(cube) > 0
    assert open_cube("demo").verify() == []
    for gone in (first, second):
        with pytest.raises(CubeError, match="unknown-snapshot"):
            cube.columns(OPTICAL.id, gone)


def test_what_is_younger_than_asked_for_stays(cube: Cube) -> None:
    first = append(cube, 0)
    limit = now()
    second, third = append(cube, 1), append(cube, 2)
    assert cube.expire(limit).snapshots == (first,)
    assert ids(cube) == [third, second]
    assert cube.verify(second) == []
    again = cube.expire(limit)
    assert (again.snapshots, dict(again.kept), again.bytes_freed) == ((), {}, 0)


def test_a_snapshot_that_a_tag_or_branch_names_stays_whole(cube: Cube) -> None:
    first, second, third, newest = (append(cube, number) for number in range(4))
    cube.tag("encoder.1", first)
    cube.repository.create_branch("try", second)
    done = cube.expire(now())

    assert done.snapshots == (third,)
    assert done.kept == {first: "tag encoder.1", second: "branch try", newest: "the newest"}
    for ref in ("encoder.1", second, newest):
        assert open_cube("demo").verify(ref) == []
    assert len(cube.columns(OPTICAL.id, "encoder.1")) == 5


@pytest.mark.parametrize("reason", [None, "encoder owl@3"])
def test_a_snapshot_that_is_asked_for_stays_until_it_is_no_longer(cube: Cube, reason: str | None) -> None:
    first, second, third = (append(cube, number) for number in range(3))
    keep: Any = [first] if reason is None else {first: reason}
    done = cube.expire(now(), keep=keep)
    assert done.snapshots == (second,)
    assert done.kept == {first: reason or "asked to be kept", third: "the newest"}
    append(cube, 3)
    assert open_cube("demo").verify(first) == []
    assert cube.expire(now(), keep=keep).snapshots == (third,)
    assert open_cube("demo").verify(first) == []

    assert cube.expire(now()).snapshots == (first,)
    with pytest.raises(CubeError, match="unknown-snapshot"):
        cube.snapshot(first)


def test_asking_to_keep_what_is_not_there_is_no_error(cube: Cube) -> None:
    append(cube, 0)
    newest = append(cube, 1)
    assert dict(cube.expire(now(), keep=["1CECHNKREP0F1RSTCMT0", "gone"]).kept) == {newest: "the newest"}


def test_a_dry_run_tells_the_same_and_changes_nothing(cube: Cube) -> None:
    first, second = append(cube, 0), append(cube, 1)
    append(cube, 2)
    cube.tag("encoder.1", first)
    files = contents(cube.place.folder)
    told = cube.expire(now(), dry_run=True)
    assert contents(cube.place.folder) == files
    assert told.snapshots == (second,)
    assert told.bytes_freed > 0
    assert cube.expire(now()) == told


def contents(folder: Path) -> Mapping[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_killed_writers_left_goes_too(cube: Cube) -> None:
    newest = append(cube, 0)
    session = cube.repository.writable_session("main")
    lost = zarr.open_group(session.store, mode="r+").create_array("lost", shape=(4096,), dtype="float64")
    lost[:] = range(4096)
    staged = cube.place.folder / "chunks" / "ABC#7"
    staged.write_bytes(b"half")
    cube.place.journal_file.touch()
    done = cube.expire(now() - timedelta(days=30))
    assert (done.snapshots, done.kept) == ((), {})
    assert done.bytes_freed > 0
    assert not staged.exists()
    assert not cube.place.journal_file.exists()
    assert ids(cube) == [newest]
    assert cube.verify() == []


@pytest.mark.parametrize("dies_at", ["_hold", "sweep"])
def test_an_expiry_that_dies_is_ended_by_the_next(
    cube: Cube, dies_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = append(cube, 0)
    second = append(cube, 1)
    append(cube, 2)

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(expire_module, dies_at, die)
        cube.expire(now(), keep=[first])
    again = open_cube("demo")
    assert again.verify() == []
    assert again.verify(first) == []
    assert again.place.journal_file.exists()
    assert again.expire(now(), keep=[first]).snapshots == ((second,) if dies_at == "_hold" else ())
    assert again.verify(first) == []
    assert not again.place.journal_file.exists()


def test_a_time_without_a_zone_is_refused(cube: Cube) -> None:
    with pytest.raises(ValueError, match="time zone"):
        cube.expire(datetime(2024, 1, 1))
