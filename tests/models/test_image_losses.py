"""Reconstruction losses are what NumPy says, over hidden or valid values only."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.image_losses import focal_frequency, focal_l1


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_focal_l1_is_what_numpy_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    predicted, target = rng.normal(size=(2, 3, 2, 4, 4))
    counted = rng.random((3, 2, 4, 4)) < 0.4
    error = np.abs(predicted - target)[counted]
    expected = (error * (2 / (1 + np.exp(-0.2 * error)) - 1)).mean() if counted.any() else 0.0
    ours = focal_l1(torch.tensor(predicted), torch.tensor(target), torch.tensor(counted))
    np.testing.assert_allclose(float(ours), expected, rtol=1e-6)


def numpy_focal_frequency(predicted, target, hidden, valid):
    weight = hidden + (1 - hidden) * 0.001
    mixed = predicted * weight + (0.5 * predicted + 0.5 * target) * (1 - weight)
    ours, theirs = (
        np.fft.fft2(np.where(valid, image, 0.0), norm="ortho").mean(0) for image in (mixed, target)
    )
    distance = np.abs(ours - theirs)
    importance = np.log(distance + 1)
    if importance.max() > 0:
        importance = np.clip(importance / importance.max(), 0, 1)
    return (importance * distance**2).mean()


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_the_frequency_loss_is_what_numpy_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    predicted, target = rng.normal(size=(2, 3, 2, 6, 6))
    hidden, valid = rng.random((3, 1, 6, 6)) < 0.6, rng.random((3, 1, 6, 6)) < 0.8
    ours = focal_frequency(*(torch.tensor(value) for value in (predicted, target, hidden, valid)))
    np.testing.assert_allclose(
        float(ours), numpy_focal_frequency(predicted, target, hidden, valid), rtol=1e-6
    )


def test_a_perfect_reconstruction_costs_nothing_and_leaves_finite_gradients() -> None:
    target = torch.randn(2, 3, 8, 8)
    predicted = target.clone().requires_grad_()
    hidden, valid = torch.rand(2, 1, 8, 8) > 0.5, torch.ones(2, 1, 8, 8, dtype=torch.bool)
    loss = focal_frequency(predicted, target, hidden, valid)
    loss = loss + focal_l1(predicted, target, hidden.expand_as(target))
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.equal(predicted.grad, torch.zeros_like(target))


def test_invalid_values_move_neither_loss_nor_gradient() -> None:
    torch.manual_seed(0)
    valid, hidden = torch.rand(2, 1, 8, 8) > 0.3, torch.rand(2, 1, 8, 8) > 0.5
    outcomes = []
    for garbage in (0.0, 1e6):
        torch.manual_seed(1)
        predicted = torch.randn(2, 3, 8, 8, requires_grad=True)
        target = torch.where(valid, torch.randn(2, 3, 8, 8), garbage)
        loss = focal_frequency(predicted, target, hidden, valid)
        loss = loss + focal_l1(predicted, target, (hidden & valid).expand_as(target))
        loss.backward()
        outcomes.append((loss, predicted.grad))
    assert torch.equal(outcomes[0][0], outcomes[1][0])
    assert torch.equal(outcomes[0][1], outcomes[1][1])
    assert (outcomes[0][1][~valid.expand(-1, 3, -1, -1)] == 0).all()


def test_open_pixels_hardly_pull_on_the_prediction() -> None:
    torch.manual_seed(0)
    predicted = torch.randn(1, 1, 8, 8, requires_grad=True)
    hidden = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    hidden[..., :4] = True
    everything = torch.ones_like(hidden)
    focal_frequency(predicted, torch.randn(1, 1, 8, 8), hidden, everything).backward()
    gradient = predicted.grad.abs()
    assert gradient[~hidden].max() < 0.01 * gradient[hidden].max()
