"""Votes of labelled samples are what NumPy says they are, and what they are compared with."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.nearest_support import (
    agreement_error,
    mean_entropy,
    nearest_classes,
    sharpened,
    smoothed_classes,
)

seeds = st.integers(0, 2**32 - 1)


def probabilities(rng, batch, classes):
    values = rng.random((batch, classes)) ** 3 + 1e-3
    return values / values.sum(1, keepdims=True)


@given(seeds, st.integers(1, 5), st.integers(2, 9), st.integers(2, 4), st.floats(0.05, 1.0))
@settings(max_examples=60, deadline=None)
def test_the_vote_is_what_numpy_says(
    seed: int, batch: int, labelled: int, classes: int, temperature: float
) -> None:
    rng = np.random.default_rng(seed)
    embeddings, support = rng.normal(size=(batch, 6)), rng.normal(size=(labelled, 6))
    labels = rng.integers(0, classes, labelled)
    expected = np.zeros((batch, classes))
    for i in range(batch):
        weights = [
            math.exp(embeddings[i] @ one / np.linalg.norm(embeddings[i]) / np.linalg.norm(one) / temperature)
            for one in support
        ]
        for weight, label in zip(weights, labels, strict=True):
            row = np.full(classes, 0.1 / classes)
            row[label] += 0.9
            expected[i] += weight / sum(weights) * row
    rows = smoothed_classes(torch.from_numpy(labels), classes, 0.1)
    ours = nearest_classes(
        torch.from_numpy(embeddings), torch.from_numpy(support), rows.double(), temperature
    )
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(ours.sum(1).numpy(), 1.0, atol=1e-6)


@given(seeds, st.integers(1, 8), st.integers(2, 6), st.floats(0.1, 1.0))
@settings(max_examples=60, deadline=None)
def test_sharpening_agreement_and_entropy_are_what_numpy_says(
    seed: int, batch: int, classes: int, temperature: float
) -> None:
    rng = np.random.default_rng(seed)
    p, q = probabilities(rng, batch, classes), probabilities(rng, batch, classes)
    seen = rng.random(batch) < 0.7
    powers = q ** (1 / temperature)
    sharp = powers / powers.sum(1, keepdims=True)
    ours = sharpened(torch.from_numpy(q), temperature)
    np.testing.assert_allclose(ours.numpy(), sharp, atol=1e-6)
    target = np.where(sharp < 1e-4, 0, sharp)
    errors = -(target * np.log(p)).sum(1)[seen]
    error = agreement_error(torch.from_numpy(p), ours, torch.from_numpy(seen))
    assert float(error) == pytest.approx(errors.mean() if seen.any() else 0.0, abs=1e-6)
    mean = p[seen].mean(0) if seen.any() else np.zeros(classes)
    entropy = -sum(share * math.log(share) for share in mean if share > 0)
    assert float(mean_entropy(torch.from_numpy(p), torch.from_numpy(seen))) == pytest.approx(
        entropy, abs=1e-6
    )


def test_the_entropy_is_largest_where_classes_are_used_alike() -> None:
    alike, one = torch.eye(4, dtype=torch.float64), torch.eye(4, dtype=torch.float64)[:1].repeat(4, 1)
    assert float(mean_entropy(alike)) == pytest.approx(math.log(4))
    assert float(mean_entropy(one)) == 0.0


def test_sharpening_at_one_changes_nothing_and_near_zero_decides() -> None:
    p = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64)
    torch.testing.assert_close(sharpened(p, 1.0), p)
    torch.testing.assert_close(sharpened(p, 0.01), torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64))
    # Powers of 20 leave float32; what is likely must still win.
    assert sharpened(torch.tensor([[1e-6, 1e-7]]), 0.05)[0, 0] == pytest.approx(1.0)


def test_no_gradient_reaches_a_target_and_some_reaches_the_labelled() -> None:
    torch.manual_seed(0)
    embeddings, support, target = (
        torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((4, 5), (6, 5), (4, 3))
    )
    rows = smoothed_classes(torch.tensor([0, 0, 1, 1, 2, 2]), 3, 0.1).double()
    agreement_error(nearest_classes(embeddings, support, rows, 0.1), target.softmax(1)).backward()
    assert target.grad is None
    for learnt in (embeddings, support):
        assert learnt.grad is not None
        assert (learnt.grad != 0).any()
