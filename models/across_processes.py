"""What losses need from the other processes of a training; in a single process nothing happens.

Gradients: every process computes the loss of its own samples against everybody's, or the same loss of all
samples; the backward pass adds up what all processes want of a value, and DDP takes the mean over processes.
Together that is the gradient of the mean loss, as if one process had had the whole batch.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from lightly.utils.dist import gather
from torch import Tensor
from torch.distributed.tensor import DTensor


def processes() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if processes() > 1 else 0


def gathered(values: Tensor) -> Tensor:
    """``values`` of every process, in rank order; ``values`` itself in a single process. No gradient."""
    if processes() == 1:
        return values
    parts = [torch.empty_like(values) for _ in range(processes())]
    dist.all_gather(parts, values.contiguous())
    return torch.cat(parts)


def gathered_with_gradient(values: Tensor) -> Tensor:
    """``values`` of every process, in rank order; gradients flow back to the process they came from."""
    return values if processes() == 1 else torch.cat(gather(values.contiguous()))


def summed(values: Tensor) -> Tensor:
    """``values`` added up over all processes. No gradient."""
    if processes() > 1:
        values = values.detach().clone()
        dist.all_reduce(values)
    return values


def mean_where(values: Tensor, counted: Tensor | None) -> Tensor:
    """Mean of ``values (batch,)`` where ``counted (batch,)``, so that the mean over processes is that of all.

    Each process divides by the mean number counted per process. Zero where nothing counts anywhere.
    """
    if counted is None:
        return values.mean()
    total = summed(counted.sum().to(values.dtype))
    return torch.where(counted, values, 0.0).sum() * processes() / total.clamp(min=1)


def local(value: Tensor) -> Tensor:
    """This process's part of a sharded tensor, on the same storage; a whole tensor as it is."""
    part = value.to_local() if isinstance(value, DTensor) else value
    assert isinstance(part, Tensor)
    return part
