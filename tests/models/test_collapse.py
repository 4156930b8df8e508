"""Signs of collapse are plain on a constant and absent on noise."""

from __future__ import annotations

import numpy as np
import pytest
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
    silent = {"embedding_std": 0.0, "effective_rank": 0.0, "uniformity": 0.0}
    assert collapse_signs(torch.randn(1, 8)) == silent


def test_alignment_and_uniformity_are_the_papers_formulas() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(2, 7, 5, dtype=torch.float64)
    a, b = ((x / x.norm(dim=1, keepdim=True)).numpy() for x in (first, second))
    pairs = [np.exp(-2 * ((a[i] - a[j]) ** 2).sum()) for i in range(7) for j in range(i)]
    signs = collapse_signs(first, second)
    assert signs["alignment"] == pytest.approx(((a - b) ** 2).sum(1).mean())
    assert signs["uniformity"] == pytest.approx(np.log(np.mean(pairs)))


def test_a_constant_is_aligned_and_not_uniform() -> None:
    signs = collapse_signs(torch.ones(8, 4), torch.ones(8, 4))
    assert (signs["alignment"], signs["uniformity"]) == pytest.approx((0.0, 0.0))
