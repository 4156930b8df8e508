"""Overlap is measured in metres on the ground, by id and by footprint, across zones too."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.samples import Location
from tasks.evaluate.leakage import Draws, Footprint, footprint, leaks, overlaps, read_draws, write_places

HERE = Location("here", 32633, 500_000.0, 5_400_000.0, 480.0, 15.0, 48.75, "test", "k1")


def _draws(*parts: Footprint, unknown: tuple[str, ...] = ()) -> Draws:
    return Draws(parts, unknown, True)


@given(st.floats(-700, 700), st.floats(-700, 700))
@settings(deadline=None)
def test_squares_overlap_where_they_share_ground(dx: float, dy: float) -> None:
    other = Footprint("other", HERE.epsg, HERE.x + dx, HERE.y + dy, 240.0, "pretrain")
    shared = bool(overlaps([footprint(HERE)], [other])[0, 0])
    assert shared == bool(overlaps([other], [footprint(HERE)])[0, 0])
    if max(abs(dx), abs(dy)) < 355:
        assert shared
    if max(abs(dx), abs(dy)) > 360:
        assert not shared


def test_neighbours_that_touch_do_not_overlap() -> None:
    beside = Footprint("beside", HERE.epsg, HERE.x + 480.0, HERE.y, 480.0, "pretrain")
    assert leaks([HERE], _draws(beside)) == {}


def test_a_place_of_the_pretrain_split_leaks() -> None:
    assert "split" in leaks([replace(HERE, split="pretrain")], _draws())["here"]


def test_a_place_that_was_drawn_leaks_by_its_id() -> None:
    assert "drawn" in leaks([HERE], _draws(unknown=("here",)))["here"]


def test_a_place_under_another_id_leaks_by_its_ground() -> None:
    same_ground = Footprint("another-name", HERE.epsg, HERE.x + 300, HERE.y - 100, 480.0, "pretrain")
    assert "overlaps another-name" in leaks([HERE], _draws(same_ground))["here"]


def test_ground_is_compared_across_zones() -> None:
    from pyproj import Transformer

    at_edge = replace(HERE, x=722_000.0)
    to_next = Transformer.from_crs(32633, 32634, always_xy=True)
    x, y = to_next.transform(at_edge.x, at_edge.y)
    drawn = Footprint("drawn", 32634, x + 50, y, 480.0, "pretrain")
    far = Footprint("far", 32634, x + 2000, y, 480.0, "pretrain")
    assert set(leaks([at_edge], _draws(drawn))) == {"here"}
    assert leaks([at_edge], _draws(far)) == {}


def test_draws_are_read_from_the_folder_or_by_id_from_the_cube(tmp_path: Path) -> None:
    registered, fresh, foreign = (tmp_path / name for name in ("registered", "fresh", "foreign"))
    for folder in (registered, fresh, foreign):
        folder.mkdir()
    write_places(registered, [HERE])
    with gzip.open(fresh / "samples.jsonl.gz", "wt") as lines:
        for place in ("here", "elsewhere"):
            lines.write(json.dumps({"sample": "s", "location": place}) + "\n")
    assert read_draws([registered], []) == Draws((footprint(HERE),), (), True)
    assert read_draws([fresh], [HERE]) == Draws((footprint(HERE),), ("elsewhere",), True)
    assert not read_draws([foreign], [HERE]).recorded
    both = read_draws([registered, fresh], [HERE])
    assert (len(both.footprints), both.unknown) == (1, ("elsewhere",))


def test_the_same_places_give_the_same_bytes(tmp_path: Path) -> None:
    other = replace(HERE, id="a")
    for name, order in (("one", [HERE, other]), ("two", [other, HERE])):
        (tmp_path / name).mkdir()
        write_places(tmp_path / name, order)
    first, second = ((tmp_path / name / "places.jsonl.gz").read_bytes() for name in ("one", "two"))
    assert first == second


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_overlaps_nothing(count: int) -> None:
    assert overlaps([footprint(HERE)] * count, []).shape == (count, 0)
    assert np.array_equal(overlaps([], [footprint(HERE)] * count), np.zeros((0, count), bool))
