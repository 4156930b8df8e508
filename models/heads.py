"""Projection heads between an encoder and a loss; thrown away after pretraining."""

from __future__ import annotations

from itertools import pairwise

from lightly.models.modules.heads import ProjectionHead
from torch import nn


def projection_mlp(
    widths: tuple[int, ...], *, batch_norm: bool, last_norm: bool = False, last_bias: bool = True
) -> ProjectionHead:
    """An MLP of the given widths (input first) with ReLU between layers, and batch norm where asked for.

    ``projection_mlp((512, 2048, 128), batch_norm=False)`` is MoCo-v2's head. ``last_norm``: batch norm
    without learned scale and shift after the last layer too, which then has no bias.
    """
    blocks: list[tuple[int, int, nn.Module | None, nn.Module | None, bool]] = []
    for position, (width_in, width_out) in enumerate(pairwise(widths)):
        last = position == len(widths) - 2
        norm = nn.BatchNorm1d(width_out) if batch_norm and not last else None
        if last and last_norm:
            norm = nn.BatchNorm1d(width_out, affine=False)
        bias = norm is None and (last_bias or not last)
        blocks.append((width_in, width_out, norm, None if last else nn.ReLU(inplace=True), bias))
    return ProjectionHead(blocks)
