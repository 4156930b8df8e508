"""Contrastive losses are what NumPy says they are, and leave out negatives of the same place."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightly.loss import NTXentLoss

from models.contrast import batch_info_nce, cosine_distance, multi_view_nt_xent, nt_xent

seeds = st.integers(0, 2**32 - 1)


def unit(values):
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def numpy_nt_xent(first, second, temperature, places):
    views = np.concatenate([unit(first), unit(second)])
    number = np.tile(np.arange(len(first)), 2)
    where = np.tile(places, 2)
    losses = []
    for i in range(len(views)):
        (j,) = [k for k in range(len(views)) if number[k] == number[i] and k != i]
        similar = lambda k, i=i: math.exp(views[i] @ views[k] / temperature)
        others = [similar(k) for k in range(len(views)) if k not in (i, j) and where[k] != where[i]]
        losses.append(-math.log(similar(j) / (similar(j) + sum(others))))
    return np.mean(losses)


def numpy_info_nce(queries, keys, temperature, places):
    queries, keys = unit(queries), unit(keys)
    losses = []
    for i in range(len(queries)):
        similar = np.exp(queries[i] @ keys.T / temperature)
        others = [similar[k] for k in range(len(keys)) if k != i and places[k] != places[i]]
        losses.append(-math.log(similar[i] / (similar[i] + sum(others))))
    return np.mean(losses)


def numpy_multi_view(views, temperature, places, seen):
    count, batch, _ = views.shape
    views = np.stack([unit(view) for view in views])
    losses = []
    for o in range(batch):
        if not seen[o]:
            continue
        for a in range(count):
            others = sum(
                math.exp(views[a, o] @ views[c, k] / temperature)
                for c in range(count)
                for k in range(batch)
                if k != o and places[k] != places[o] and seen[k]
            )
            for b in range(count):
                if b != a:
                    right = math.exp(views[a, o] @ views[b, o] / temperature)
                    losses.append(-math.log(right / (right + others)))
    return np.mean(losses) if losses else 0.0


@given(seeds, st.integers(2, 4), st.integers(1, 6), st.integers(1, 6), st.floats(0.05, 1.0))
@settings(max_examples=60, deadline=None)
def test_identification_of_objects_is_what_numpy_says(
    seed: int, count: int, batch: int, width: int, temperature: float
) -> None:
    rng = np.random.default_rng(seed)
    views = rng.normal(size=(count, batch, width))
    places = rng.integers(0, max(1, batch - 1), batch)
    seen = rng.random(batch) < 0.8
    ours = multi_view_nt_xent(
        torch.from_numpy(views), temperature, torch.from_numpy(places), torch.from_numpy(seen)
    )
    assert float(ours) == pytest.approx(numpy_multi_view(views, temperature, places, seen), abs=1e-6)


def test_identification_from_two_views_is_nt_xent() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(2, 7, 5, dtype=torch.float64)
    places = torch.tensor([0, 1, 2, 0, 3, 4, 5])
    seen = torch.tensor([True, True, False, True, True, True, True])
    for known in (None, places):
        ours = multi_view_nt_xent(torch.stack([first, second]), 0.2, known, seen)
        torch.testing.assert_close(ours, nt_xent(first, second, 0.2, known, seen))


def test_an_object_alone_gives_no_gradient_that_is_no_number() -> None:
    views = torch.randn(3, 1, 5, dtype=torch.float64, requires_grad=True)
    loss = multi_view_nt_xent(views, 0.1)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert views.grad is not None
    assert (views.grad == 0).all()


@given(seeds, st.integers(1, 7), st.integers(1, 9), st.floats(0.05, 1.0))
@settings(max_examples=60, deadline=None)
def test_losses_within_the_batch_are_what_numpy_says(
    seed: int, batch: int, width: int, temperature: float
) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(2, batch, width))
    places = rng.integers(0, 4, batch)
    seen = rng.random(batch) < 0.7
    seen[0] = True
    tensors = [torch.tensor(values) for values in (first, second, places, seen)]
    arguments = (*tensors[:2], temperature, *tensors[2:])
    first, second, places = first[seen], second[seen], places[seen]
    for ours, restated in ((nt_xent, numpy_nt_xent), (batch_info_nce, numpy_info_nce)):
        loss = ours(*arguments)
        assert loss.dtype == torch.float64
        expected = restated(first, second, temperature, places)
        np.testing.assert_allclose(float(loss), expected, rtol=1e-6, atol=1e-12)


@given(seeds, st.integers(2, 6))
@settings(max_examples=20, deadline=None)
def test_without_places_nt_xent_is_lightlys(seed: int, batch: int) -> None:
    torch.manual_seed(seed % 2**31)
    first, second = torch.randn(2, batch, 5, dtype=torch.float64)
    torch.testing.assert_close(nt_xent(first, second, 0.3), NTXentLoss(temperature=0.3)(first, second))
    torch.testing.assert_close(nt_xent(first, second, 0.3), nt_xent(second, first, 0.3))


def test_gradients_of_info_nce_reach_queries_only() -> None:
    queries, keys = torch.randn(2, 4, 3, requires_grad=True).unbind()
    gradients = torch.autograd.grad(batch_info_nce(queries, keys, 0.2), (queries, keys), allow_unused=True)
    assert gradients[0].abs().sum() > 0
    assert gradients[1] is None


@given(seeds, st.integers(1, 6), st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_cosine_distance_is_the_squared_distance_of_unit_vectors(seed: int, batch: int, width: int) -> None:
    predicted, target = np.random.default_rng(seed).normal(size=(2, batch, width))
    seen = np.random.default_rng(seed).random(batch) < 0.7
    seen[0] = True
    expected = ((unit(predicted) - unit(target)) ** 2).sum(1)[seen].mean()
    ours = cosine_distance(torch.tensor(predicted), torch.tensor(target), torch.tensor(seen))
    np.testing.assert_allclose(float(ours), expected, rtol=1e-6, atol=1e-9)


def test_cosine_distance_gives_its_target_no_gradient() -> None:
    predicted, target = torch.randn(2, 4, 3, requires_grad=True).unbind()
    gradients = torch.autograd.grad(
        cosine_distance(predicted, target), (predicted, target), allow_unused=True
    )
    assert gradients[0] is not None
    assert gradients[1] is None


@pytest.mark.parametrize("loss", [nt_xent, batch_info_nce])
def test_bf16_projections_are_compared_in_float32(loss) -> None:
    torch.manual_seed(0)
    first, second = torch.randn(2, 6, 8).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        ours = loss(first, second, 0.05)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, loss(first.float(), second.float(), 0.05))


def test_where_nothing_was_seen_there_is_no_loss_and_no_gradient() -> None:
    first, second = torch.randn(2, 4, 3).requires_grad_().unbind()
    nobody = torch.zeros(4, dtype=torch.bool)
    for loss in (
        nt_xent(first, second, 0.1, torch.arange(4), nobody),
        batch_info_nce(first, second, 0.1, torch.arange(4), nobody),
        cosine_distance(first, second, nobody),
    ):
        (gradient,) = torch.autograd.grad(loss, first)
        assert loss == 0
        assert (gradient == 0).all()
