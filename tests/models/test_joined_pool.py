"""Several products or dates per place: which samples belong together, and that batch k is always the same."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.cubes import Cube
from catalog.errors import TrainingError
from catalog.products import load_product
from models.joined_pool import JoinedPlan, JoinedPool, open_joined
from models.physical_pixels import choose_bands
from models.sample_batches import BatchStream, SampleReader
from models.sample_pool import SamplePool
from tests.models.learnable_cube import location, make_cube, sample, scene

OPTICAL, RADAR = "sentinel-2-l2a", "sentinel-2-l1c"
"""Any second product will do; the made-up ground is optical."""


@pytest.fixture(scope="module")
def cube(shared_home: Path) -> Cube:
    """Twelve places; the second product lacks two of them, and was seen at other dates."""
    cube = make_cube(places=12, dates=3, chunk_samples=4)
    other = load_product(RADAR)
    with cube.write("another product") as writer:
        writer.add_locations(location(number) for number in range(12))
        pairs = [(place, date) for place in range(12) if place not in (2, 5) for date in (0, 2)]
        writer.append(
            other, (sample(other, date, place) for place, date in pairs), [scene(d, other) for d in (0, 2)]
        )
    return cube


def made_up(dates: list[tuple[int, int]], seed: int) -> JoinedPool:
    """Two products with so many dates at each place, in any order of rows."""
    random = np.random.default_rng(seed)
    pools = {}
    for which, name in enumerate((OPTICAL, RADAR)):
        counts = [pair[which] for pair in dates]
        places = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
        names = np.array([f"{name}-{row}" for row in range(len(places))])
        pools[name] = SamplePool(
            product=name,
            snapshot="snapshot",
            rows=random.permutation(len(places)).astype(np.int64),
            ids=names,
            scenes=names,
            sha256=names,
            places=places,
            place_ids=tuple(f"p{number}" for number in range(len(counts))),
            starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            times=random.integers(0, 1000, len(places)),
        )
    return JoinedPool(pools)


pools = st.builds(
    made_up,
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=20),
    st.integers(0, 9),
)
views = st.sampled_from([(OPTICAL,), (OPTICAL, RADAR), (OPTICAL, OPTICAL, RADAR), (RADAR, OPTICAL, RADAR)])


@given(pools, views, st.integers(1, 9), st.integers(0, 5), st.sampled_from(["any", "nearest"]))
@settings(max_examples=60, deadline=None)
def test_batch_k_depends_on_seed_and_k_alone_and_shows_one_place(
    pool: JoinedPool, views: tuple[str, ...], size: int, seed: int, dates: str
) -> None:
    make = lambda: JoinedPlan(pool, size, views, seed, dates=dates, chunk_rows=3, window_chunks=2)  # type: ignore[arg-type]
    first, second = make(), make()
    forwards = [first.draw(index) for index in range(6)]
    backwards = [second.draw(index) for index in reversed(range(6))][::-1]
    for ours, theirs in zip(forwards, backwards, strict=True):
        for name, mine, yours in zip(views, ours.views, theirs.views, strict=True):
            assert np.array_equal(mine, yours)
            assert np.array_equal(pool.pools[name].places[mine], ours.places)
    drawn = first.drawn(6)
    for name in set(views):
        seen = [view for draw in forwards for of, view in zip(views, draw.views, strict=True) if of == name]
        assert np.array_equal(drawn[name], np.unique(np.concatenate(seen)))


@given(pools, views, st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_an_epoch_sees_every_date_of_the_first_product(
    pool: JoinedPool, views: tuple[str, ...], seed: int
) -> None:
    plan = JoinedPlan(pool, plan_size := 7, views, seed, chunk_rows=3, window_chunks=2)
    rows, _ = plan.cube_rows(0, plan.epoch_length)
    seen = np.concatenate([view for name, view in zip(views, rows, strict=True) if name == views[0]])
    assert np.array_equal(np.unique(seen), np.sort(pool.pools[views[0]].rows))
    assert len(seen) < pool.pools[views[0]].count + len(pool.place_ids) * views.count(views[0])
    assert plan.window_end(0) <= plan.epoch_length and plan_size == plan.batch_size


@given(pools, st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_two_views_of_a_product_are_different_dates_where_there_are_two(pool: JoinedPool, seed: int) -> None:
    plan = JoinedPlan(pool, 5, (RADAR, OPTICAL, OPTICAL), seed)
    dates = np.diff(pool.pools[OPTICAL].starts)
    for index in range(4):
        _, one, other = plan.draw(index).views
        assert np.array_equal(one == other, dates[pool.pools[OPTICAL].places[one]] == 1)


@given(pools, st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_the_nearest_date_is_nearest(pool: JoinedPool, seed: int) -> None:
    plan = JoinedPlan(pool, 5, (OPTICAL, RADAR), seed, dates="nearest")
    optical, radar = pool.pools[OPTICAL], pool.pools[RADAR]
    for index in range(4):
        draw = plan.draw(index)
        for one, other in zip(*draw.views, strict=True):
            place = radar.places[other]
            every = radar.times[radar.starts[place] : radar.starts[place + 1]]
            distance = abs(radar.times[other] - optical.times[one])
            assert distance == np.abs(every - optical.times[one]).min()


def test_places_without_one_of_the_products_are_left_out(cube: Cube) -> None:
    joined = open_joined(cube, (OPTICAL, RADAR), cube.snapshot())
    alone = open_joined(cube, (OPTICAL,), cube.snapshot())
    missing = {location(2).id, location(5).id}
    assert set(alone.place_ids) - set(joined.place_ids) == missing & set(alone.place_ids) != set()
    for pool in joined.pools.values():
        assert pool.place_ids == joined.place_ids
        named = [sample_id.split("/")[2] for sample_id in pool.ids]
        assert named == [joined.place_ids[place] for place in pool.places]


def test_no_place_with_all_products_is_refused(swath_home: Path) -> None:
    cube = make_cube(places=3, dates=1)
    other = load_product(RADAR)
    with cube.write("elsewhere") as writer:
        writer.add_locations([location(3)])
        writer.append(other, [sample(other, 0, 3)], [scene(0, other)])
    with pytest.raises(TrainingError, match="each of"):
        open_joined(cube, (OPTICAL, RADAR), cube.snapshot())


def test_a_stream_hands_out_each_view_of_its_own_product_and_resumes_exactly(cube: Cube) -> None:
    snapshot = cube.snapshot()
    joined = open_joined(cube, (OPTICAL, RADAR), snapshot)
    readers = {
        name: SampleReader(cube, snapshot, choose_bands(cube.products()[name], ("B02", "B12")), pool.rows)
        for name, pool in joined.pools.items()
    }

    def stream(**options: int) -> BatchStream:
        plan = JoinedPlan(joined, 4, (OPTICAL, OPTICAL, RADAR), 3, chunk_rows=4, window_chunks=2)
        return BatchStream(plan, readers, **options)

    whole = list(itertools.islice(stream(threads=3), 6))
    for ours, theirs in zip(whole[3:], itertools.islice(stream(start=3, threads=1, ahead=1), 3), strict=True):
        assert torch.equal(ours.places, theirs.places)
        assert ours.products == theirs.products == (OPTICAL, OPTICAL, RADAR)
        for name, mine, yours in zip(ours.products, ours.views, theirs.views, strict=True):
            assert np.array_equal(mine.rows, yours.rows)
            assert np.array_equal(mine.pixels[10.0], yours.pixels[10.0])
            assert np.array_equal(mine.pixels[10.0][:, 0], cube.read(name, 10.0, mine.rows)[:, 0])
    with pytest.raises(ValueError, match="no reader"):
        BatchStream(stream().plan, readers[OPTICAL])
