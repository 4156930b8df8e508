"""DINO: small crops of a place must be sorted into prototypes as its momentum teacher sorts the large ones.

Caron et al. 2021 (arXiv 2104.14294); over seasons as in SSL4EO-S12 (arXiv 2211.07044), whose script draws a
season per crop: here the crops take the two dates of a place in turns. Every crop is compared with every
large one but itself. Deviations: the head reads the encoder's pooled embedding, which is what is saved, and
not the class token; crops without a valid pixel take part in nothing; no solarisation and no hue, which have
no meaning for z-scores of any number of bands; the last layer's norm is always fixed at one.

The published optimiser is AdamW (learning rate 5e-4 · batch / 256 in the paper, 1.5e-4 in SSL4EO-S12; betas
0.9, 0.999) with ``weight_decay: 0.04`` rising to ``final_weight_decay: 0.4`` and ``clip_norm: 3`` (the
released code clips each tensor by itself). SpectralEarth (arXiv 2408.08447) uses two large crops alone
(``local_crops: 0``), ``global_scale: [0.05, 1]``, ``prototypes: 128``, and a first temperature warmed up over
10 of 100 epochs; its script's teacher momentum reaches 1 at a tenth of the run, here it does so at the end.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from models.augment import Augmentation
from models.backbones import Encoder
from models.methods.method import Method, MethodContext, MethodFactory, MethodLoss, MethodOptions, View
from models.multi_crop import crops_of, embeddings_by_size, local_size_px, seen_in
from models.self_distillation import Centre, PrototypeHead, multi_crop_error, sharpened, warmed_up
from models.step_count import StepCount
from models.teacher import follow, make_teacher, momentum_at, without_dropout
from models.two_views import Projected

_GLOBAL_CROPS = 2


class DinoOptions(MethodOptions):
    """Defaults are those of the released code; crops and augmentation as in SSL4EO-S12's script."""

    dates: Literal[1, 2] = Field(2, description="of a place that the crops take in turns")
    prototypes: int = Field(65536, gt=1)
    head_hidden: int = Field(2048, gt=0)
    head_bottleneck: int = Field(256, gt=0)
    head_batch_norm: bool = False
    student_temperature: float = Field(0.1, gt=0)
    teacher_temperature: float = Field(0.04, gt=0, description="0.07 in the paper's long trainings")
    first_teacher_temperature: float = Field(0.04, gt=0)
    temperature_warmup_share: float = Field(0.0, ge=0, le=1, description="of the run, linear")
    centre_momentum: float = Field(0.9, ge=0, le=1)
    momentum: float = Field(0.996, ge=0, le=1, description="of the teacher, at the start")
    final_momentum: float = Field(1.0, ge=0, le=1, description="at the end (cosine)")
    frozen_share: float = Field(
        0.01, ge=0, le=1, description="of the run in which the prototypes stand still; one epoch of 100"
    )
    global_scale: tuple[float, float] = (0.4, 1.0)
    local_crops: int = Field(8, ge=0)
    local_scale: tuple[float, float] = (0.05, 0.4)
    local_size_px: int | None = Field(None, gt=0, description="3/7 of the input's side if none")
    quarter_turns: bool = False
    brightness: float = Field(0.4, ge=0, description="largest shift, in deviations of a band")
    contrast: float = Field(0.4, ge=0, lt=1)
    grey: float = Field(0.2, ge=0, le=1)
    blur: tuple[float, float, float] = Field(
        (1.0, 0.1, 0.5), description="share blurred in the first and second large crop, and in small ones"
    )


class Dino(Method):
    """Student, teacher and the centre of the teacher's outputs."""

    def __init__(self, context: MethodContext, options: DinoOptions) -> None:
        super().__init__()
        encoder = context.encoder
        head = PrototypeHead(
            encoder.feature_dim,
            hidden=options.head_hidden,
            bottleneck=options.head_bottleneck,
            out=options.prototypes,
            batch_norm=options.head_batch_norm,
            weight_std=0.02,
        )
        self.student = Projected(encoder, head)
        self.teacher = without_dropout(make_teacher(self.student))
        self.centre = Centre(options.prototypes, options.centre_momentum)
        self.options, self.steps = options, context.steps
        self.step_count = StepCount()
        local_px = options.local_size_px or local_size_px(context.input_size_px, encoder.whole_px)
        sizes = [(context.input_size_px, options.global_scale)] * _GLOBAL_CROPS
        sizes += [(local_px, options.local_scale)] * options.local_crops
        blurs = [*options.blur[:2], *[options.blur[2]] * options.local_crops]
        self.augmentations = [
            Augmentation(
                size_px=size,
                crop_scale=scale,
                quarter_turns=options.quarter_turns,
                brightness=options.brightness,
                contrast=options.contrast,
                grey=options.grey,
                blur=blur,
            )
            for (size, scale), blur in zip(sizes, blurs, strict=True)
        ]
        self.augmentation = self.augmentations[0]

    @property
    def encoder(self) -> Encoder:  # type: ignore[override]
        return self.student.encoder

    def views(self, samples: tuple[View, ...], *, fill: float = 0.0) -> tuple[View, ...]:
        return crops_of(samples, self.augmentations, fill)

    def loss(self, views: tuple[View, ...], places: Tensor) -> MethodLoss:
        crops, batch = len(views), len(places)
        embedding = embeddings_by_size(self.encoder, views)
        outputs = self.student.head(embedding).view(crops, batch, -1)
        with torch.no_grad():
            large = views[:_GLOBAL_CROPS]
            targets = self.teacher.head(embeddings_by_size(self.teacher.encoder, large))
        seen = seen_in(views)
        probability = sharpened(targets, self.centre.value, self.teacher_temperature)
        loss = multi_crop_error(
            outputs,
            probability.view(_GLOBAL_CROPS, batch, -1),
            self.options.student_temperature,
            seen,
            seen[:_GLOBAL_CROPS],
        )
        self.centre.follow(targets, seen[:_GLOBAL_CROPS].flatten())
        return MethodLoss(loss, embedding[:batch].detach())

    @property
    def teacher_temperature(self) -> float:
        options = self.options
        warmup = round(options.temperature_warmup_share * self.steps)
        start, end = options.first_teacher_temperature, options.teacher_temperature
        return warmed_up(self.step_count.done, warmup, start, end)

    def before_optimiser_step(self, step: int) -> None:
        if step <= round(self.options.frozen_share * self.steps):
            self.student.head.prototypes.grad = None

    def after_optimiser_step(self, step: int) -> None:
        self.step_count.done = step
        momentum = momentum_at(step, self.steps, self.options.momentum, self.options.final_momentum)
        follow(self.student, self.teacher, momentum)


FACTORY = MethodFactory("dino", 2, DinoOptions, Dino)  # type: ignore[arg-type]
