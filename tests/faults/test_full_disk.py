"""A refresh on a disk that fills up ends with one error that says so, and harms nothing."""

from __future__ import annotations

import errno
import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from catalog.errors import CubeError, SwathError
from catalog.full_disk import told_when_full
from tests.conftest import REPOSITORY


@pytest.fixture(scope="session")
def _small_disks(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where this user may not mount a file system of its own."""
    probe = (
        "from pathlib import Path; import sys; from tests.faults.full_disk import enter_namespaces, mount; "
        "enter_namespaces(); mount(Path(sys.argv[1]), 1 << 20)"
    )
    command = [sys.executable, "-c", probe, str(tmp_path_factory.mktemp("disk"))]
    tried = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no file system of our own can be mounted: {tried.stderr.strip().splitlines()[-1]}")


def filled(folder: Path, trials: int, limit_s: float) -> dict[str, Any]:
    command = ["-m", "tests.faults.full_disk", "--trials", str(trials), "--folder", str(folder), "--json"]
    done = subprocess.run(
        [sys.executable, *command],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["violations"] == []
    return report


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("_small_disks")
def test_a_disk_that_fills_at_any_moment_is_told_and_a_rerun_makes_up_for_it(tmp_path: Path) -> None:
    report = filled(tmp_path, 60, limit_s=1180)
    assert report["told"]["disk-full"] >= 30
    assert {"database", "fetch", "write"} <= set(report["phases"]), report["phases"]


@pytest.mark.parametrize(
    "cause",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        sqlite3.OperationalError("database or disk is full"),
        RuntimeError("Unable to copy data to file: No space left on device (os error 28)"),
    ],
)
def test_want_of_space_is_told_whoever_met_it_and_whatever_it_was_taken_for(cause: Exception) -> None:
    with pytest.raises(SwathError, match="disk-full") as told, told_when_full(Path("/data")):
        try:
            raise cause
        except Exception as error:
            raise CubeError("store-unreachable", "an odd error") from error
    assert told.value.subject == "/data"
    assert "free space" in told.value.next_step


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(PermissionError), told_when_full(Path("/data")):
        raise PermissionError(errno.EACCES, "Permission denied")
