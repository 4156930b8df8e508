"""Writers race and die; ``main`` has every published sample and nothing else."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Any

import icechunk
import numpy as np
import pytest
import zarr

from catalog.cubes import Cube, layout, list_cubes, open_cube
from catalog.cubes import writer as writer_module
from catalog.cubes.place import Place, place_of
from catalog.cubes.publish import publish
from catalog.errors import CubeError
from tests.catalog.cubes.made_up import location, product, sample, scene

OPTICAL = product()
ROOT = Path(__file__).resolve().parents[3]

WRITER = """
import json, os, signal, sys
from catalog.cubes import open_cube, writer as writer_module
from tests.catalog.cubes.made_up import location, product, sample, scene

die_at, first, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if die_at:
    setattr(writer_module, die_at, lambda *given: os.kill(os.getpid(), signal.SIGKILL))
made = product()
cube = open_cube("demo", create=True, chunk_samples=4)
print("ready", flush=True)
sys.stdin.readline()
for number in range(first, first + rounds):
    with cube.write(f"scene {number}") as writer:
        writer.add_locations(location(i) for i in range(5))
        writer.append(made, (sample(made, number, i) for i in range(5)), [scene(number, made)])
    print(json.dumps([number, writer.result.snapshot]), flush=True)
"""


def start(die_at: str = "", first: int = 0, rounds: int = 1) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, die_at, str(first), str(rounds)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def append(cube: Cube, number: int) -> str:
    with cube.write(f"scene {number}") as writer:
        writer.add_locations(location(i) for i in range(5))
        writer.append(OPTICAL, (sample(OPTICAL, number, i) for i in range(5)), [scene(number, OPTICAL)])
    return writer.result.snapshot


@pytest.fixture
def cube() -> Cube:
    made = open_cube("demo", create=True, chunk_samples=4)
    append(made, 90)
    return made


def leftovers(cube: Cube) -> list[str]:
    return [path.name for path in cube.place.folder.rglob("*#*")] + [
        path.name for path in cube.place.folder.parent.glob("*.writing")
    ]


def stored_bytes(cube: Cube) -> int:
    return sum(path.stat().st_size for path in (cube.place.folder / "chunks").rglob("*"))


def reachable_bytes(cube: Cube) -> int:
    return int(cube.repository.chunk_storage_stats().native_bytes)


@pytest.mark.parametrize(
    "rounds", [4, pytest.param(100, marks=[pytest.mark.long, pytest.mark.timeout(1800)])]
)
def test_four_processes_that_write_at_once_lose_nothing(cube: Cube, rounds: int) -> None:
    writers = [start(first=100 + rounds * k, rounds=rounds) for k in range(4)]
    for process in writers:
        ready(process)
    for process in writers:
        go(process)
    told = [
        json.loads(line) for process in writers for line in process.communicate(timeout=1500)[0].splitlines()
    ]

    assert all(process.returncode == 0 for process in writers)
    assert len(told) == 4 * rounds
    columns = cube.columns(OPTICAL.id)
    assert columns["sample"].is_unique
    assert len(columns) == 5 * (4 * rounds + 1)
    assert set(columns["scene"]) == {f"scene-{number:03d}" for number, _ in told} | {"scene-090"}
    assert {version.id for version in cube.history()} >= {snapshot for _, snapshot in told}
    assert cube.verify() == []
    assert leftovers(cube) == []


@pytest.mark.parametrize("die_at", ["write_columns", "publish"])
def test_a_writer_killed_in_mid_append_leaves_main_unchanged_and_its_leftovers_are_swept(
    cube: Cube, die_at: str
) -> None:
    before = cube.snapshot()
    process = start(die_at)
    ready(process)
    go(process)
    process.communicate(timeout=60)

    assert process.returncode == -signal.SIGKILL
    assert open_cube("demo").snapshot() == before
    assert open_cube("demo").verify() == []
    assert stored_bytes(cube) > reachable_bytes(cube)
    assert cube.place.journal_file.exists()

    append(cube, 0)
    assert set(cube.columns(OPTICAL.id)["scene"]) == {"scene-000", "scene-090"}
    assert cube.verify() == []
    assert cube.verify(before) == []
    assert stored_bytes(cube) == reachable_bytes(cube)
    assert leftovers(cube) == []


def test_kills_at_any_moment_leave_whole_commits_only(cube: Cube) -> None:
    rng = random.Random(0)
    writers = [start(first=10 * k, rounds=10) for k in range(3)]
    for process in writers:
        ready(process)
    published: set[int] = set()
    for process in writers:
        go(process)
        time.sleep(rng.uniform(0.05, 0.6))
        process.kill()
        published |= {json.loads(line)[0] for line in process.communicate()[0].splitlines()}

        columns = open_cube("demo").columns(OPTICAL.id)
        assert set(columns.groupby("scene").size()) == {5}
        assert set(columns["scene"]) >= {f"scene-{number:03d}" for number in published}
        assert open_cube("demo").verify() == []
    for k in range(3):
        for number in range(10 * k, 10 * k + 3):
            append(cube, number)
    assert cube.verify() == []
    assert leftovers(cube) == []


def test_a_process_killed_while_it_creates_a_cube_does_not_block_the_next(swath_home: Path) -> None:
    folder = place_of("demo").folder
    whole = open_cube("demo", create=True)
    append(whole, 0)
    (folder / "repo").unlink()
    assert append(open_cube("demo", create=True), 1)
    assert len(open_cube("demo").columns(OPTICAL.id)) == 5


def test_main_that_moved_is_not_overwritten(cube: Cube) -> None:
    late = cube.repository.writable_session("main")
    zarr.open_group(late.store, mode="r+").attrs["late"] = True
    published = append(cube, 0)
    with pytest.raises(CubeError, match="main-moved") as caught:
        publish(cube.place, late, "too late", {})
    assert "rerun" in caught.value.next_step
    assert cube.snapshot() == published


def test_a_busy_cube_is_waited_for_and_then_refused(cube: Cube) -> None:
    with cube.place.locked():
        with pytest.raises(CubeError, match="cube-busy"), cube.place.locked(timeout_s=0.1):
            pass
        waiting = Thread(target=append, args=(cube, 0))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
    waiting.join(30)
    assert "scene-000" in set(cube.columns(OPTICAL.id)["scene"])


def test_readers_in_threads_agree_with_one_reader(cube: Cube) -> None:
    expected = cube.read(OPTICAL.id, 10.0, range(5)).tobytes()
    again = open_cube("demo")
    with ThreadPoolExecutor(4) as pool:
        reads = list(pool.map(lambda _: again.read(OPTICAL.id, 10.0, range(5)).tobytes(), range(16)))
    assert set(reads) == {expected}


S3_SERVER = """
import sys
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(port=0, verbose=False)
server.start()
print("http://%s:%d" % server.get_host_and_port(), flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def s3_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A bucket of a real S3 server in its own process: some calls of Icechunk hold the interpreter lock."""
    server = subprocess.Popen(
        [sys.executable, "-c", S3_SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        endpoint = server.stdout.readline().strip()
        request = urllib.request.Request(f"{endpoint}/cubes-bucket", method="PUT")
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20).close()
        for name, value in {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_REGION": "us-east-1",
            "SWATH_STORE": "s3://cubes-bucket/team",
        }.items():
            monkeypatch.setenv(name, value)
        yield
    finally:
        server.kill()
        server.communicate()


@pytest.mark.usefixtures("s3_store")
def test_a_cube_in_s3_takes_one_writer_of_a_race() -> None:
    assert list_cubes() == []
    with pytest.raises(CubeError, match="cube-not-found"):
        open_cube("demo")
    cube = open_cube("demo", create=True, chunk_samples=4)
    append(cube, 0)
    late = open_cube("demo").repository.writable_session("main")
    zarr.open_group(late.store, mode="r+").attrs["late"] = True
    append(open_cube("demo"), 1)
    with pytest.raises(CubeError, match="main-moved"):
        publish(cube.place, late, "too late", {})


@pytest.mark.usefixtures("s3_store")
@pytest.mark.parametrize(
    ("count", "rounds"), [(3, 2), pytest.param(4, 25, marks=[pytest.mark.long, pytest.mark.timeout(1200)])]
)
def test_writers_of_a_cube_in_s3_all_get_their_turn(count: int, rounds: int) -> None:
    cube = open_cube("demo", create=True, chunk_samples=4)
    append(cube, 90)
    writers = [start(first=100 + rounds * k, rounds=rounds) for k in range(count)]
    for process in writers:
        ready(process)
    for process in writers:
        go(process)
    told = [
        json.loads(line) for process in writers for line in process.communicate(timeout=900)[0].splitlines()
    ]
    assert all(process.returncode == 0 for process in writers)
    assert len(told) == count * rounds
    columns = cube.columns(OPTICAL.id)
    assert columns["sample"].is_unique
    assert len(columns) == 5 * (count * rounds + 1)
    assert {version.id for version in cube.history()} >= {snapshot for _, snapshot in told}
    assert list_cubes() == ["demo"]
    assert cube.verify() == []


@pytest.mark.usefixtures("s3_store")
def test_two_writers_of_the_same_samples_in_s3_write_them_once() -> None:
    cube = open_cube("demo", create=True, chunk_samples=4)
    with cube.write("late") as late:
        late.add_locations(location(i) for i in range(5))
        late.append(OPTICAL, (sample(OPTICAL, 0, i) for i in range(5)), [scene(0, OPTICAL)])
        late.append(OPTICAL, (sample(OPTICAL, 1, i) for i in range(5)), [scene(1, OPTICAL)])
        append(open_cube("demo"), 0)
    assert (late.result.appended, late.result.skipped) == ({OPTICAL.id: 5}, 5)
    assert cube.columns(OPTICAL.id)["sample"].is_unique
    assert cube.verify() == []


@pytest.mark.usefixtures("s3_store")
def test_a_writer_that_is_never_first_gives_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    cube = open_cube("demo", create=True, chunk_samples=4)
    append(cube, 0)
    monkeypatch.setattr(writer_module, "COMMIT_TRIES", 3)
    monkeypatch.setattr(writer_module, "FIRST_PAUSE_S", 0.001)
    tries = []

    def overtaken(place: Place, session: icechunk.Session, message: str, metadata: Any) -> str:
        tries.append(append_by(open_cube("demo"), 10 + len(tries)))
        return publish(place, session, message, metadata)

    monkeypatch.setattr(writer_module, "publish", overtaken)
    with pytest.raises(CubeError, match="main-moved"):
        append(cube, 1)
    assert len(tries) == 3
    assert cube.snapshot() == tries[-1]
    assert "scene-001" not in set(cube.columns(OPTICAL.id)["scene"])


def append_by(cube: Cube, number: int) -> str:
    """A commit beside the writer: no sample, but ``main`` moves."""
    session = cube.repository.writable_session("main")
    zarr.open_group(session.store, mode="r+").attrs["moved"] = number
    return session.commit("moved")


@pytest.mark.usefixtures("s3_store")
def test_an_expiry_in_s3_leaves_young_objects_to_their_writers() -> None:
    cube = open_cube("demo", create=True, chunk_samples=4)
    first, second = append(cube, 0), append(cube, 1)
    session = cube.repository.writable_session("main")
    layout.open_root(session.store, write=True).create_array("open", shape=(4096,), dtype="float64")[:] = 1.5
    assert cube.expire(datetime.now(UTC), dry_run=True).snapshots == (first,)
    assert cube.snapshot(first) == first
    done = cube.expire(datetime.now(UTC))
    assert (done.snapshots, done.kept) == ((first,), {second: "the newest"})
    session.commit("its writer goes on")
    assert open_cube("demo").verify() == []
    values = zarr.open_group(open_cube("demo").session_store(), mode="r")["open"]
    assert (np.asarray(values[:]) == 1.5).all()


@pytest.mark.usefixtures("s3_store")
def test_a_cube_in_s3_is_compacted_and_exported(tmp_path: Path) -> None:
    cube = open_cube("demo", create=True, chunk_samples=4)
    append(cube, 1)
    append(cube, 0)
    assert cube.compact().committed
    assert cube.verify() == []
    assert cube.export(tmp_path / "copy").samples == {OPTICAL.id: 10}
    copy = zarr.open_group(tmp_path / "copy", mode="r")[f"{OPTICAL.id}/r10m"]
    assert np.array_equal(np.asarray(copy[:]), cube.read(OPTICAL.id, 10.0, range(10)))
