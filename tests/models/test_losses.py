"""Losses equal what NumPy says they are, and leave out what is invalid."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from models.losses import KeyQueue, info_nce, masked_error, token_targets


def numpy_info_nce(queries, keys, negatives, temperature, left_out):
    unit = lambda v: v / np.linalg.norm(v, axis=1, keepdims=True)
    queries, keys = unit(queries), unit(keys)
    losses = []
    for row in range(len(queries)):
        positive = np.exp(queries[row] @ keys[row] / temperature)
        others = [
            np.exp(queries[row] @ negatives[k] / temperature)
            for k in range(len(negatives))
            if not left_out[row, k]
        ]
        losses.append(-np.log(positive / (positive + sum(others))))
    return np.mean(losses)


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 1.0), st.booleans())
@settings(max_examples=40, deadline=None)
def test_info_nce_is_what_numpy_says(seed: int, temperature: float, some_left_out: bool) -> None:
    rng = np.random.default_rng(seed)
    queries, keys = rng.normal(size=(2, 5, 7))
    negatives = rng.normal(size=(11, 7))
    negatives /= np.linalg.norm(negatives, axis=1, keepdims=True)
    left_out = (rng.random((5, 11)) < 0.3) & some_left_out
    ours = info_nce(
        torch.tensor(queries),
        torch.tensor(keys),
        torch.tensor(negatives),
        temperature,
        torch.tensor(left_out),
    )
    assert ours.dtype == torch.float64
    np.testing.assert_allclose(
        float(ours), numpy_info_nce(queries, keys, negatives, temperature, left_out), rtol=1e-6
    )


def test_the_queue_replaces_its_oldest_keys_first_and_remembers_places() -> None:
    torch.manual_seed(0)
    queue = KeyQueue(5, 2)
    assert (queue.places == -1).all()
    unit = lambda start, count: F.normalize(torch.arange(start, start + 2.0 * count).view(count, 2), dim=1)
    queue.push(unit(1, 3), torch.tensor([10, 11, 12]))
    assert queue.places.tolist() == [10, 11, 12, -1, -1]
    queue.push(unit(7, 3), torch.tensor([13, 14, 15]))
    assert queue.places.tolist() == [15, 11, 12, 13, 14]
    assert torch.equal(queue.keys, torch.cat([unit(7, 3)[2:], unit(1, 3)[1:], unit(7, 3)[:2]]))
    queue.push(unit(1, 8), torch.arange(8))
    assert sorted(queue.places.tolist()) == [3, 4, 5, 6, 7]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_targets_are_normalised_over_valid_values_only(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tokens, valid = rng.normal(5, 3, (2, 4, 9)), rng.random((2, 4, 9)) < 0.6
    hidden = np.where(valid, tokens, np.nan)
    ours = token_targets(torch.tensor(hidden), torch.tensor(valid), normalise=True).numpy()
    for sample in range(2):
        for token in range(4):
            seen = tokens[sample, token][valid[sample, token]]
            if len(seen) > 1:
                expected = (seen - seen.mean()) / np.sqrt(seen.var(ddof=1) + 1e-6)
                np.testing.assert_allclose(ours[sample, token][valid[sample, token]], expected, rtol=1e-6)
            assert (ours[sample, token][~valid[sample, token]] == 0).all()


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_the_error_counts_masked_tokens_and_valid_values_only(seed: int) -> None:
    rng = np.random.default_rng(seed)
    predicted, target = rng.normal(size=(2, 2, 4, 6))
    valid, masked = rng.random((2, 4, 6)) < 0.5, rng.random((2, 4)) < 0.6
    errors = [
        np.mean((predicted[at] - target[at])[valid[at]] ** 2)
        for at in np.argwhere(masked).tolist()
        for at in [tuple(at)]
        if valid[at].any()
    ]
    arguments = [torch.tensor(value) for value in (predicted, target, valid, masked)]
    ours = float(masked_error(*arguments))
    np.testing.assert_allclose(ours, np.mean(errors) if errors else 0.0, rtol=1e-9)
    for change in (~masked[..., None] | ~valid, np.ones_like(valid)):
        moved = [torch.tensor(np.where(change, 99.0, predicted)), *arguments[1:]]
        expected_same = change is not None and not (change & valid & masked[..., None]).any()
        assert (float(masked_error(*moved)) == ours) == (expected_same or not errors)
