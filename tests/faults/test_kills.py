"""A refresh that is killed at any moment and called again leaves what an undisturbed one leaves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from catalog.cubes import open_cube
from catalog.cubes.place import place_of
from tests.catalog.cubes.made_up import product
from tests.conftest import REPOSITORY
from tests.faults.kills.trials import differ


def killed(folder: Path, trials: int, seed: int, limit_s: float) -> dict[str, Any]:
    """The report of so many trials, made by a process of their own: this one has opened stores already."""
    command = ["-m", "tests.faults.kills", "--trials", str(trials), "--seed", str(seed), "--json"]
    done = subprocess.run(
        [sys.executable, *command, "--folder", str(folder)],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["violations"] == [], done.stderr
    assert report["trials"] == trials
    # Some end before their moment comes, however often it is moved forward: the clock is shared.
    assert len(report["not_killed"]) <= trials // 10
    return report


@pytest.mark.timeout(600)
def test_what_a_killed_refresh_left_and_its_rerun_made_equals_an_undisturbed_one(tmp_path: Path) -> None:
    report = killed(tmp_path, 30, seed=1, limit_s=580)
    assert report["kills"] >= 30
    assert len(report["scenarios"]) >= 6


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_hundreds_of_kills_in_every_phase_lose_double_and_halve_nothing(tmp_path: Path) -> None:
    report = killed(tmp_path, 500, seed=2, limit_s=2980)
    assert report["kills"] >= 500
    assert report["killed_twice"] >= 80
    in_short_phases = {"note", "write", "commit", "committed", "ledger", "compact", "expire"}
    assert all(report["phases"][name][0] >= 3 for name in in_short_phases), report["phases"]


def test_a_sample_that_is_lost_doubled_or_half_written_is_seen() -> None:
    """What the trials compare by."""
    whole = {"samples": {"a": {"r10m": "1"}, "b": {"r10m": "2"}}, "commits": ["x", "y"]}

    def found(**changes: Any) -> list[str]:
        return differ(whole, whole | changes)

    assert found() == []
    assert found(samples={"a": {"r10m": "1"}}) == ["/samples/b: missing"]
    assert found(samples=whole["samples"] | {"b again": {}}) == ["/samples/b again: too many"]
    assert found(samples=whole["samples"] | {"b": {"r10m": "0"}}) == ["/samples/b/r10m: '0' instead of '2'"]
    assert found(commits=["y", "x"]) == ["/commits: another order, or not as often"]
    assert found(commits=["x", "x", "y"]) == ["/commits: another order, or not as often"]
    assert found(commits=["x"]) == ["/commits: lost ['y']"]


def test_what_a_killed_creation_left_goes_with_the_first_commit(home: Path) -> None:
    left = place_of("new").folder / "snapshots" / "1CECHNKREP0F1RSTCMT0#1"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half an object")
    cube = open_cube("new", create=True, products=[product()])
    assert not left.exists()
    assert not cube.place.journal_file.exists()
