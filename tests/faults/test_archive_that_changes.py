"""An archive that changes while it is followed, for every product: what is new is read, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import pytest
from pandas.testing import assert_frame_equal

from deployments.sandbox.plan import ALL_PRODUCTS
from deployments.stac_server.faults import Fault
from deployments.stac_server.folder_changes import delete, delete_files, put_in, reprocess, state, take_out
from tests.faults.refresh_pipeline import CUBE, Follower, Whole, same

ONE = "sentinel-2-l2a"
PRODUCTS = [
    pytest.param(name, marks=() if name == ONE else pytest.mark.long, id=name) for name in ALL_PRODUCTS
]
each_product = pytest.mark.parametrize("name", PRODUCTS)
Follow = Callable[..., Follower]


@each_product
def test_a_late_scene_is_found_by_the_next_search_and_read_alone(
    name: str, follow: Follow, whole_of: Callable[..., Whole]
) -> None:
    follower = follow(name)
    early, *others, late = follower.scenes
    items = {scene.id: take_out(follower.folder, scene.id) for scene in (early, late)}
    window: dict[str, Any] = {"look_back_days": (follower.info.end - late.sensed).days}
    first = follower.refresh(**window)
    assert (first.new, first.searched.start) == (len(others), follower.info.start)
    assert first.read == {scene.id for scene in others}

    for item in items.values():
        put_in(follower.folder, item)
    second = follower.refresh(**window)
    assert second.searched.start == late.sensed > early.sensed
    assert (second.new, second.read) == (1, {late.id})
    assert second.result is not None and set(second.result.cubed) == {late.id}
    assert early.id not in follower.states(), "it lies outside the window"
    assert follower.refresh(**window).did_nothing

    # The whole period is searched again now and then, which finds what came later than anybody looks back.
    whole = follower.refresh(**window, whole_search_days=1e-9)
    assert (whole.new, whole.read) == (1, {early.id})
    assert whole.searched.start == follower.info.start
    assert same(follower.samples(), whole_of(name).samples), "as if they had been there from the start"
    assert follower.refresh(**window, whole_search_days=1e-9).did_nothing


@pytest.mark.parametrize(
    ("name", "in_place"),
    [
        pytest.param(*case, marks=() if case[0] == ONE else pytest.mark.long)
        for case in product(ALL_PRODUCTS, (False, True))
        # Landsat's Level-1 ids state the processing date: a new version has another.
        if not (case[0].endswith("-toa") and case[1])
    ],
)
def test_a_reprocessed_scene_supersedes_the_old_one_and_old_snapshots_keep_it(
    name: str, in_place: bool, follow: Follow
) -> None:
    follower = follow(name)
    old, new = follower.versions
    item = take_out(follower.folder, new)
    put_in(follower.folder, follower.older)
    one = follower.refresh()
    assert one.result is not None and old in one.result.cubed
    pixels, columns = follower.samples(), follower.cube.columns(name)

    put_in(follower.folder, {**item, "id": old} if in_place else item)
    two = follower.refresh()
    assert (two.new, two.read) == (1, {new})
    assert two.result is not None
    (successor,) = two.result.cubed
    assert successor.startswith(f"{old}~") if in_place else successor == new
    assert two.result.superseded == {old: successor}

    marked = follower.successors()
    assert marked.pop(old) == successor and set(marked.values()) == {""}
    assert follower.states()[old] == "superseded"
    assert_frame_equal(follower.cube.columns(name, one.snapshot), columns)
    assert same(follower.samples(one.snapshot), pixels)
    kept = {key: parts for key, parts in follower.samples().items() if key[0] != successor}
    assert same(kept, pixels), "the new snapshot holds the old samples too"
    assert follower.cube.verify() == follower.cube.verify(one.snapshot) == []
    assert follower.refresh().did_nothing


@each_product
def test_an_older_version_that_comes_later_is_no_work(name: str, follow: Follow) -> None:
    follower = follow(name)
    old, new = follower.versions
    follower.refresh()
    put_in(follower.folder, follower.older)
    after = follower.refresh()
    assert after.new == 1 and after.did_nothing
    states = follower.states()
    assert (states[old], states[new]) == ("superseded", "cubed")
    assert old not in follower.cube.scenes(name)


@each_product
def test_a_scene_that_is_cubed_stays_when_the_archive_deletes_it(name: str, follow: Follow) -> None:
    follower = follow(name)
    follower.refresh()
    before = follower.samples()
    gone = follower.scenes[0].id
    delete(follower.folder, gone)
    after = follower.refresh()
    assert after.new == 0 and after.did_nothing
    assert follower.states()[gone] == "cubed"
    assert gone in follower.cube.scenes(name)
    assert same(follower.samples(), before)


@each_product
def test_an_item_that_changes_without_a_new_version_is_no_work_once_it_is_cubed(
    name: str, follow: Follow
) -> None:
    follower = follow(name)
    follower.refresh()
    state(follower.folder, follower.scenes[0].id, {"swath:note": "corrected"})
    after = follower.refresh()
    assert after.new == 0 and after.did_nothing
    assert set(follower.states().values()) == {"cubed"}


@each_product
@pytest.mark.parametrize("early", [True, False], ids=["before it is judged", "before it is cubed"])
def test_a_scene_that_is_deleted_before_it_is_cubed_is_a_row_and_nothing_of_it_is_taken(
    early: bool, name: str, follow: Follow, whole_of: Callable[..., Whole]
) -> None:
    follower = follow(name)
    gone = follower.scenes[0].id

    # With its item, or the item stays and promises what is no longer there.
    vanish = partial(delete if early else delete_files, follower.folder, gone)
    run = follower.refresh(before_gate=vanish if early else None, before_cube=None if early else vanish)
    assert gone in run.read and run.result is not None
    assert gone not in run.result.cubed
    with follower.ledger() as ledger:
        row = ledger.row(gone, cube=CUBE)
        (failure,) = ledger.failures(CUBE, scene_id=gone)
    assert row.state == "quarantined" and row.reasons
    assert failure.status == 404 and gone in failure.href and failure.band and failure.message
    assert gone not in follower.cube.scenes(name)
    assert same(follower.samples(), {key: v for key, v in whole_of(name).samples.items() if key[0] != gone})
    assert follower.refresh().did_nothing


@each_product
def test_an_item_on_two_pages_is_one_scene(name: str, follow: Follow, whole_of: Callable[..., Whole]) -> None:
    follower = follow(name)
    follower.server.set_faults([Fault("page-repeats", "/search")])
    run = follower.refresh()
    assert follower.server.faults()[0]["applied"]
    assert run.new == len(follower.scenes)
    assert len(follower.cube.columns(name)) == len(whole_of(name).samples)
    assert same(follower.samples(), whole_of(name).samples)
    assert follower.refresh().did_nothing


@each_product
@pytest.mark.parametrize("when", ["at once", "later"])
def test_a_scene_that_is_listed_under_two_ids_is_read_once(
    when: str, name: str, follow: Follow, whole_of: Callable[..., Whole]
) -> None:
    follower = follow(name)
    first = follower.scenes[0].id
    twin = f"{first}_TWIN"
    if when == "later":
        follower.refresh()
    reprocess(follower.folder, first, twin, {})
    run = follower.refresh()
    states = follower.states()
    assert (states[first], states[twin]) == ("cubed", "superseded")
    assert twin not in run.read
    assert run.did_nothing == (when == "later")
    assert same(follower.samples(), whole_of(name).samples)
