"""Losses in float32 at least, also where autocast runs the networks in bf16."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor


def in_full_precision[**P, R](loss: Callable[P, R]) -> Callable[P, R]:
    """Decorate a loss: its floating-point tensors come as float32 or wider, and autocast is off inside.

    Exponentials, variances and correlations of projections lose their meaning in bf16's 8 bits. The first
    argument must be a tensor.
    """

    @wraps(loss)
    def computed(*args: P.args, **kwargs: P.kwargs) -> R:
        first: Any = args[0]
        with torch.autocast(first.device.type, enabled=False):
            widened: list[Any] = [_widened(value) for value in args]
            return loss(*widened, **kwargs)

    return computed


def _widened(value: Any) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.to(torch.promote_types(value.dtype, torch.float32))
    return value
