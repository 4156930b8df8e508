"""Deformable attention behind a ResNet's upper stages, as DeCUR adds it to its encoders."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.norm import LayerNorm2d
from timm.models.resnet import ResNet
from torch import Tensor, nn

from catalog.errors import TrainingError

HEAD_WIDTH = 128
GROUP_WIDTH = 256
"""Channels that share offsets: 4 groups in a ResNet-50's third stage, 8 in its fourth."""
REACH_CELLS = 1.0
"""How far a key may be taken from its place, in steps of the grid of keys."""


class ResidualDeformableAttention(nn.Module):
    """``x`` plus attention of every cell to a grid of cells, each of which is looked up where it is worth it.

    Deformable attention is that of Xia et al. 2022 (arXiv 2201.00520): from the queries of a group of
    channels a small network predicts, per key, how far from its place on a regular grid it is taken. Heads,
    groups, strides and kernels are those of DeCUR (arXiv 2309.05300, released code). There is no relative
    position bias; the reach of the offsets is ours.
    """

    def __init__(self, channels: int, *, stride: int, kernel: int) -> None:
        super().__init__()
        self.heads = max(1, channels // HEAD_WIDTH)
        self.groups = max(1, channels // GROUP_WIDTH)
        self.query = nn.Conv2d(channels, channels, 1)
        self.key = nn.Conv2d(channels, channels, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        width = channels // self.groups
        self.offsets = nn.Sequential(
            nn.Conv2d(width, width, kernel, stride, kernel // 2, groups=width),
            LayerNorm2d(width),
            nn.GELU(),
            nn.Conv2d(width, 2, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, channel, h, w)`` of the same shape."""
        query = self.query(x)
        sampled = self.sampled(x, query)
        attended = F.scaled_dot_product_attention(
            self._tokens(query), self._tokens(self.key(sampled)), self._tokens(self.value(sampled))
        )
        batch, channels, height, width = x.shape
        cells = attended.transpose(2, 3).reshape(batch, channels, height, width)
        added: Tensor = self.out(cells)
        return x + added

    def sampled(self, x: Tensor, query: Tensor) -> Tensor:
        """Cells of ``x`` at the places that the queries ask for: ``(batch, channel, key h, key w)``."""
        batch, channels, height, width = x.shape
        grouped = query.reshape(batch * self.groups, -1, height, width)
        offsets = torch.tanh(self.offsets(grouped)).movedim(1, 3) * REACH_CELLS
        rows, columns = offsets.shape[1:3]
        still = torch.eye(2, 3, dtype=x.dtype, device=x.device).expand(len(grouped), 2, 3)
        places = F.affine_grid(still, [len(grouped), 1, rows, columns], align_corners=False)
        step = torch.tensor([2 / columns, 2 / rows], dtype=x.dtype, device=x.device)
        cells = x.reshape(batch * self.groups, -1, height, width)
        found = F.grid_sample(
            cells, places + offsets.to(x.dtype) * step, padding_mode="border", align_corners=False
        )
        return found.reshape(batch, channels, rows, columns)

    def _tokens(self, cells: Tensor) -> Tensor:
        """``(batch, head, cell, channel of head)``."""
        return cells.reshape(len(cells), self.heads, -1, cells.shape[2] * cells.shape[3]).transpose(2, 3)


def add_deformable_attention(backbone: nn.Module, *, subject: str) -> None:
    """Put residual deformable attention behind the third and the fourth stage of a ResNet, in place.

    Raises
    ------
    TrainingError: ``wrong-backbone``.
    """
    if not isinstance(backbone, ResNet):
        raise TrainingError(
            "wrong-backbone",
            f"{subject} is no ResNet, behind whose stages attention could be put",
            subject=subject,
            next_step="choose a resnet… backbone, or leave deformable_attention out",
        )
    stages: list[dict[str, Any]] = list(backbone.feature_info[-2:])
    third, fourth = (int(stage["num_chs"]) for stage in stages)
    for name, attention in (
        ("layer3", ResidualDeformableAttention(third, stride=2, kernel=5)),
        ("layer4", ResidualDeformableAttention(fourth, stride=1, kernel=3)),
    ):
        setattr(backbone, name, nn.Sequential(backbone.get_submodule(name), attention))
