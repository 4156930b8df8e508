"""Views that remember where on the ground they lie, so that cells of two views can be matched."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.augment import crop_at, random_crops
from models.methods.method import View


@dataclass(frozen=True)
class LocatedView(View):
    """A view with the map from its own coordinates to those of the sample it was cut from."""

    theta: Tensor
    """``(batch, 2, 3)``: (x, y, 1) in the view, each -1 … 1, to (x, y) in the sample."""


def located_crop(sample: View, size_px: int, scale: tuple[float, float]) -> LocatedView:
    """A random resized crop, mirrored in half of the cases along each axis."""
    theta = mirrored_crops(len(sample.x), scale)
    theta = theta.to(sample.x)
    return LocatedView(*crop_at(sample.x, sample.valid, theta, size_px), theta)


def mirrored_crops(batch: int, scale: tuple[float, float]) -> Tensor:
    """Random crops ``(batch, 2, 3)``, mirrored in half of the cases along each axis."""
    theta = random_crops(batch, scale)
    mirrored = torch.where(torch.rand(len(theta), 2) < 0.5, -1.0, 1.0)
    return theta * torch.cat([mirrored, torch.ones(len(theta), 1)], 1)[:, None]


def cell_positions(theta: Tensor, grid: tuple[int, int]) -> Tensor:
    """Centres of a view's cells in the sample it was cut from: ``(batch, row · column, 2)``, -1 … 1."""
    return F.affine_grid(theta, [len(theta), 1, *grid], align_corners=False).flatten(1, 2)


def nearest_cells(
    ours: Tensor, theirs: Tensor, our_seen: Tensor, their_seen: Tensor, matches: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of cells that lie nearest to each other on the ground.

    ``ours``, ``theirs (batch, cell, 2)`` are positions, ``…_seen (batch, cell)`` cells with a valid pixel.
    Each of our cells is paired with their nearest; of these pairs the ``matches`` nearest are kept.
    Returns our and their indices and whether the pair counts, all ``(batch, matches)``.
    """
    distance = torch.cdist(ours, theirs)
    distance = distance.masked_fill(~(our_seen[:, :, None] & their_seen[:, None, :]), float("inf"))
    nearest, index = distance.min(2)
    kept, our_index = nearest.topk(min(matches, nearest.shape[1]), largest=False, dim=1)
    return our_index, index.gather(1, our_index), torch.isfinite(kept)


def taken(features: Tensor, index: Tensor) -> Tensor:
    """Cells ``index (batch, m)`` of ``features (batch, d, h, w)``, counted row by row: ``(batch · m, d)``."""
    cells = features.flatten(2).transpose(1, 2)
    return cells.gather(1, index[:, :, None].expand(-1, -1, cells.shape[2])).flatten(0, 1)
