"""The loader reads a bucket as it reads a disk, and an answer that is cut off ends no training."""

# ruff: noqa: F401 - tests are imported by name

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from catalog.cubes import Cube, open_cube
from tests.models.learnable_cube import make_cube
from tests.models.test_sample_batches import (
    open_stream,
    same,
    test_a_loader_that_starts_later_gives_what_the_first_would_have_given,
    test_pixels_are_those_of_the_cube_for_the_bands_and_order_asked_for,
)
from tests.object_store.faulty_proxy import Fault, FaultyProxy


@pytest.fixture
def cube(swath_home: Path) -> Cube:
    return make_cube(places=12, dates=3, chunk_samples=4)


def test_batches_are_the_same_while_the_store_stutters(cube: Cube, proxy: FaultyProxy) -> None:
    calm = list(itertools.islice(open_stream(cube), 5))
    proxy.fail(Fault("cut-answer", "GET", rate=0.05), Fault("503", "GET", rate=0.1), seed=1)
    stuttering = list(itertools.islice(open_stream(open_cube("learnable")), 5))
    assert any(done != "passed" for _, _, done in proxy.requests())
    assert all(same(ours, theirs) for ours, theirs in zip(calm, stuttering, strict=True))
