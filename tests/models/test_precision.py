"""Losses are computed in float32 at least, also under autocast."""

from __future__ import annotations

import pytest
import torch

from models.precision import in_full_precision


@in_full_precision
def product(first: torch.Tensor, second: torch.Tensor, factor: float, number: torch.Tensor) -> torch.Tensor:
    assert number.dtype == torch.int64
    return (first @ second.T) * factor


@pytest.mark.parametrize(
    ("given", "computed"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
)
def test_low_precision_is_widened_and_high_precision_kept(given: torch.dtype, computed: torch.dtype) -> None:
    first, second = torch.randn(2, 3, 4).to(given)
    with torch.autocast("cpu", torch.bfloat16):
        made = product(first, second, 2.0, torch.arange(3))
    assert made.dtype == computed
    assert torch.equal(made, 2 * first.to(computed) @ second.to(computed).T)


def test_gradients_come_back_in_the_precision_of_the_input() -> None:
    first = torch.randn(3, 4, dtype=torch.bfloat16, requires_grad=True)
    product(first, first.detach(), 1.0, torch.arange(3)).sum().backward()
    assert first.grad is not None
    assert first.grad.dtype == torch.bfloat16
