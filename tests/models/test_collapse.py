"""Signs of collapse are plain on a constant and absent on noise."""

from __future__ import annotations

import torch

from models.collapse import collapse_signs


def test_a_constant_has_neither_spread_nor_rank_and_noise_has_both() -> None:
    torch.manual_seed(0)
    constant = collapse_signs(torch.ones(32, 16))
    assert constant["embedding_std"] < 1e-6
    assert constant["effective_rank"] < 1.01
    noise = collapse_signs(torch.randn(256, 16))
    assert 0.9 < noise["embedding_std"] < 1.1
    assert noise["effective_rank"] > 14
    line = collapse_signs(torch.randn(64, 1) * torch.ones(1, 16))
    assert 0.99 < line["effective_rank"] < 1.01


def test_one_sample_says_nothing() -> None:
    assert collapse_signs(torch.randn(1, 8)) == {"embedding_std": 0.0, "effective_rank": 0.0}
