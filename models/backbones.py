"""Backbones: timm networks that know which of their input pixels to believe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.models.resnet import ResNet
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from catalog.errors import TrainingError
from models.deformable_attention import add_deformable_attention
from models.spectral import replace_stem
from models.spectral_front_ends import describe_front_end, make_front_end, on_other_bands


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
    deformable_attention: bool = False
    """Residual deformable attention behind the upper stages of a ResNet."""

    @property
    def is_plain(self) -> bool:
        """Whether timm alone builds it."""
        return self.front_end is None and not self.deformable_attention

    @property
    def timm(self) -> dict[str, Any]:
        return {"name": self.name, "args": dict(self.args)}


class Encoder(nn.Module):
    """A timm backbone, with a front-end where there is one, on normalised pixels.

    Where pixels are invalid the input must hold a fill that does not depend on them. A Vision Transformer
    lets no token attend to one without any valid pixel; a ResNet and a Swin Transformer, whose cells merge
    with their neighbours from layer to layer, see the fill. The embedding is the mean over feature cells,
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
        if architecture.deformable_attention:
            add_deformable_attention(self.backbone, subject=architecture.name)
        self.front_end: nn.Module | None = None
        if architecture.front_end is not None:
            self.front_end = make_front_end(architecture.front_end, subject=architecture.name)
            if isinstance(self.backbone, ResNet):
                replace_stem(self.backbone)
        self.feature_dim = int(self.backbone.num_features)  # type: ignore[arg-type]

    @property
    def patch_px(self) -> int | None:
        """Side of a token in pixels; None for convolutional backbones."""
        if isinstance(self.backbone, VisionTransformer):
            return int(self.backbone.patch_embed.patch_size[0])
        return None

    @property
    def whole_px(self) -> int:
        """Sides that are multiples of this need no padding: a token's side, 1 for convolutional backbones."""
        if isinstance(self.backbone, SwinTransformer):
            embedding: Any = self.backbone.patch_embed
            return int(embedding.patch_size[0])
        return self.patch_px or 1

    @property
    def stride_px(self) -> int:
        """Side of a feature cell in pixels."""
        if self.patch_px is not None:
            return self.patch_px
        stride = int(self.backbone.feature_info[-1]["reduction"])  # type: ignore[index]
        # Behind a front-end a ResNet has no stem and no max-pool, but a first stage of stride 2.
        return stride // 2 if self.front_end is not None and isinstance(self.backbone, ResNet) else stride

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        """The parts that are run one after the other: stages of a ResNet or a Swin, blocks of a ViT."""
        if isinstance(self.backbone, VisionTransformer):
            return tuple(self.backbone.blocks)
        if isinstance(self.backbone, SwinTransformer):
            return tuple(self.backbone.layers)
        if isinstance(self.backbone, ResNet):
            return tuple(self.backbone.get_submodule(f"layer{number}") for number in range(1, 5))
        return ()

    @property
    def stem_channels(self) -> int:
        """Channels of what ``stem`` gives."""
        if self.architecture.front_end is not None and isinstance(self.backbone, ResNet):
            return int(self.architecture.front_end["channels"])
        return int(self.backbone.feature_info[0]["num_chs"])  # type: ignore[index]

    def stem(self, x: Tensor) -> Tensor:
        """Cells ``(batch, c, h, w)`` that a ResNet's stages, or a Swin's, start from."""
        x = self.to_backbone(x)
        if isinstance(self.backbone, SwinTransformer):
            patch = self.whole_px
            down, right = -x.shape[-2] % patch, -x.shape[-1] % patch
            cells: Tensor = self.backbone.patch_embed(F.pad(x, (0, right, 0, down)))
            return cells.movedim(3, 1)
        net = self._resnet
        cells = net.maxpool(net.act1(net.bn1(net.conv1(x))))
        return cells

    def after_stem(self, cells: Tensor) -> Tensor:
        """Features ``(batch, d, h, w)`` of what ``stem`` gave, changed or not."""
        if isinstance(self.backbone, SwinTransformer):
            features: Tensor = self.backbone.layers(cells.movedim(1, 3))
            swin: Any = self.backbone
            features = swin.norm(features)
            return features.movedim(3, 1)
        net = self._resnet
        features = net.layer4(net.layer3(net.layer2(net.layer1(cells))))
        return features

    @property
    def _resnet(self) -> Any:
        if not isinstance(self.backbone, ResNet):
            raise TrainingError(
                "wrong-backbone",
                f"{self.architecture.name} has no stem and stages that could be told apart",
                subject=self.architecture.name,
                next_step="choose a resnet… or swin_… backbone",
            )
        return self.backbone

    def on_bands(self, wavelengths_nm: Sequence[float | None]) -> Encoder:
        """A copy with the same weights for another band grid, of any number of bands.

        Needs a front-end that is told wavelengths; ``x`` is then ``(batch, len(wavelengths_nm), y, x)``.
        """
        front_end = on_other_bands(
            self.architecture.front_end, wavelengths_nm, subject=self.architecture.name
        )
        other = Encoder(replace(self.architecture, bands=len(wavelengths_nm), front_end=front_end))
        other.load_state_dict(self.state_dict(), strict=True)
        return other.to(next(self.parameters()).device).train(self.training)

    def to_backbone(self, x: Tensor) -> Tensor:
        """What the backbone sees: ``x`` itself, or the front-end's ``(batch, 128, y, x)``."""
        return x if self.front_end is None else self.front_end(x)

    def feature_map(self, x: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Features on their grid, and how much of each cell is valid.

        ``x (batch, band, y, x)`` normalised and filled; ``valid (batch, 1 or band, y, x)`` or None for all.
        Returns ``(batch, d, h, w)`` and ``(batch, 1, h, w)`` in 0…1.
        """
        height, width = x.shape[-2:]
        if not isinstance(self.backbone, VisionTransformer | SwinTransformer):
            features = self.backbone.forward_features(self.to_backbone(x))  # type: ignore[operator]
            share = valid_share(valid, features.shape[-2:], like=features)
            return features, share
        stride = self.stride_px
        rows, columns = -(-height // stride), -(-width // stride)
        share = valid_share(
            _padded(valid, rows * stride, columns * stride, x), (rows, columns), like=x, batch=x.shape[0]
        )
        if isinstance(self.backbone, SwinTransformer):
            return self.after_stem(self.stem(x)), share
        prefix = int(self.backbone.num_prefix_tokens)
        attention = None if valid is None else attention_mask(share.flatten(1) > 0, prefix)
        tokens: Tensor = self.backbone.forward_features(self.to_backbone(x), attn_mask=attention)
        features = tokens[:, prefix:].transpose(1, 2).reshape(x.shape[0], -1, rows, columns)
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
    name: str,
    options: Mapping[str, Any],
    *,
    bands: int,
    input_size_px: int,
    wavelengths_nm: Sequence[float | None] | None = None,
) -> Architecture:
    """The architecture a recipe asks for: ``backbone``, ``backbone_options``, bands and input size.

    ``options`` are arguments of the timm model, and ``front_end: spectral-adapter``, ``wavelength-adapter``
    or ``spectral-tokens``; the last two need ``wavelengths_nm``, one per band. ``deformable_attention: true``
    adds that of DeCUR to a ResNet.
    """
    args: dict[str, Any] = dict(options)
    kind = args.pop("front_end", None)
    deformable = bool(args.pop("deformable_attention", False))
    front_end = None if kind is None else describe_front_end(kind, bands, wavelengths_nm, subject=name)
    channels = bands if front_end is None else front_end["channels"]
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
    elif name.startswith("swin_"):
        defaults |= {"img_size": input_size_px, "strict_img_size": False}
    return Architecture(name, defaults | args, bands, front_end, deformable)


def _padded(valid: Tensor | None, height: int, width: int, like: Tensor) -> Tensor | None:
    """Pixels that timm pads at the right and bottom are invalid."""
    down, right = height - like.shape[-2], width - like.shape[-1]
    if not down and not right:
        return valid
    if valid is None:
        valid = like.new_ones((like.shape[0], 1, *like.shape[-2:]), dtype=torch.bool)
    return F.pad(valid, (0, right, 0, down), value=0)
