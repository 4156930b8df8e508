"""Which tokens of a square or oblong grid to hide, in blocks."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_ROUNDS = 40
"""Blocks tried per sample; what is then missing is drawn token by token."""


def block_mask(
    batch: int,
    grid: tuple[int, int],
    hidden: int,
    *,
    smallest: int,
    aspect: tuple[float, float] = (0.3, 1 / 0.3),
) -> Tensor:
    """``hidden`` tokens per sample ``(batch, token)``, in rectangles of at least ``smallest`` tokens.

    BEiT's block-wise masking (Bao et al. 2022, arXiv 2106.08254), which data2vec takes over: area between
    ``smallest`` and what is still to hide, aspect log-uniform; a block may not hide more than is left. Done
    for all samples at once; where no more block fits, single tokens fill up, so that every sample hides as
    many. Drawn from torch's generator of the CPU.
    """
    rows, columns = grid
    mask = torch.zeros(batch, rows, columns, dtype=torch.bool)
    row, column = torch.arange(rows)[None, :, None], torch.arange(columns)[None, None, :]
    low, high = (math.log(value) for value in aspect)
    for _ in range(_ROUNDS):
        left = hidden - mask.sum((1, 2))
        if not bool((left > 0).any()):
            break
        area = smallest + torch.rand(batch) * (left.clamp(min=0) - smallest)
        shape = torch.empty(batch).uniform_(low, high).exp()
        height = (area * shape).sqrt().round().long().clamp(1, rows)
        width = (area / shape).sqrt().round().long().clamp(1, columns)
        top = (torch.rand(batch) * (rows - height + 1)).long()
        start = (torch.rand(batch) * (columns - width + 1)).long()
        edges = [value[:, None, None] for value in (top, top + height, start, start + width)]
        block = (row >= edges[0]) & (row < edges[1]) & (column >= edges[2]) & (column < edges[3])
        fits = (block & ~mask).sum((1, 2)) <= left
        mask |= block & fits[:, None, None]
    flat = mask.flatten(1)
    # Tokens in blocks first, in random order, then the others.
    order = (torch.rand(flat.shape) - flat.float()).argsort(1)
    return torch.zeros_like(flat).scatter(1, order[:, :hidden], True)


def hidden_blocks(x: Tensor, block_px: int, share: float) -> Tensor:
    """Pixels ``(batch, 1, y, x)`` of ``ceil(share · blocks)`` square blocks of each image of ``x``.

    Drawn from torch's generator of the CPU; at the right and bottom edge blocks may be cut off.
    """
    height, width = x.shape[-2:]
    rows, columns = -(-height // block_px), -(-width // block_px)
    chosen = torch.rand(len(x), rows * columns).argsort(1)[:, : math.ceil(share * rows * columns)]
    blocks = torch.zeros(len(x), rows * columns, dtype=torch.bool).scatter(1, chosen, True)
    pixels = blocks.view(-1, rows, columns).repeat_interleave(block_px, 1).repeat_interleave(block_px, 2)
    return pixels[:, None, :height, :width].to(x.device)
