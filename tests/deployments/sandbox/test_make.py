"""The archive is made whole or not at all, the same bytes for the same seed, and only once."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from catalog.errors import UsageError
from deployments.sandbox import SandboxInfo, make_sandbox
from deployments.sandbox.write import STAMP

TINY: dict[str, Any] = {"size_m": 960, "dates": 1}
ROOT = Path(__file__).resolve().parents[3]


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_seed_gives_the_same_bytes_whatever_the_number_of_workers(tmp_path: Path) -> None:
    first = make_sandbox(tmp_path / "first", seed=3, workers=1, **TINY)
    second = make_sandbox(tmp_path / "second", seed=3, workers=3, **TINY)
    assert digests(first.folder) == digests(second.folder)


def test_another_seed_gives_another_landscape_in_the_same_place(tmp_path: Path) -> None:
    calls: list[str] = []
    folder = tmp_path / "archive"
    three = make_sandbox(folder, seed=3, **TINY)
    before = digests(folder)
    four = make_sandbox(folder, seed=4, progress=lambda _done, _all, scene: calls.append(scene), **TINY)
    after = digests(folder)
    assert (three.seed, four.seed, four.scenes) == (3, 4, three.scenes)
    assert sorted(calls) == sorted(scene for scenes in four.scenes.values() for scene in scenes)
    assert before.keys() == after.keys()
    pixels = [name for name in before if name.endswith(".tif") and "quality_" not in name]
    changed = [name for name in pixels if before[name] != after[name]]
    assert len(changed) > 0.8 * len(pixels)
    assert not list(tmp_path.glob(".archive.partial*"))


def test_a_second_call_writes_nothing_and_returns_at_once(archive: SandboxInfo) -> None:
    before = {path: path.stat().st_mtime_ns for path in archive.folder.rglob("*")}
    started = time.process_time()

    def never(_done: int, _all: int, scene: str) -> None:
        raise AssertionError(scene)

    again = make_sandbox(archive.folder, size_m=1920, dates=4, progress=never)
    assert time.process_time() - started < 1.5
    assert again == archive
    assert {path: path.stat().st_mtime_ns for path in archive.folder.rglob("*")} == before


def test_what_a_killed_process_left_is_neither_taken_for_whole_nor_left_lying(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    code = (
        "import sys; from pathlib import Path; from deployments.sandbox import make_sandbox\n"
        f"make_sandbox(Path(sys.argv[1]), size_m={TINY['size_m']}, dates={TINY['dates']},"
        " progress=lambda d, n, s: print(s, flush=True))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    left = list(tmp_path.glob(".archive.partial-*"))
    assert not folder.exists()
    assert len(left) == 1
    info = make_sandbox(folder, **TINY)
    assert (folder / STAMP).is_file()
    assert not list(tmp_path.glob(".archive.partial-*"))
    listed = {scene for scenes in info.scenes.values() for scene in scenes}
    assert listed == {path.name for path in (folder / "assets").glob("*/*")}


def test_a_failure_midway_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, _all: int, _scene: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_sandbox(tmp_path / "archive", progress=stop, **TINY)
    assert [path.name for path in tmp_path.iterdir() if path.name != ".archive.lock"] == []


def test_two_callers_at_once_make_it_once(tmp_path: Path) -> None:
    made: list[str] = []

    def make(_: int) -> SandboxInfo:
        return make_sandbox(
            tmp_path / "archive", workers=1, progress=lambda _d, _n, scene: made.append(scene), **TINY
        )

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(make, range(2))
    assert first == second
    assert len(made) == len(set(made)) == sum(map(len, first.scenes.values()))


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("three years of work")
    with pytest.raises(UsageError) as refusal:
        make_sandbox(tmp_path, **TINY)
    assert refusal.value.code == "folder-not-a-sandbox"
    assert (tmp_path / "thesis.txt").read_text() == "three years of work"


@pytest.mark.parametrize("size_m", [0, 480, 1000, 1930])
def test_a_size_that_fits_no_grid_is_refused(tmp_path: Path, size_m: int) -> None:
    with pytest.raises(UsageError) as refusal:
        make_sandbox(tmp_path / "archive", size_m=size_m)
    assert refusal.value.code == "bad-sandbox-size"


def test_the_stamp_says_what_the_folder_holds(archive: SandboxInfo) -> None:
    stamp = json.loads((archive.folder / STAMP).read_text())
    assert (stamp["seed"], stamp["version"]) == (archive.seed, archive.version)
    on_disk = sum(path.stat().st_size for path in archive.folder.rglob("*") if path.is_file())
    assert 0 <= on_disk - archive.size_bytes < 50_000
    west, south, east, north = archive.bbox
    assert west < 12 < east
    assert 47.9 < south < north < 48.1


def test_making_it_takes_seconds(timed_archive: tuple[SandboxInfo, float]) -> None:
    _, cpu_seconds = timed_archive
    assert cpu_seconds < 15
