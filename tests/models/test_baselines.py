"""Baselines see valid pixels only, and PCA learns from what it is fitted on alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.baselines import (
    COMPONENTS,
    WINDOW,
    PrincipalComponents,
    cells,
    image_statistics,
    mean_spectrum,
    pixel_spectrum,
    pixel_windows,
    with_gaps,
)


def _chips(n: int = 6, bands: int = 3, side: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(0.2, 0.1, (n, bands, side, side)).astype(np.float32), rng.random(
        (n, 1, side, side)
    ) > 0.3


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_what_lies_under_the_mask_moves_no_feature(seed: int) -> None:
    values, valid = _chips(seed=seed)
    valid = np.broadcast_to(valid, values.shape)
    other = np.where(valid, values, np.random.default_rng(seed).normal(0, 99, values.shape)).astype(
        np.float32
    )
    for compute in (image_statistics, mean_spectrum, cells):
        assert np.array_equal(
            compute(with_gaps(values, valid)), compute(with_gaps(other, valid)), equal_nan=True
        )


def test_image_statistics_are_mean_deviation_minimum_and_maximum_per_band() -> None:
    values, _ = _chips(n=2)
    flat = values.reshape(2, 3, -1)
    expected = np.concatenate([flat.mean(2), flat.std(2), flat.min(2), flat.max(2)], axis=1)
    assert np.allclose(image_statistics(values), expected, atol=1e-6)


def test_a_band_without_a_valid_pixel_is_a_gap_and_no_number() -> None:
    values, valid = _chips(n=1)
    valid = np.broadcast_to(valid, values.shape).copy()
    valid[0, 1] = False
    found = mean_spectrum(with_gaps(values, valid))
    assert np.isnan(found[0]).tolist() == [False, True, False]


def test_windows_around_pixels_hold_their_neighbours_and_gaps_beyond_the_edge() -> None:
    values, _ = _chips(n=2)
    index, rows, columns = np.array([1, 0]), np.array([6, 0]), np.array([7, 11])
    windows = pixel_windows(values, index, rows, columns)
    assert windows.shape == (2, 3, WINDOW, WINDOW)
    assert np.array_equal(windows[0], values[1, :, 4:9, 5:10])
    assert np.array_equal(pixel_spectrum(windows), values[index, :, rows, columns])
    assert np.isnan(windows[1, :, :2]).all() and np.isnan(windows[1, :, :, 3:]).all()


def test_cells_keep_the_layout_of_small_patches() -> None:
    values, _ = _chips(side=4)
    assert np.allclose(cells(values).reshape(6, 3, 4, 4), values)
    assert cells(_chips(side=50)[0]).shape == (6, 3 * 64)


def test_pca_learns_from_the_training_samples_alone() -> None:
    rng = np.random.default_rng(1)
    train, test = rng.normal(size=(40, 10)), rng.normal(5, 3, size=(20, 10))
    components = PrincipalComponents.fit(train)
    before = components.apply(train)
    components.apply(test)
    assert np.allclose(before, PrincipalComponents.fit(train.copy()).apply(train))
    assert np.allclose(before.mean(0), 0, atol=1e-9)
    assert not np.allclose(components.apply(test).mean(0), 0, atol=0.5)


@pytest.mark.parametrize(("samples", "values"), [(3, 500), (200, 5), (300, 400)])
def test_pca_never_asks_for_more_components_than_there_are(samples: int, values: int) -> None:
    inputs = np.random.default_rng(0).normal(size=(samples, values))
    found = PrincipalComponents.fit(inputs).apply(inputs)
    assert found.shape == (samples, min(COMPONENTS, samples - 1, values))
