"""Who may be learnt from, and that batch k is the same whoever asks for it, and when."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import TrainingError
from models.sample_pool import BatchPlan, SamplePool, open_pool
from tests.models.learnable_cube import location, make_cube, sample, scene

PRODUCT = "sentinel-2-l2a"


def made_up_pool(dates: list[int], seed: int = 0) -> SamplePool:
    places = np.repeat(np.arange(len(dates)), dates)
    rows = np.random.default_rng(seed).permutation(len(places)).astype(np.int64)
    names = np.array([f"s{row}" for row in rows])
    return SamplePool(
        product=PRODUCT,
        snapshot="snapshot",
        rows=rows,
        ids=names,
        scenes=names,
        sha256=names,
        places=places.astype(np.int64),
        place_ids=tuple(f"p{i}" for i in range(len(dates))),
        starts=np.concatenate([[0], np.cumsum(dates)]).astype(np.int64),
    )


pools = st.builds(made_up_pool, st.lists(st.integers(1, 4), min_size=1, max_size=30), st.integers(0, 99))


@given(pools, st.integers(1, 9), st.integers(1, 2), st.integers(0, 5), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_a_batch_depends_on_seed_and_number_alone(
    pool: SamplePool, size: int, views: int, seed: int, window: int
) -> None:
    plan = lambda: BatchPlan(pool, size, views, seed, chunk_rows=3, window_chunks=window)
    first, second = plan(), plan()
    forwards = [first.draw(index) for index in range(8)]
    backwards = [second.draw(index) for index in reversed(range(8))][::-1]
    for ours, theirs in zip(forwards, backwards, strict=True):
        assert len(ours.views) == views
        for mine, yours in zip(ours.views, theirs.views, strict=True):
            assert np.array_equal(mine, yours)
        assert np.array_equal(ours.places, pool.places[ours.views[-1]])


@given(pools, st.integers(1, 9), st.integers(1, 2), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_an_epoch_visits_each_place_or_sample_once(
    pool: SamplePool, size: int, views: int, seed: int
) -> None:
    plan = BatchPlan(pool, size, views, seed, chunk_rows=3, window_chunks=2)
    batches = -(-2 * plan.epoch_length // size)
    draws = [plan.draw(index) for index in range(batches)]
    flat = np.concatenate([draw.places if views > 1 else draw.views[0] for draw in draws])
    for epoch in range(2):
        part = flat[epoch * plan.epoch_length : (epoch + 1) * plan.epoch_length]
        assert np.array_equal(np.sort(part), np.arange(plan.epoch_length))
    drawn = np.unique(np.concatenate([view for draw in draws for view in draw.views]))
    assert np.array_equal(plan.drawn(batches), drawn)


@given(pools, st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_pairs_are_two_dates_of_one_place_where_it_has_them(pool: SamplePool, seed: int) -> None:
    plan = BatchPlan(pool, 5, 2, seed)
    dates = np.diff(pool.starts)
    for index in range(6):
        first, second = plan.draw(index).views
        assert np.array_equal(pool.places[first], pool.places[second])
        assert np.array_equal(first == second, dates[pool.places[first]] == 1)


def test_another_seed_or_epoch_is_another_order() -> None:
    pool = made_up_pool([2] * 30)
    orders = {
        BatchPlan(pool, 30, 2, seed).draw(epoch).places.tobytes() for seed in (0, 1) for epoch in (0, 1)
    }
    assert len(orders) == 4


def test_a_window_reads_each_chunk_once_per_epoch() -> None:
    pool = made_up_pool([1] * 96)
    plan = BatchPlan(pool, 8, 1, 0, chunk_rows=8, window_chunks=2)
    for start in range(0, 12, 2):
        draws = np.concatenate([plan.draw(start).views[0], plan.draw(start + 1).views[0]])
        assert len(np.unique(pool.rows[draws] // 8)) == 2


def test_only_current_samples_of_the_pretrain_split_are_learnt_from(swath_home: Path) -> None:
    cube = make_cube(places=10, dates=2)
    before = open_pool(cube, PRODUCT, cube.snapshot())
    held_out = {location(number).id for number in range(10) if location(number).split != "pretrain"}
    assert held_out
    assert not held_out & set(before.place_ids)
    everything = open_pool(cube, PRODUCT, cube.snapshot(), transductive=True)
    assert held_out < set(everything.place_ids)
    product = cube.products()[PRODUCT]
    old = cube.snapshot()
    with cube.write("reprocessed") as writer:
        writer.append(product, [sample(product, 2, 0)], [scene(2, product)])
        writer.supersede(scene(0, product).id, scene(2, product).id, PRODUCT)
    after = open_pool(cube, PRODUCT, cube.snapshot())
    assert scene(0, product).id not in set(after.scenes)
    assert open_pool(cube, PRODUCT, old).ids.tolist() == before.ids.tolist()


def test_a_snapshot_without_samples_to_learn_from_is_refused(swath_home: Path) -> None:
    cube = make_cube(places=5, dates=1)
    product = cube.products()[PRODUCT]
    with cube.write("all superseded") as writer:
        writer.append(product, [sample(product, 1, 4)], [scene(1, product)])
        writer.supersede(scene(0, product).id, scene(1, product).id, PRODUCT)
    with pytest.raises(TrainingError) as refusal:
        open_pool(cube, PRODUCT, cube.snapshot())
    assert refusal.value.code == "no-samples"


@pytest.mark.parametrize(("views", "digest"), [(1, "1adafa5b1117d1d0"), (2, "e30fe7d20198c1a7")])
def test_draws_are_those_of_earlier_versions(views: int, digest: str) -> None:
    """A changed order would change what every resumed run draws: golden hashes of nine batches."""
    plan = BatchPlan(made_up_pool([1, 2, 3, 4, 2] * 6), 7, views, 11, chunk_rows=5, window_chunks=3)
    found = hashlib.sha256()
    for index in range(9):
        draw = plan.draw(index)
        for rows in (*draw.views, draw.places):
            found.update(rows.astype("<i8").tobytes())
    assert found.hexdigest().startswith(digest)


@given(pools, st.integers(1, 2), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_rows_of_a_range_are_those_of_its_batches(pool: SamplePool, views: int, seed: int) -> None:
    plan = BatchPlan(pool, 5, views, seed, chunk_rows=3, window_chunks=2)
    rows, ground = plan.cube_rows(0, 20)
    draws = [plan.draw(index) for index in range(4)]
    for view in range(views):
        drawn = np.concatenate([draw.views[view] for draw in draws])
        assert np.array_equal(rows[view], pool.rows[drawn])
    assert np.array_equal(ground, np.concatenate([draw.places for draw in draws]))
    assert plan.window_end(plan.epoch_length) > plan.window_end(0) > 0
