"""Spectra reach another band grid by wavelength, whatever their order; the same grid changes nothing."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.wavelengths import CODE_LENGTH, covered, nearest_or_between, resampling, wavelength_code

ENMAP_LIKE = [420 + 6.5 * at for at in range(90)] + [1010 + 10.5 * at for at in range(100)]


def test_the_same_grid_is_the_identity() -> None:
    assert torch.equal(resampling(ENMAP_LIKE, ENMAP_LIKE), torch.eye(len(ENMAP_LIKE)))


@given(st.integers(0, 2**32 - 1), st.integers(10, 120))
@settings(max_examples=30, deadline=None)
def test_rows_are_means_and_a_straight_line_stays_one(seed: int, bands: int) -> None:
    rng = np.random.default_rng(seed)
    given_nm = np.sort(rng.uniform(400, 2500, bands))
    weights = resampling(given_nm.tolist(), ENMAP_LIKE).double()
    inside = covered(given_nm.tolist(), ENMAP_LIKE)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(1), inside.double(), rtol=0, atol=1e-5)
    between = (np.array(ENMAP_LIKE) >= given_nm[0]) & (np.array(ENMAP_LIKE) <= given_nm[-1])
    assert inside.numpy()[between].all()
    # A mean of several neighbours may lean to one side by less than the reference's own spacing.
    carried = weights @ torch.tensor(given_nm)
    assert np.abs(carried.numpy()[between] - np.array(ENMAP_LIKE)[between]).max() < 10.5


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_the_order_of_the_bands_does_not_matter(seed: int) -> None:
    order = np.random.default_rng(seed).permutation(60)
    grid = [430 + 9.0 * at for at in range(60)]
    shuffled = resampling([grid[at] for at in order], ENMAP_LIKE)
    torch.testing.assert_close(shuffled, resampling(grid, ENMAP_LIKE)[:, order])


def test_denser_bands_are_averaged_and_sparser_ones_joined_by_a_line() -> None:
    reference = [500.0, 510.0, 520.0]
    dense = resampling([500.0, 505.0, 510.0, 515.0, 520.0], reference)
    torch.testing.assert_close(dense[1], torch.tensor([0, 0.25, 0.5, 0.25, 0]))
    sparse = resampling([480.0, 530.0], reference)
    torch.testing.assert_close(sparse[:, 1], torch.tensor([0.4, 0.6, 0.8]))


def test_what_the_bands_do_not_reach_is_not_covered() -> None:
    seen = covered([420 + 5.0 * at for at in range(100)], ENMAP_LIKE)
    assert seen[:70].all() and not seen[90:].any()


def test_neighbouring_wavelengths_have_alike_codes_and_distant_ones_do_not() -> None:
    code = wavelength_code([500.0, 505.0, 900.0, 2200.0])
    assert code.shape == (4, CODE_LENGTH)
    likeness = (code @ code.T) / (CODE_LENGTH / 2)
    assert likeness[0, 1] > 0.95 > 0.8 > max(likeness[0, 2], likeness[0, 3])


def test_statistics_are_read_off_between_neighbours_and_held_beyond_the_ends() -> None:
    weights = nearest_or_between([600.0, 500.0, 700.0], [400.0, 500.0, 575.0, 690.0, 900.0])
    expected = [[0, 1, 0], [0, 1, 0], [0.75, 0.25, 0], [0.1, 0, 0.9], [0, 0, 1]]
    torch.testing.assert_close(weights, torch.tensor(expected, dtype=torch.float64))
    assert nearest_or_between([600.0], [400.0, 900.0]).tolist() == [[1.0], [1.0]]
