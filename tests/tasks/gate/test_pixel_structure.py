"""Bands in the wrong order, stripes and speckle are found by the arrangement of the pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from catalog.recipes import GateLimits
from tasks.gate.pixel_structure import band_order_gain, equivalent_looks, stripe_strength, strongest_stripes
from tests.tasks.scene_files import built_in

PRODUCT = built_in("sentinel-2-l2a")
LIMITS = GateLimits()
WHOLE = np.ones((96, 96), bool)


def scene(seed: int = 0) -> dict[str, NDArray[np.uint16]]:
    """Three independent pictures, one per part of the spectrum, with some noise of each band's own."""
    rng = np.random.default_rng(seed)
    parts = rng.uniform(200, 4000, (3, 96, 96))
    bands = {}
    for band in PRODUCT.bands:
        centre = band.center_nm or 0
        part = parts[0 if centre < 720 else 1 if centre < 1000 else 2]
        bands[band.name] = (part + rng.normal(0, 60, part.shape)).clip(1).astype(np.uint16)
    return bands


@pytest.mark.parametrize(("one", "other"), [("B04", "B08"), ("B02", "B8A"), ("B08", "B11")])
def test_two_bands_that_changed_places_are_named(one: str, other: str) -> None:
    bands = scene()
    right, _ = band_order_gain(PRODUCT, bands, WHOLE)
    bands[one], bands[other] = bands[other], bands[one]
    gain, which = band_order_gain(PRODUCT, bands, WHOLE)
    assert right < 0 < LIMITS.max_band_order_gain < gain
    assert which == f"{one} and {other} exchanged"


def test_all_bands_in_reverse_are_noticed() -> None:
    bands = scene()
    names = [name for name in PRODUCT.band_names if name not in ("B01", "B05", "B09")]
    backwards = bands | {name: bands[other] for name, other in zip(names, reversed(names), strict=True)}
    gain, which = band_order_gain(PRODUCT, backwards, WHOLE)
    assert gain > LIMITS.max_band_order_gain and which == "all bands in reverse"


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**16))
def test_the_stated_order_is_the_best_of_a_right_scene(seed: int) -> None:
    gain, _ = band_order_gain(PRODUCT, scene(seed), WHOLE)
    assert gain < 0


def test_nothing_is_said_where_there_is_nothing_to_go_by() -> None:
    few = np.zeros((96, 96), bool)
    few[0] = True
    assert math.isnan(band_order_gain(PRODUCT, scene(), few)[0])
    assert math.isnan(band_order_gain(PRODUCT, {"B02": scene()["B02"]}, WHOLE)[0])
    assert math.isnan(stripe_strength(np.ones((20, 20)), np.ones((20, 20), bool)))
    assert math.isnan(equivalent_looks(np.full((96, 96), np.nan)))
    assert strongest_stripes({}, {}, [])[1] is None


@pytest.mark.parametrize("axis", [0, 1])
def test_stripes_of_either_direction_are_noticed(axis: int) -> None:
    rng = np.random.default_rng(0)
    land = rng.normal(1000, 40, (128, 128))
    assert stripe_strength(land, np.ones(land.shape, bool)) < 0.3
    gain = np.expand_dims(1 + 0.1 * rng.standard_normal(128), 1 - axis)
    striped = land * gain
    assert stripe_strength(striped, np.ones(land.shape, bool)) > LIMITS.max_stripe_strength


def test_gaps_between_scan_lines_are_no_stripes() -> None:
    rng = np.random.default_rng(0)
    land = rng.normal(1000, 40, (128, 128))
    valid = np.ones(land.shape, bool)
    for row in range(0, 128, 8):
        valid[row : row + 3] = False
    land[~valid] = 0
    assert stripe_strength(land, valid) < 0.3


def test_a_coarse_band_on_a_finer_grid_is_not_striped() -> None:
    coarse = np.random.default_rng(0).normal(1000, 40, (64, 64))
    assert math.isnan(stripe_strength(np.kron(coarse, np.ones((2, 2))), np.ones((128, 128), bool)))


@pytest.mark.parametrize("looks", [1, 4, 10])
def test_looks_are_those_of_the_speckle(looks: int) -> None:
    power = np.random.default_rng(0).gamma(looks, 0.05 / looks, (96, 96))
    assert equivalent_looks(power) == pytest.approx(looks, rel=0.25)


def test_one_look_and_filtered_power_are_beyond_the_limits() -> None:
    from scipy.ndimage import uniform_filter

    power = np.random.default_rng(0).gamma(4.4, 0.05 / 4.4, (96, 96))
    assert LIMITS.min_speckle_looks < equivalent_looks(power) < LIMITS.max_speckle_looks
    assert equivalent_looks(np.random.default_rng(0).exponential(0.05, (96, 96))) < LIMITS.min_speckle_looks
    assert equivalent_looks(uniform_filter(power, 5)) > LIMITS.max_speckle_looks
