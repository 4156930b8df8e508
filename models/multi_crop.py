"""Multi-crop: two large crops and several small ones of a place, and one pass per size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from models.augment import Augmentation
from models.backbones import Encoder
from models.methods.method import View


def local_size_px(input_size_px: int, multiple_px: int) -> int:
    """Side of a small crop: 3/7 of the input (96 of 224), in whole tokens and in multiples of 8 px."""
    step = math.lcm(multiple_px, 8)
    return max(1, round(input_size_px * 3 / 7 / step)) * step


def crops_of(
    samples: tuple[View, ...], augmentations: Sequence[Augmentation], fill: float
) -> tuple[View, ...]:
    """One crop per augmentation; they take the samples (dates) of a place in turns."""
    views = []
    for number, augmentation in enumerate(augmentations):
        sample = samples[number % len(samples)]
        views.append(View(*augmentation(sample.x, sample.valid, fill=fill)))
    return tuple(views)


def embeddings_by_size(encoder: Encoder, views: Sequence[View]) -> Tensor:
    """Embeddings ``(view · batch, d)`` in the order of ``views``; neighbours of one size pass together."""
    runs: list[list[View]] = []
    for view in views:
        if runs and runs[-1][0].x.shape == view.x.shape:
            runs[-1].append(view)
        else:
            runs.append([view])
    return torch.cat(
        [
            encoder(torch.cat([view.x for view in run]), torch.cat([view.valid for view in run]))
            for run in runs
        ]
    )


def seen_in(views: Sequence[View]) -> Tensor:
    """Which crops ``(view, batch)`` have a valid pixel."""
    return torch.stack([view.valid.flatten(1).any(1) for view in views])
