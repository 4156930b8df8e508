"""DeCUR: two sensors agree in some dimensions, and each keeps others for itself.

Wang, Albrecht, Braham, Liu, Xiong & Zhu 2024 (arXiv 2309.05300). Within a sensor two views of a place are
drawn together as in Barlow Twins, in all dimensions. Between the sensors the first dimensions are *common*:
their cross-correlation is drawn to the identity; the others are *unique*: theirs is drawn to zero. Loss =
(within the first + within the second + (common + unique) / 2) / 3, on blocks of one projection.

The two sensors are cropped independently, and each view draws its own date, as in the released code.
Deviations from that code, which has mistakes that the paper has not: each sensor has a projector of its own
(``shared_projector: true`` is the code's), correlations are divided by the whole batch whatever the number
of devices, and deformable attention (``backbone_options: {deformable_attention: true}``) is trained on both
views of both sensors. Where no dimension is unique, the term between the sensors is the common one alone, so
that two equal sensors give Barlow Twins.

The paper's networks: two ResNet-50 or ViT-S/16, projectors of three layers of 8,192, 7,168 common dimensions
for radar and optics (6,144 for RGB and elevation). Schedules are those of the recipe ``decur``.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from catalog.errors import TrainingError
from models.augment import Augmentation
from models.backbones import Encoder
from models.correlation import barlow_twins_loss
from models.heads import projection_mlp
from models.methods.method import Method, MethodContext, MethodFactory, MethodLoss, MethodOptions, View
from models.two_views import Projected, seen_in_all

SENSORS = 2


class DecurOptions(MethodOptions):
    """Defaults are those of the released code for radar and optics; two entries: first, second product."""

    dates: Literal[1, 2] = Field(2, description="2: each view of a sensor has its own; 1: they share one")
    common_share: float = Field(0.875, ge=0, le=1, description="of the dimensions; the rest is unique")
    redundancy: float = Field(0.0051, ge=0, description="weight of the off-diagonal correlations")
    head_width: int = Field(8192, gt=0, description="of all layers of a projector")
    head_layers: int = Field(3, gt=0)
    head_batch_norm: bool = True
    shared_projector: bool = Field(False, description="true: one for both, as the released code has it")
    crop_scale: tuple[float, float] | None = (0.2, 1.0)
    quarter_turns: bool = False
    brightness: tuple[float, float] = Field((0.4, 0.0), description="largest shift, in deviations of a band")
    contrast: tuple[float, float] = (0.4, 0.0)
    grey: tuple[float, float] = Field((0.2, 0.2), description="share whose bands become their mean")
    blur: tuple[float, float] = (0.5, 0.5)


class Decur(Method):
    """One encoder and projector per sensor."""

    def __init__(self, context: MethodContext, options: DecurOptions) -> None:
        super().__init__()
        if len(context.further) != SENSORS - 1:
            raise TrainingError(
                "two-products-needed",
                f"decur joins two products, not {1 + len(context.further)}",
                next_step="name two in `products`, the optical one first",
            )
        encoders = (context.encoder, *context.further)
        heads = [self._head(encoder, options) for encoder in encoders]
        if options.shared_projector:
            if len({encoder.feature_dim for encoder in encoders}) > 1:
                raise TrainingError(
                    "projector-cannot-be-shared",
                    "the two encoders have embeddings of different widths",
                    next_step="leave shared_projector out, or give both the same backbone",
                )
            heads = [heads[0]] * SENSORS
        self.branches = nn.ModuleList(Projected(*pair) for pair in zip(encoders, heads, strict=True))
        self.options = options
        self.common = round(options.common_share * options.head_width)
        self.augmentations = tuple(
            Augmentation(
                size_px=context.input_size_px,
                crop_scale=options.crop_scale,
                quarter_turns=options.quarter_turns,
                brightness=options.brightness[sensor],
                contrast=options.contrast[sensor],
                grey=options.grey[sensor],
                blur=options.blur[sensor],
            )
            for sensor in range(SENSORS)
        )
        self.augmentation = self.augmentations[0]

    @staticmethod
    def _head(encoder: Encoder, options: DecurOptions) -> nn.Module:
        widths = (encoder.feature_dim, *[options.head_width] * options.head_layers)
        head: nn.Module = projection_mlp(widths, batch_norm=options.head_batch_norm, last_bias=False)
        return head

    @property
    def encoders(self) -> tuple[Encoder, ...]:
        return tuple(branch.encoder for branch in self.branches)  # type: ignore[misc]

    @property
    def encoder(self) -> Encoder:  # type: ignore[override]
        return self.encoders[0]

    def views(self, samples: tuple[View, ...], *, fill: float = 0.0) -> tuple[View, ...]:
        """Two views of each sensor: of its two dates one each, of one date both."""
        dates = len(samples) // SENSORS
        made = []
        for sensor, augmentation in enumerate(self.augmentations):
            own = samples[sensor * dates : (sensor + 1) * dates]
            for sample in (own[0], own[-1]):
                made.append(View(*augmentation(sample.x, sample.valid, fill=fill)))
        return tuple(made)

    def loss(self, views: tuple[View, ...], places: Tensor) -> MethodLoss:
        outcomes = [self.branches[number // 2](view) for number, view in enumerate(views)]
        embeddings, (a, b, c, d) = zip(*outcomes, strict=True)
        first, _, second, _ = views
        within = self._twins(a, b, seen_in_all(views[:2])) + self._twins(c, d, seen_in_all(views[2:]))
        loss = (within + self.between(a, c, seen_in_all((first, second)))) / 3
        # Watched together: a collapse of either shows as half of the dimensions standing still.
        embedding, partner = (torch.cat(embeddings[at::2], 1).detach() for at in (0, 1))
        return MethodLoss(loss, embedding, partner)

    def between(self, first: Tensor, second: Tensor, seen: Tensor) -> Tensor:
        """The term between the sensors, of projections ``(batch, d)``: mean over the blocks there are."""
        terms = []
        if self.common:
            terms.append(self._twins(first[:, : self.common], second[:, : self.common], seen))
        if self.common < first.shape[1]:
            terms.append(self._twins(first[:, self.common :], second[:, self.common :], seen, diagonal=0.0))
        return torch.stack(terms).mean()

    def _twins(self, first: Tensor, second: Tensor, seen: Tensor, diagonal: float = 1.0) -> Tensor:
        return barlow_twins_loss(first, second, self.options.redundancy, diagonal=diagonal, seen=seen)


FACTORY = MethodFactory("decur", 2, DecurOptions, Decur, "encoder-per-product")  # type: ignore[arg-type]
