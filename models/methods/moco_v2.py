"""MoCo-v2: contrast the momentum encoder's key of the same place against a queue of other places.

Chen, Fan, Girshick & He 2020 (arXiv 2003.04297), with two dates of a place as the two views, as in SSL4EO-S12
(arXiv 2211.07044) and SSL4EO-L (arXiv 2306.09424). Deviations: keys of the query's own place are left out of
the negatives (``same_place_is_negative: false``), because a small archive comes round to a place before its
key has left the queue; batch statistics are not shuffled between devices, on several GPUs they are
synchronised instead; weights of one dimension do not decay.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from models.augment import Augmentation
from models.heads import projection_mlp
from models.losses import NOWHERE, KeyQueue, info_nce
from models.methods.method import MethodContext, MethodFactory, MethodOptions
from models.two_views import TwoViewsWithTeacher


class MocoOptions(MethodOptions):
    """Defaults are those of the paper; augmentation as in SSL4EO-S12's script."""

    dates: Literal[1, 2] = Field(
        2, description="2: two dates of a place where it has them; 1: one date, augmented twice"
    )
    queue_size: int = Field(65536, gt=0, description="keys kept as negatives")
    temperature: float = Field(0.2, gt=0)
    momentum: float = Field(0.999, ge=0, le=1, description="of the key encoder, at the start")
    final_momentum: float | None = Field(
        None, ge=0, le=1, description="at the end (cosine); constant if none"
    )
    head_hidden: int = Field(2048, gt=0)
    head_out: int = Field(128, gt=0)
    head_batch_norm: bool = Field(False, description="SpectralEarth has it, the paper does not")
    symmetric: bool = Field(False, description="contrast both ways; two passes more per step")
    same_place_is_negative: bool = Field(False, description="true: the paper's queue, blind to places")
    crop_scale: tuple[float, float] | None = (0.2, 1.0)
    quarter_turns: bool = False
    brightness: float = Field(0.4, ge=0, description="largest shift, in deviations of a band")
    contrast: float = Field(0.4, ge=0, lt=1)
    blur: float = Field(0.5, ge=0, le=1, description="share of samples blurred")


class MocoV2(TwoViewsWithTeacher):
    """Query encoder, key encoder and queue."""

    def __init__(self, context: MethodContext, options: MocoOptions) -> None:
        encoder = context.encoder
        widths = (encoder.feature_dim, options.head_hidden, options.head_out)
        super().__init__(
            encoder,
            projection_mlp(widths, batch_norm=options.head_batch_norm),
            steps=context.steps,
            momentum=options.momentum,
            final_momentum=options.momentum if options.final_momentum is None else options.final_momentum,
            symmetric=options.symmetric,
        )
        self.options = options
        self.queue = KeyQueue(options.queue_size, options.head_out)
        self.augmentation = Augmentation(
            size_px=context.input_size_px,
            crop_scale=options.crop_scale,
            quarter_turns=options.quarter_turns,
            brightness=options.brightness,
            contrast=options.contrast,
            blur=options.blur,
        )

    def compare(self, student: Tensor, teacher: Tensor, places: Tensor, seen: Tensor) -> Tensor:
        left_out = (self.queue.places == NOWHERE).expand(len(places), -1)
        if not self.options.same_place_is_negative:
            left_out = left_out | (places[:, None] == self.queue.places[None, :])
        return info_nce(student, teacher, self.queue.keys.clone(), self.options.temperature, left_out, seen)

    def after_loss(self, teacher: Tensor, places: Tensor) -> None:
        self.queue.push(F.normalize(teacher.to(self.queue.keys.dtype), dim=1), places)


FACTORY = MethodFactory("moco-v2", 2, MocoOptions, MocoV2)  # type: ignore[arg-type]
