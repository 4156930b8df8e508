"""Quality flags of a window."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from catalog.quality import FLAGS
from tasks.readers.flags import cloud_fraction, empty_pixels, nodata_fraction, on_shape, window_flags
from tests.tasks.scene_files import built_in


def test_a_pixel_is_empty_only_where_no_band_holds_a_measurement() -> None:
    values = np.array([[[0, 0], [5, 0]], [[0, 7], [0, 0]]], np.uint16)
    np.testing.assert_array_equal(empty_pixels(values, 0), [[True, False], [False, True]])


def test_nan_is_empty_in_a_product_of_floats() -> None:
    values = np.array([[[np.nan, 1.0, -32768.0]]], np.float32)
    np.testing.assert_array_equal(empty_pixels(values, -32768), [[True, False, True]])


@given(st.integers(1, 6), st.integers(1, 6))
def test_ground_is_empty_on_a_coarser_grid_only_where_all_of_it_is(factor: int, side: int) -> None:
    fine = np.ones((side * factor, side * factor), bool)
    assert on_shape(fine, (side, side)).all()
    fine[0, 0] = False
    coarse = on_shape(fine, (side, side))
    assert not coarse[0, 0] and coarse.sum() == side * side - 1


@given(st.integers(1, 6), st.integers(1, 6))
def test_a_coarse_mask_covers_all_the_finer_pixels_below(factor: int, side: int) -> None:
    coarse = np.eye(side, dtype=bool)
    fine = on_shape(coarse, (side * factor, side * factor))
    np.testing.assert_array_equal(fine, np.kron(coarse, np.ones((factor, factor), bool)).astype(bool))


def test_outside_the_qa_raster_there_is_nodata_and_nothing_else() -> None:
    product = built_in("sentinel-2-l2a")
    scl = np.array([[9, 9], [4, 6]], np.uint8)
    outside = np.array([[True, False], [False, False]])
    full = {gsd: np.zeros((2, 2), bool) for gsd in product.resolutions_m}
    flags = window_flags(product, full, {None: scl}, outside, (2, 2))
    np.testing.assert_array_equal(flags, [[FLAGS["nodata"], FLAGS["cloud"]], [0, FLAGS["water"]]])


def test_a_pixel_that_one_resolution_still_sees_is_not_empty() -> None:
    product = built_in("sentinel-2-l2a")
    scl = np.full((3, 3), 4, np.uint8)
    empty = {10.0: np.ones((6, 6), bool), 20.0: np.ones((3, 3), bool), 60.0: np.zeros((1, 1), bool)}
    assert not window_flags(product, empty, {None: scl}, None, (3, 3)).any()
    empty[60.0][:] = True
    assert (window_flags(product, empty, {None: scl}, None, (3, 3)) == FLAGS["nodata"]).all()


def test_cloud_is_a_share_of_the_valid_pixels_and_unknown_without_a_layer() -> None:
    flags = np.array([[FLAGS["nodata"], FLAGS["nodata"] | FLAGS["cloud"], FLAGS["shadow"], 0]], np.uint8)
    optical, radar = built_in("sentinel-2-l2a"), built_in("sentinel-1-rtc")
    assert cloud_fraction(optical, flags) == 0.5
    assert nodata_fraction(flags) == 0.5
    assert math.isnan(cloud_fraction(radar, flags))
    assert cloud_fraction(optical, np.full((2, 2), FLAGS["nodata"], np.uint8)) == 0
