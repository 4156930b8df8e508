"""Optimisers and learning-rate schedules, counted in optimiser steps over the whole run."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from catalog.recipes import Optimiser


def make_optimiser(module: nn.Module, request: Optimiser) -> torch.optim.Optimizer:
    """The optimiser a recipe asks for.

    Parameters of one dimension (biases, normalisation) get no weight decay, and no layer-wise scaling in LARS
    (You et al. 2017; lightly's implementation scales only groups with weight decay).
    """
    groups = parameter_groups(module, request.weight_decay)
    if request.name == "sgd":
        return torch.optim.SGD(groups, lr=request.learning_rate, momentum=request.momentum)
    if request.name == "adamw":
        return torch.optim.AdamW(groups, lr=request.learning_rate, betas=request.betas)
    if request.name == "adan":
        from timm.optim.adan import Adan

        adan: torch.optim.Optimizer = Adan(groups, lr=request.learning_rate)
        return adan
    from lightly.utils.lars import LARS

    lars: torch.optim.Optimizer = LARS(groups, lr=request.learning_rate, momentum=request.momentum)
    return lars


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Trainable parameters in two groups: with weight decay, and those of one dimension without."""
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay, "decays": True},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0, "decays": False},
    ]


def weight_decay_at(request: Optimiser, step: int, steps: int) -> float:
    """Weight decay at step ``step``, 0 … steps - 1: constant, or a cosine to ``final_weight_decay``."""
    if request.final_weight_decay is None:
        return request.weight_decay
    end = request.final_weight_decay
    return end - (end - request.weight_decay) * cosine(step / max(1, steps))


def set_weight_decay(optimiser: torch.optim.Optimizer, weight_decay: float) -> None:
    """Give ``weight_decay`` to those groups of ``parameter_groups`` that decay."""
    for group in optimiser.param_groups:
        if group["decays"]:
            group["weight_decay"] = weight_decay


def make_schedule(request: Optimiser, steps: int) -> Callable[[int], float]:
    """Factor of the learning rate at each optimiser step, 0 … steps - 1.

    A linear warm-up over ``warmup_share`` of the run, then a cosine to zero, steps of 0.1 at ``milestones``
    (shares of the run), or a constant.
    """
    warmup = round(request.warmup_share * steps)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if request.schedule == "cosine":
            return cosine((step - warmup) / max(1, steps - warmup))
        if request.schedule == "step":
            return 0.1 ** sum(step >= round(share * steps) for share in request.milestones)
        return 1.0

    return factor


def cosine(progress: float) -> float:
    """From 1 at 0 to 0 at 1."""
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, max(0.0, progress))))
