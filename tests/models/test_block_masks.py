"""Hidden tokens come in blocks, as many in every sample; hidden pixels in whole squares."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.block_masks import block_mask, hidden_blocks


@given(st.integers(0, 2**32 - 1), st.integers(2, 15), st.integers(2, 15), st.floats(0.05, 0.95))
@settings(max_examples=40, deadline=None)
def test_every_sample_hides_as_many_tokens_as_asked(seed: int, rows: int, columns: int, share: float) -> None:
    torch.manual_seed(seed)
    hidden = max(1, round(share * rows * columns))
    mask = block_mask(5, (rows, columns), hidden, smallest=max(1, round(0.08 * rows * columns)))
    assert mask.shape == (5, rows * columns)
    assert mask.sum(1).tolist() == [hidden] * 5


def test_blocks_hang_together_where_single_tokens_would_not() -> None:
    torch.manual_seed(0)
    mask = block_mask(200, (14, 14), 120, smallest=16).view(-1, 14, 14)
    alone = torch.rand(200, 196).argsort(1).view(-1, 14, 14) < 120

    def neighbours_alike(value: torch.Tensor) -> float:
        return float((value[:, 1:] == value[:, :-1]).float().mean())

    assert neighbours_alike(mask) > 0.8 > neighbours_alike(alone) + 0.2
    # Every token is hidden now and then (corners least, as in BEiT), and samples differ.
    assert 0.05 < mask.float().mean(0).min() <= mask.float().mean(0).max() < 0.97
    assert len({tuple(sample.flatten().tolist()) for sample in mask}) == 200


def test_hidden_pixels_are_whole_squares_of_the_share_asked_for() -> None:
    torch.manual_seed(0)
    hidden = hidden_blocks(torch.zeros(6, 3, 64, 96), 32, 0.6)
    assert hidden.shape == (6, 1, 64, 96)
    squares = hidden.view(6, 2, 32, 3, 32).float().mean((2, 4))
    assert set(squares.flatten().tolist()) == {0.0, 1.0}
    assert squares.flatten(1).sum(1).tolist() == [math.ceil(0.6 * 6)] * 6


def test_squares_at_the_edge_may_be_cut_off() -> None:
    torch.manual_seed(0)
    assert hidden_blocks(torch.zeros(2, 1, 40, 40), 32, 0.99).all()
