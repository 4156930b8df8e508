"""Small windows about pixels: what methods that learn pixel by pixel see of a sample."""

from __future__ import annotations

import torch
from torch import Tensor


def choose_windows(believed: Tensor, size_px: int, count: int) -> tuple[Tensor, Tensor]:
    """First rows and columns, each ``(batch, count)``, of random windows of ``size_px`` in each sample.

    ``believed (batch, y, x)``: no two windows of a sample have the same centre, and centres are believed
    pixels where there are enough of them. Fewer windows where a sample has fewer places for one.
    """
    rows, columns = (side - size_px + 1 for side in believed.shape[1:])
    if rows < 1 or columns < 1:
        raise ValueError(f"a window of {size_px} px does not fit into {tuple(believed.shape[1:])} px")
    middle = size_px // 2
    centres = believed[:, middle : middle + rows, middle : middle + columns].flatten(1)
    noise = torch.rand(centres.shape).to(centres.device)
    chosen = torch.where(centres, noise, noise + 1.0).argsort(1)[:, :count]
    return chosen // columns, chosen % columns


def cut_windows(values: Tensor, top: Tensor, left: Tensor, size_px: int) -> Tensor:
    """``(batch, band, y, x)`` → ``(batch · count, band, size, size)``, the windows of a sample in a row."""
    every = values.unfold(2, size_px, 1).unfold(3, size_px, 1)
    sample = torch.arange(len(values), device=values.device)[:, None]
    return every[sample, :, top, left].flatten(0, 1)
