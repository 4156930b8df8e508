"""Momentum teachers: a copy of the student that follows it as a moving average."""

from __future__ import annotations

import copy

import torch
from timm.layers.drop import DropPath
from torch import nn

from models.across_processes import local
from models.optim import cosine


def make_teacher[M: nn.Module](student: M) -> M:
    """A deep copy without gradients that shares no storage with the student."""
    teacher = copy.deepcopy(student)
    for parameter in teacher.parameters():
        parameter.requires_grad_(False)
    require_separate(student, teacher)
    return teacher


def without_dropout[M: nn.Module](teacher: M) -> M:
    """Switch off dropout and stochastic depth in place; batch norm stays as it is."""
    for module in teacher.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(module, DropPath):
            module.drop_prob = 0.0
    return teacher


def require_separate(student: nn.Module, teacher: nn.Module) -> None:
    """Raise where any tensor of the teacher is the student's: an average of itself would never move."""
    owned = {tensor.untyped_storage().data_ptr() for tensor in _tensors(student)}
    shared = [tensor for tensor in _tensors(teacher) if tensor.untyped_storage().data_ptr() in owned]
    if shared:
        raise AssertionError(f"{len(shared)} tensors of the teacher are the student's own")


@torch.no_grad()
def follow(student: nn.Module, teacher: nn.Module, momentum: float) -> None:
    """teacher = momentum · teacher + (1 - momentum) · student, for every parameter.

    Buffers are left alone: batch normalisation of the teacher keeps statistics of its own passes, as in MoCo.
    """
    for ours, theirs in zip(student.parameters(), teacher.parameters(), strict=True):
        local(theirs).lerp_(local(ours.detach()), 1.0 - momentum)


def momentum_at(step: int, steps: int, start: float, end: float) -> float:
    """Teacher momentum after ``step`` of ``steps``: a cosine from ``start`` to ``end`` over the whole run."""
    return end - (end - start) * cosine(step / max(1, steps))


def _tensors(module: nn.Module) -> list[torch.Tensor]:
    return [tensor for tensor in (*module.parameters(), *module.buffers()) if tensor.numel()]
