"""A store that fails in mid-work is waited for, or one line says so; ``main`` is as before or whole."""

from __future__ import annotations

import time
from typing import Any

import pytest

from catalog.cubes import list_cubes, object_storage, open_cube
from catalog.errors import CubeError
from tests.object_store.faulty_proxy import Fault, FaultyProxy
from tests.object_store.made_cube import append, contents, expected, new_cube

PUBLISHING = "*/demo/repo[?]*"
"""The one request of a commit that makes it visible."""

PASSING = {
    "throttled": [Fault("503", rate=0.2)],
    "errors inside the store": [Fault("500", rate=0.2)],
    "dropped connections": [Fault("drop", rate=0.2)],
    "slow answers": [Fault("delay", rate=0.3, seconds=0.05)],
    "uploads cut in the middle": [Fault("cut-upload", "PUT", rate=0.3)],
    "uploads taken, answers lost": [Fault("taken-then-dropped", "PUT", rate=0.3)],
    "uploads taken, told as failed": [Fault("taken-then-500", "PUT", rate=0.3)],
    "the publishing taken, its answer lost three times": [
        Fault("taken-then-dropped", "PUT", PUBLISHING, times=3)
    ],
    "the publishing taken, told as failed": [Fault("taken-then-500", "PUT", PUBLISHING, times=3)],
    "all at once": [
        Fault("503", rate=0.05),
        Fault("drop", rate=0.05),
        Fault("cut-upload", "PUT", rate=0.1),
        Fault("taken-then-500", "PUT", rate=0.1),
    ],
}


@pytest.fixture(autouse=True)
def patient_opening(monkeypatch: pytest.MonkeyPatch, proxy: FaultyProxy) -> None:
    """Rates of the tests are higher than any store's; pauses are shorter (see ``proxy``)."""
    monkeypatch.setattr(object_storage, "OPENING_TRIES", 12)


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_storage, "OPENING_TRIES", 3)
    monkeypatch.setattr(object_storage, "WORKING_TRIES", 3)


QUICK = {"throttled", "uploads taken, answers lost", "the publishing taken, told as failed", "all at once"}


def some_now(*of: str) -> list[Any]:
    """All kinds in `make test-all`, a few in `make test`."""
    return [
        pytest.param(PASSING[kind], id=kind, marks=[] if kind in QUICK else [pytest.mark.long]) for kind in of
    ]


@pytest.mark.parametrize("faults", some_now(*PASSING))
def test_what_passes_is_waited_for_and_nothing_is_written_twice(
    faults: list[Fault], proxy: FaultyProxy
) -> None:
    cube = new_cube(0)
    before = len(cube.history())
    proxy.fail(*faults, seed=1)
    snapshot = append(open_cube("demo"), 1)
    happened = {done for _, _, done in proxy.requests()}
    proxy.fail()
    assert happened & {fault.kind for fault in faults}, "nothing failed, so nothing is shown"
    again = open_cube("demo")
    assert again.snapshot() == snapshot
    assert len(again.history()) == before + 1
    assert contents(again) == expected(0, 1)
    assert again.verify() == []


def test_answers_that_are_cut_off_are_asked_for_again_by_readers(proxy: FaultyProxy) -> None:
    new_cube(0, 1)
    proxy.fail(Fault("cut-answer", "GET", rate=0.25), seed=3)
    assert contents(open_cube("demo")) == expected(0, 1)
    assert ("cut-answer") in {done for _, _, done in proxy.requests()}


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 8))])
def test_answers_that_are_cut_off_leave_a_commit_whole_or_undone(seed: int, proxy: FaultyProxy) -> None:
    cube = new_cube(0)
    before = cube.snapshot()
    proxy.fail(Fault("cut-answer", "GET", rate=0.15), seed=seed)
    try:
        append(open_cube("demo"), 1)
    except CubeError as error:
        assert error.code == "store-unreachable"
        assert "\n" not in str(error)
    proxy.fail()
    again = open_cube("demo")
    assert again.snapshot() == before or contents(again) == expected(0, 1)
    append(again, 1)
    assert contents(again) == expected(0, 1)
    assert again.verify() == []


NOW = (32,)
"""Requests into a commit, of about 60."""


@pytest.mark.parametrize(
    "moment", [*NOW, *(pytest.param(n, marks=pytest.mark.long) for n in range(0, 64, 3) if n not in NOW)]
)
def test_a_store_that_goes_away_in_mid_commit_leaves_it_whole_or_undone(
    moment: int, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_cube(0)
    impatient(monkeypatch)
    cube = open_cube("demo")
    before = cube.snapshot()
    proxy.fail(Fault("gone", after=moment, times=1))
    snapshot = None
    try:
        snapshot = append(cube, 1)
    except CubeError as error:
        assert error.code == "store-unreachable"
        assert "\n" not in str(error)
        assert "rerun" in error.next_step
    proxy.come_back()
    again = open_cube("demo")
    assert again.snapshot() == (snapshot or before)
    assert contents(again) == (expected(0, 1) if snapshot else expected(0))
    # The rerun makes what an undisturbed run makes, and so does the same object that met the outage.
    append(cube, 1)
    assert contents(cube) == contents(open_cube("demo")) == expected(0, 1)
    assert cube.verify() == []
    append(open_cube("demo"), 2)
    assert contents(open_cube("demo")) == expected(0, 1, 2)


def test_a_commit_that_was_taken_before_the_store_went_away_is_there_and_not_made_again(
    proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_cube(0)
    impatient(monkeypatch)
    cube = open_cube("demo")
    before = len(cube.history())
    proxy.fail(Fault("taken-then-gone", "PUT", PUBLISHING, times=1))
    with pytest.raises(CubeError, match="store-unreachable"):
        append(cube, 1)
    proxy.come_back()
    again = open_cube("demo")
    assert contents(again) == expected(0, 1)
    assert append(again, 1) == again.snapshot()
    assert len(again.history()) == before + 1
    assert again.verify() == []


def test_an_outage_is_no_damage(proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    new_cube(0)
    impatient(monkeypatch)
    cube = open_cube("demo")
    proxy.fail(Fault("500", path="*/chunks/*"))
    with pytest.raises(CubeError, match="store-unreachable"):
        contents(cube)
    with pytest.raises(CubeError, match="store-unreachable"):
        cube.verify()
    proxy.fail()
    assert contents(cube) == expected(0)
    assert cube.verify() == []


def test_a_store_that_is_not_there_is_told_at_once_and_in_one_line(proxy: FaultyProxy) -> None:
    object_storage.OPENING_TRIES = 5
    new_cube(0)
    proxy.go()
    for ask in (lambda: open_cube("demo"), lambda: open_cube("new", create=True), list_cubes):
        began = time.monotonic()
        with pytest.raises(CubeError, match="store-unreachable") as caught:
            ask()
        assert time.monotonic() - began < 10
        assert "\n" not in str(caught.value)
    proxy.come_back()
    assert contents(open_cube("demo")) == expected(0)


def test_a_store_that_comes_back_within_a_minute_costs_only_that_time(
    proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    from threading import Timer

    monkeypatch.setattr(object_storage, "LONGEST_PAUSE_MS", 500)
    monkeypatch.setattr(object_storage, "FIRST_PAUSE_MS", 200)
    new_cube(0)
    cube = open_cube("demo")
    proxy.fail(Fault("gone", after=20, times=1))
    back = Timer(1.5, proxy.come_back)
    back.start()
    append(cube, 1)
    back.join()
    assert contents(open_cube("demo")) == expected(0, 1)
