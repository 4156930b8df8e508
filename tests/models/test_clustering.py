"""Sinkhorn codes give every sample one unit and every prototype its equal part."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightly.loss.swav_loss import sinkhorn

from models.clustering import code_error, prototype_scores, sinkhorn_codes

seeds = st.integers(0, 2**32 - 1)


def numpy_sinkhorn(scores, epsilon, iterations):
    plan = np.exp(scores / epsilon).T
    prototypes, samples = plan.shape
    plan /= plan.sum()
    for _ in range(iterations):
        plan /= plan.sum(1, keepdims=True) * prototypes
        plan /= plan.sum(0, keepdims=True) * samples
    return (plan * samples).T


@given(seeds, st.integers(1, 9), st.integers(2, 9), st.floats(0.02, 1.0), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_codes_are_what_numpy_says(
    seed: int, samples: int, prototypes: int, epsilon: float, iterations: int
) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.uniform(-1, 1, (samples, prototypes))
    ours = sinkhorn_codes(torch.tensor(scores), epsilon=epsilon, iterations=iterations)
    np.testing.assert_allclose(ours, numpy_sinkhorn(scores, epsilon, iterations), rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(ours.sum(1), 1, rtol=1e-9)
    torch.testing.assert_close(ours, sinkhorn(torch.tensor(scores), iterations, epsilon))
    seen = rng.random(samples) < 0.7
    seen[0] = True
    ours = sinkhorn_codes(
        torch.tensor(scores), epsilon=epsilon, iterations=iterations, seen=torch.tensor(seen)
    )
    expected = numpy_sinkhorn(scores[seen], epsilon, iterations)
    np.testing.assert_allclose(ours[seen], expected, rtol=1e-6, atol=1e-12)
    assert (ours[~seen] == 0).all()


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_with_more_iterations_all_prototypes_are_used_alike(seed: int) -> None:
    scores = torch.tensor(np.random.default_rng(seed).uniform(-1, 1, (24, 6)))
    uneven = [
        float((sinkhorn_codes(scores, epsilon=0.3, iterations=count).sum(0) - 4).abs().max())
        for count in (1, 3, 200)
    ]
    assert uneven[2] < 1e-6
    assert uneven[2] < uneven[1] < uneven[0]


def test_with_nothing_seen_all_codes_are_zero() -> None:
    nobody = torch.zeros(3, dtype=torch.bool)
    assert (sinkhorn_codes(torch.rand(3, 4), epsilon=0.05, iterations=3, seen=nobody) == 0).all()


def test_one_cluster_that_all_samples_prefer_is_shared_out() -> None:
    scores = torch.full((8, 4), -0.5)
    scores[:, 0] = torch.linspace(0.5, 0.9, 8)
    plain = (scores / 0.05).softmax(1).sum(0)
    assert plain[0] > 7.99
    codes = sinkhorn_codes(scores, epsilon=0.05, iterations=3)
    assert codes.dtype == torch.float64
    torch.testing.assert_close(codes.sum(0), torch.full((4,), 2.0, dtype=torch.float64), rtol=0.2, atol=0)


def test_extreme_scores_of_bf16_overflow_nothing() -> None:
    scores = torch.tensor([[1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]]).bfloat16()
    codes = sinkhorn_codes(scores, epsilon=0.004, iterations=3)
    assert torch.isfinite(codes).all()
    torch.testing.assert_close(codes[0], torch.tensor([1.0, 0.0], dtype=torch.float64))


@given(seeds, st.integers(1, 6), st.integers(2, 6), st.floats(0.05, 1.0))
@settings(max_examples=30, deadline=None)
def test_the_error_is_the_cross_entropy_with_the_codes(
    seed: int, samples: int, prototypes: int, temperature: float
) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.uniform(-1, 1, (samples, prototypes))
    codes = rng.dirichlet(np.ones(prototypes), samples)
    chance = np.exp(scores / temperature) / np.exp(scores / temperature).sum(1, keepdims=True)
    ours = code_error(torch.tensor(scores), torch.tensor(codes), temperature)
    np.testing.assert_allclose(float(ours), -(codes * np.log(chance)).sum(1).mean(), rtol=1e-6)


def test_scores_are_cosines_and_carry_gradients_to_both_sides() -> None:
    features = torch.randn(3, 4, requires_grad=True)
    prototypes = torch.nn.functional.normalize(torch.randn(5, 4), dim=1).requires_grad_()
    scores = prototype_scores(features, prototypes)
    expected = torch.nn.functional.cosine_similarity(features[:, None], prototypes[None], dim=2)
    torch.testing.assert_close(scores, expected)
    gradients = torch.autograd.grad(scores.square().sum(), (features, prototypes))
    assert all(gradient.abs().sum() > 0 for gradient in gradients)
