"""Projection heads between an encoder and a loss; thrown away after pretraining."""

from __future__ import annotations

from itertools import pairwise

from lightly.models.modules.heads import ProjectionHead
from torch import nn


def projection_mlp(widths: tuple[int, ...], *, batch_norm: bool) -> ProjectionHead:
    """An MLP of the given widths (input first) with ReLU between layers, and batch norm where asked for.

    ``projection_mlp((512, 2048, 128), batch_norm=False)`` is MoCo-v2's head.
    """
    blocks: list[tuple[int, int, nn.Module | None, nn.Module | None]] = []
    for position, (width_in, width_out) in enumerate(pairwise(widths)):
        last = position == len(widths) - 2
        norm = nn.BatchNorm1d(width_out) if batch_norm and not last else None
        blocks.append((width_in, width_out, norm, None if last else nn.ReLU(inplace=True)))
    return ProjectionHead(blocks)
