"""Operations are counted as the shapes say, and the peak is that of a matrix product."""

from __future__ import annotations

import time

import torch
from torch import nn

from models.utilisation import StepFlops, matmul_peak


def test_a_linear_layer_forward_and_backward_takes_three_products() -> None:
    layer = nn.Linear(64, 32, bias=False)
    x = torch.randn(10, 64, requires_grad=True)
    counter = StepFlops()
    counter.start()
    layer(x).sum().backward()
    counter.stop()
    assert counter.flops == 3 * 2 * 10 * 64 * 32
    layer(x)
    counter.stop()
    assert counter.flops == 3 * 2 * 10 * 64 * 32


def test_the_peak_is_no_less_than_one_product_takes() -> None:
    side = 256
    first, second = torch.randn(2, side, side)
    first @ second
    began = time.perf_counter()
    first @ second
    once = 2 * side**3 / (time.perf_counter() - began)
    assert matmul_peak(torch.device("cpu"), torch.float32, side) > once / 5
