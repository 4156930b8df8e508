"""Skeleton: masked reconstruction with a Vision Transformer and a light decoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from models.backbones import Encoder, attention_mask


def to_tokens(values: Tensor, patch_px: int) -> Tensor:
    """``(batch, band, y, x)`` → ``(batch, token, patch · patch · band)``, tokens row by row."""
    batch, bands, height, width = values.shape
    rows, columns = height // patch_px, width // patch_px
    split = values.reshape(batch, bands, rows, patch_px, columns, patch_px)
    return split.permute(0, 2, 4, 3, 5, 1).reshape(batch, rows * columns, patch_px**2 * bands)


def choose_visible(believed: Tensor, mask_ratio: float) -> tuple[Tensor, Tensor]:
    """Which tokens the encoder sees, and which it has to predict.

    ``believed (batch, token)``: those with a valid pixel. Returns indices ``(batch, kept)``, as many for
    every sample, and the masked ones ``(batch, token)``. Tokens without a valid pixel are kept only where
    there are too few others; they are never attended to, and count neither as seen nor as a target.
    """
    batch, tokens = believed.shape
    kept = max(1, round(tokens * (1 - mask_ratio)))
    noise = torch.rand(batch, tokens).to(believed.device)
    order = torch.where(believed, noise, noise + 1.0).argsort(1)
    visible = order[:, :kept]
    masked = torch.ones_like(believed).scatter(1, visible, torch.zeros_like(believed))
    return visible, masked & believed


def encode_visible(encoder: Encoder, x: Tensor, visible: Tensor, believed: Tensor) -> Tensor:
    """Encoder output of the visible tokens, prefix tokens first: ``(batch, prefix + kept, d)``.

    The front-end, where there is one, runs on the whole image before tokens are hidden, as in SpectralEarth;
    it mixes bands and not pixels, so that nothing leaks from one token to another.
    """
    vit = encoder.backbone
    assert isinstance(vit, VisionTransformer)
    tokens = vit._pos_embed(vit.patch_embed(encoder.to_backbone(x)))
    prefix = vit.num_prefix_tokens
    patches = tokens[:, prefix:]
    kept = patches.gather(1, visible[:, :, None].expand(-1, -1, patches.shape[2]))
    tokens = vit.norm_pre(torch.cat([tokens[:, :prefix], kept], 1))
    mask = attention_mask(believed.gather(1, visible), prefix)
    for block in vit.blocks:
        tokens = block(tokens, attn_mask=mask)
    encoded: Tensor = vit.norm(tokens)
    return encoded


class Decoder(nn.Module):
    """A narrow transformer that predicts every token from the visible ones and a learned placeholder.

    timm blocks with fixed sine-cosine positions, as in MAE; lightly's ``MAEDecoderTIMM`` is deprecated and
    takes square grids only.
    """

    positions: Tensor

    def __init__(
        self,
        encoder_dim: int,
        values: int,
        grid: tuple[int, int],
        *,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float = 4.0,
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(encoder_dim, width)
        self.placeholder = nn.Parameter(torch.zeros(1, 1, width))
        nn.init.normal_(self.placeholder, std=0.02)
        self.register_buffer("positions", sine_cosine_positions(grid, width)[None], persistent=False)
        self.blocks = nn.ModuleList([Block(width, heads, mlp_ratio, qkv_bias=True) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.predict = nn.Linear(width, values)
        for linear in (self.embed, self.predict):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, encoded: Tensor, visible: Tensor, believed: Tensor) -> Tensor:
        """Predictions ``(batch, token, values)`` for every token.

        ``encoded (batch, prefix + kept, d)``, ``visible (batch, kept)``, ``believed (batch, token)``. A kept
        token without a valid pixel gives way to the placeholder.
        """
        tokens = self.embed(encoded)
        kept = visible.shape[1]
        prefix, seen = tokens[:, :-kept], tokens[:, -kept:]
        placeholder = self.placeholder.to(tokens.dtype)
        seen = torch.where(believed.gather(1, visible)[:, :, None], seen, placeholder)
        everything = placeholder.expand(len(tokens), believed.shape[1], -1)
        index = visible[:, :, None].expand(-1, -1, tokens.shape[2])
        everything = everything.scatter(1, index, seen) + self.positions.to(tokens.dtype)
        tokens = torch.cat([prefix, everything], 1)
        for block in self.blocks:
            tokens = block(tokens)
        predicted: Tensor = self.predict(self.norm(tokens))
        return predicted[:, prefix.shape[1] :]


def sine_cosine_positions(grid: Sequence[int], width: int) -> Tensor:
    """Fixed positions ``(row · column, width)``: a quarter each of sine and cosine of row and of column."""
    if width % 4:
        raise ValueError(f"a width of {width} cannot hold four quarters")
    frequency = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    rows, columns = (torch.arange(side, dtype=torch.float64)[:, None] * frequency for side in grid)
    by_row = torch.cat([rows.sin(), rows.cos()], 1)[:, None].expand(-1, grid[1], -1)
    by_column = torch.cat([columns.sin(), columns.cos()], 1)[None].expand(grid[0], -1, -1)
    return torch.cat([by_row, by_column], 2).reshape(grid[0] * grid[1], width).float()
