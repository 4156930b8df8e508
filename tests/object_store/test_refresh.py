"""A refresh into a bucket makes the cube that a refresh onto a disk makes, also where the store fails."""

# ruff: noqa: F401, F811 - fixtures are imported by name

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from catalog.cubes import object_storage
from catalog.errors import CubeError
from tests.faults.conftest import _flows_are_imported, archive_of, follow, whole_of
from tests.faults.refresh_pipeline import Follower, Whole, same
from tests.object_store.faulty_proxy import Fault, FaultyProxy

PRODUCT = "sentinel-2-l2a"
pytestmark = pytest.mark.long


@pytest.fixture
def home(swath_home: Path) -> Path:
    """What ``follow`` asks for: here the store is in the bucket."""
    return swath_home


def is_whole(follower: Follower, whole: Whole) -> None:
    """The cube and the ledger are those of a refresh that nothing disturbed; another one does nothing."""
    assert same(follower.samples(), whole.samples)
    assert set(follower.cube.scenes(PRODUCT)) == set(whole.scenes)
    assert follower.cube.verify() == []
    states = follower.states()
    assert {scene for scene, state in states.items() if state == "cubed"} == set(whole.scenes)
    assert follower.refresh().did_nothing


def test_a_refresh_into_a_store_that_stutters_makes_the_same_cube(
    proxy: FaultyProxy,
    follow: Callable[..., Follower],
    whole_of: Callable[..., Whole],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as disk:
        disk.delenv("SWATH_STORE")
        whole = whole_of(PRODUCT)
    follower = follow(PRODUCT)
    proxy.fail(
        Fault("503", rate=0.05),
        Fault("drop", rate=0.05),
        Fault("cut-upload", "PUT", rate=0.05),
        Fault("taken-then-500", "PUT", rate=0.05),
        seed=5,
    )
    follower.refresh()
    assert any(done != "passed" for _, _, done in proxy.requests())
    proxy.fail()
    is_whole(follower, whole)


@pytest.mark.parametrize("moment", range(5, 150, 24))
@pytest.mark.parametrize("kind", ["gone", "taken-then-gone"])
def test_a_refresh_that_lost_its_store_is_made_good_by_the_next(
    kind: str,
    moment: int,
    proxy: FaultyProxy,
    follow: Callable[..., Follower],
    whole_of: Callable[..., Whole],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as disk:
        disk.delenv("SWATH_STORE")
        whole = whole_of(PRODUCT)
    monkeypatch.setattr(object_storage, "OPENING_TRIES", 3)
    monkeypatch.setattr(object_storage, "WORKING_TRIES", 3)
    follower = follow(PRODUCT)
    proxy.fail(Fault(kind, after=moment, times=1))
    try:
        follower.refresh()
    except CubeError as error:
        assert error.code == "store-unreachable"
        assert "\n" not in str(error)
    proxy.come_back()
    follower.refresh()
    is_whole(follower, whole)
