"""Barlow Twins and VICReg are what NumPy says they are, term by term."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightly.loss import BarlowTwinsLoss, VICRegLoss

from models.correlation import barlow_twins_loss, standardised, vicreg_terms

seeds = st.integers(0, 2**32 - 1)
shapes = st.tuples(st.integers(2, 12), st.integers(1, 12))


def correlation(first, second):
    scaled = [(v - v.mean(0)) / np.sqrt(v.var(0) + 1e-5) for v in (first, second)]
    return scaled[0].T @ scaled[1] / len(first)


def draw_to(matrix, diagonal, redundancy):
    off = matrix - np.diag(np.diag(matrix))
    return ((diagonal - np.diag(matrix)) ** 2).sum() + redundancy * (off**2).sum()


@given(seeds, shapes, st.floats(0, 1), st.sampled_from([0.0, 1.0]))
@settings(max_examples=80, deadline=None)
def test_barlow_twins_is_what_numpy_says(
    seed: int, shape: tuple[int, int], redundancy: float, diagonal: float
) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.normal(2, 3, size=(2, *shape))
    seen = rng.random(shape[0]) < 0.7
    seen[:2] = True
    ours = barlow_twins_loss(
        torch.tensor(first), torch.tensor(second), redundancy, diagonal=diagonal, seen=torch.tensor(seen)
    )
    expected = draw_to(correlation(first[seen], second[seen]), diagonal, redundancy)
    assert ours.dtype == torch.float64
    np.testing.assert_allclose(float(ours), expected, rtol=1e-6, atol=1e-9)


@given(seeds, shapes, st.integers(0, 12))
@settings(max_examples=30, deadline=None)
def test_columns_cut_before_are_a_block_of_the_matrix(seed: int, shape: tuple[int, int], cut: int) -> None:
    first, second = np.random.default_rng(seed).normal(size=(2, *shape))
    matrix = correlation(first, second)
    ours = barlow_twins_loss(torch.tensor(first[:, cut:]), torch.tensor(second[:, cut:]), 0.1, diagonal=0.0)
    np.testing.assert_allclose(float(ours), draw_to(matrix[cut:, cut:], 0.0, 0.1), rtol=1e-6, atol=1e-9)


def test_equal_standardised_views_have_nothing_on_the_diagonal_to_gain() -> None:
    values = standardised(torch.randn(32, 7, dtype=torch.float64), torch.ones(32, 1))
    assert barlow_twins_loss(values, values, 0.0) < 1e-8
    assert barlow_twins_loss(values, -values, 0.0) == pytest.approx(7 * 4, rel=1e-3)
    independent = torch.randn(2000, 7, dtype=torch.float64)
    assert barlow_twins_loss(independent, independent.roll(1, 0), 1.0) == pytest.approx(7, abs=1)


@given(seeds, shapes)
@settings(max_examples=30, deadline=None)
def test_in_one_process_both_are_lightlys(seed: int, shape: tuple[int, int]) -> None:
    torch.manual_seed(seed % 2**31)
    first, second = torch.randn(2, *shape, dtype=torch.float64)
    torch.testing.assert_close(
        barlow_twins_loss(first, second, 0.005), BarlowTwinsLoss(0.005)(first, second), rtol=1e-6, atol=1e-9
    )
    terms = vicreg_terms(first, second)
    for weights in np.eye(3):
        expected = VICRegLoss(*weights)(first, second)
        ours = sum(weight * term for weight, term in zip(weights, terms, strict=True))
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-9)


@given(seeds, shapes)
@settings(max_examples=80, deadline=None)
def test_the_terms_of_vicreg_are_what_numpy_says(seed: int, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.normal(0, 0.7, size=(2, *shape))
    seen = rng.random(shape[0]) < 0.7
    seen[:2] = True
    terms = vicreg_terms(torch.tensor(first), torch.tensor(second), torch.tensor(seen))
    ours = [float(term) for term in terms]
    first, second = first[seen], second[seen]
    invariance = ((first - second) ** 2).mean()
    variance = covariance = 0.0
    for values in (first, second):
        matrix = np.cov(values, rowvar=False, ddof=1).reshape(shape[1], shape[1])
        variance += np.maximum(0, 1 - np.sqrt(np.diag(matrix) + 1e-4)).mean() / 2
        covariance += ((matrix - np.diag(np.diag(matrix))) ** 2).sum() / shape[1]
    np.testing.assert_allclose(ours, [invariance, variance, covariance], rtol=1e-6, atol=1e-9)


def test_each_term_of_vicreg_sees_its_own_fault_only() -> None:
    torch.manual_seed(0)
    values = torch.randn(40, 5, dtype=torch.float64)
    values = torch.linalg.qr(values - values.mean(0))[0] * 39**0.5 * 1.5  # uncorrelated, deviation 1.5
    fine = [float(term) for term in vicreg_terms(values, values)]
    assert fine == pytest.approx([0, 0, 0], abs=1e-9)
    shifted = [float(term) for term in vicreg_terms(values, values + 1)]
    assert shifted == pytest.approx([1, 0, 0], abs=1e-9)
    narrow = [float(term) for term in vicreg_terms(values / 3, values / 3)]
    assert narrow == pytest.approx([0, 1 - (0.25 + 1e-4) ** 0.5, 0], abs=1e-9)
    doubled = torch.cat([values, values[:, :1]], 1)
    twice = [float(term) for term in vicreg_terms(doubled, doubled)]
    assert twice[:2] == pytest.approx([0, 0], abs=1e-9)
    assert twice[2] == pytest.approx(2 * 2 * 2.25**2 / 6)


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_the_short_way_has_the_gradient_of_the_matrix(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for shape in ((5, 9), (9, 5)):
        first, second = (torch.tensor(rng.normal(size=shape), requires_grad=True) for _ in range(2))
        ours = torch.autograd.grad(barlow_twins_loss(first, second, 0.3), (first, second))
        weight = torch.ones(shape[0], 1)
        matrix = standardised(first, weight).T @ standardised(second, weight) / shape[0]
        off = matrix - torch.diag(matrix.diagonal())
        loss = (1 - matrix.diagonal()).square().sum() + 0.3 * off.square().sum()
        torch.testing.assert_close(ours, torch.autograd.grad(loss, (first, second)))


def test_a_batch_without_a_seen_sample_has_a_finite_loss_and_no_gradient() -> None:
    first, second = torch.randn(2, 4, 3).requires_grad_().unbind()
    nobody = torch.zeros(4, dtype=torch.bool)
    for loss in (
        barlow_twins_loss(first, second, 0.1, seen=nobody),
        sum(vicreg_terms(first, second, nobody)),
    ):
        gradients = torch.autograd.grad(loss, (first, second))
        assert torch.isfinite(loss)
        assert all((gradient == 0).all() for gradient in gradients)
