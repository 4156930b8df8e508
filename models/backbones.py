"""Backbones: timm networks that know which of their input pixels to believe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.models.resnet import ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from catalog.errors import TrainingError
from models.spectral import ADAPTER_CHANNELS, SpectralAdapter, replace_stem, require_enough_bands

SPECTRAL_ADAPTER = "spectral-adapter"


@dataclass(frozen=True)
class Architecture:
    """What an encoder is built from; the part of ``config.json`` that timm reads."""

    name: str
    """timm model name."""
    args: Mapping[str, Any]
    """Keyword arguments of ``timm.create_model``; JSON values only."""
    bands: int
    """Channels of the encoder's input."""
    front_end: Mapping[str, Any] | None = None

    @property
    def timm(self) -> dict[str, Any]:
        return {"name": self.name, "args": dict(self.args)}


class Encoder(nn.Module):
    """A timm backbone, with a front-end where there is one, on normalised pixels.

    Where pixels are invalid the input must hold a fill that does not depend on them. A Vision Transformer
    lets no token attend to one without any valid pixel. The embedding is the mean over feature cells,
    weighted by the valid share of the ground they lie on; zero where nothing is valid.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        try:
            self.backbone: nn.Module = timm.create_model(architecture.name, **dict(architecture.args))
        except (RuntimeError, TypeError, ValueError, AssertionError) as error:
            raise TrainingError(
                "no-such-backbone",
                f"timm cannot make {architecture.name}: {error}",
                subject=architecture.name,
                next_step="correct backbone and backbone_options; timm.list_models() names what exists",
            ) from error
        self.front_end: SpectralAdapter | None = None
        if architecture.front_end is not None:
            require_enough_bands(architecture.bands, subject=architecture.name)
            self.front_end = SpectralAdapter()
            if isinstance(self.backbone, ResNet):
                replace_stem(self.backbone)
        self.feature_dim = int(self.backbone.num_features)  # type: ignore[arg-type]

    @property
    def patch_px(self) -> int | None:
        """Side of a token in pixels; None for convolutional backbones."""
        if isinstance(self.backbone, VisionTransformer):
            return int(self.backbone.patch_embed.patch_size[0])
        return None

    def to_backbone(self, x: Tensor) -> Tensor:
        """What the backbone sees: ``x`` itself, or the front-end's ``(batch, 128, y, x)``."""
        return x if self.front_end is None else self.front_end(x)

    def feature_map(self, x: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Features on their grid, and how much of each cell is valid.

        ``x (batch, band, y, x)`` normalised and filled; ``valid (batch, 1 or band, y, x)`` or None for all.
        Returns ``(batch, d, h, w)`` and ``(batch, 1, h, w)`` in 0…1.
        """
        height, width = x.shape[-2:]
        patch = self.patch_px
        if patch is None:
            features = self.backbone.forward_features(self.to_backbone(x))  # type: ignore[operator]
            share = valid_share(valid, features.shape[-2:], like=features)
            return features, share
        rows, columns = -(-height // patch), -(-width // patch)
        share = valid_share(
            _padded(valid, rows * patch, columns * patch, x), (rows, columns), like=x, batch=x.shape[0]
        )
        prefix = int(self.backbone.num_prefix_tokens)  # type: ignore[arg-type]
        attention = None if valid is None else attention_mask(share.flatten(1) > 0, prefix)
        tokens = self.backbone.forward_features(self.to_backbone(x), attn_mask=attention)  # type: ignore[operator]
        features = tokens[:, prefix:].transpose(1, 2).unflatten(2, (rows, columns))
        return features, share

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Embedding ``(batch, d)``."""
        return pooled(*self.feature_map(x, valid))


def pooled(features: Tensor, share: Tensor) -> Tensor:
    """Mean of ``features (batch, d, h, w)`` weighted by ``share (batch, 1, h, w)``; zero where all is 0."""
    total = share.sum((2, 3))
    return (features * share).sum((2, 3)) / torch.where(total > 0, total, torch.ones_like(total))


def valid_share(
    valid: Tensor | None, shape: tuple[int, int] | torch.Size, *, like: Tensor, batch: int | None = None
) -> Tensor:
    """Share of valid values (over bands and pixels) in each cell of a grid: ``(batch, 1, h, w)``."""
    if valid is None:
        return like.new_ones((batch or like.shape[0], 1, *shape))
    return F.adaptive_avg_pool2d(valid.to(like.dtype).mean(1, keepdim=True), (shape[0], shape[1]))


def attention_mask(believed: Tensor, prefix: int) -> Tensor:
    """Which tokens may be attended to: ``believed (batch, token)`` → ``(batch, 1, 1, prefix + token)``.

    A sample without any believed token attends to all of them: its embedding is zero anyway, and an empty
    softmax would be NaN.
    """
    believed = believed | ~believed.any(1, keepdim=True)
    ahead = believed.new_ones((believed.shape[0], prefix))
    return torch.cat([ahead, believed], 1)[:, None, None, :]


def describe_architecture(
    name: str, options: Mapping[str, Any], *, bands: int, input_size_px: int
) -> Architecture:
    """The architecture a recipe asks for: ``backbone``, ``backbone_options``, bands and input size.

    ``options`` are arguments of the timm model, and ``front_end: spectral-adapter``.
    """
    args: dict[str, Any] = dict(options)
    kind = args.pop("front_end", None)
    if kind not in (None, SPECTRAL_ADAPTER):
        raise TrainingError(
            "unknown-front-end",
            f"there is no front-end {kind!r}",
            subject=name,
            next_step=f"leave it out, or use {SPECTRAL_ADAPTER}",
        )
    front_end = None
    channels = bands
    if kind is not None:
        require_enough_bands(bands, subject=name)
        front_end = {"kind": kind, "bands": bands, "channels": ADAPTER_CHANNELS}
        channels = ADAPTER_CHANNELS
    defaults: dict[str, Any] = {"num_classes": 0, "in_chans": channels, "global_pool": "avg"}
    if name.startswith(("vit_", "deit_")):
        # Normalise tokens before pooling, so that timm's own forward gives our embedding of a full input;
        # take inputs of other sizes too.
        defaults |= {
            "img_size": input_size_px,
            "fc_norm": False,
            "dynamic_img_size": True,
            "dynamic_img_pad": True,
        }
    return Architecture(name=name, args=defaults | args, bands=bands, front_end=front_end)


def _padded(valid: Tensor | None, height: int, width: int, like: Tensor) -> Tensor | None:
    """Pixels that timm pads at the right and bottom are invalid."""
    down, right = height - like.shape[-2], width - like.shape[-1]
    if not down and not right:
        return valid
    if valid is None:
        valid = like.new_ones((like.shape[0], 1, *like.shape[-2:]), dtype=torch.bool)
    return F.pad(valid, (0, right, 0, down), value=0)
