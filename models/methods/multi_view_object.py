"""Multi-view object identification: by one view of an object, tell which other views are of it.

Zhang & Han 2023 (arXiv 2306.15836, Remote Sensing 15(21) 5238): the object task of two. Known to us is that
several views of the same object are made from multispectral data and that the model learns to recognise that
they are of one object; no code was released. Everything else is ours: four views, by date where a place has
two, by crop, flip and intensity as in SSL4EO-S12's scripts, and by band (a share of the bands is set to its
mean in each view); a projection head of two layers; every view of an object is asked for every other one
among all views of all other objects of the batch (NT-Xent where there are two views), temperature 0.1.
An object is a patch of a place; another date of the same place is no wrong answer.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor

from models.augment import Augmentation
from models.backbones import Encoder
from models.contrast import multi_view_nt_xent
from models.heads import projection_mlp
from models.methods.method import Method, MethodContext, MethodFactory, MethodLoss, View
from models.spectral_augment import SpectralChanges
from models.two_views import Projected, seen_in_all
from models.view_pairs import PairOptions


class MultiViewObjectOptions(PairOptions):
    """Defaults are ours."""

    views: int = Field(4, ge=2, description="of each object; dates take turns")
    temperature: float = Field(0.1, gt=0)
    dropped_bands: float = Field(0.2, ge=0, lt=1, description="share of bands that a view goes without")
    head_hidden: int = Field(2048, gt=0)
    head_out: int = Field(128, gt=0)
    head_batch_norm: bool = True
    same_place_is_negative: bool = Field(False, description="true: another date is a wrong answer")


class MultiViewObject(Method):
    """Encoder and projection head."""

    def __init__(self, context: MethodContext, options: MultiViewObjectOptions) -> None:
        super().__init__()
        widths = (context.encoder.feature_dim, options.head_hidden, options.head_out)
        normed = options.head_batch_norm
        self.student = Projected(context.encoder, projection_mlp(widths, batch_norm=normed, last_norm=normed))
        self.options = options
        by_band = SpectralChanges(dropped=options.dropped_bands, share=1.0)
        first, second = options.augmentations(context.input_size_px)
        self.augmentations: tuple[Augmentation, ...] = tuple(
            replace(first if number % 2 == 0 else second, spectral=by_band) for number in range(options.views)
        )
        self.augmentation = self.augmentations[0]

    @property
    def encoder(self) -> Encoder:  # type: ignore[override]
        return self.student.encoder

    def views(self, samples: tuple[View, ...], *, fill: float = 0.0) -> tuple[View, ...]:
        """``options.views`` views; of two dates, one shows in the even and the other in the odd ones."""
        dates = [samples[number % len(samples)] for number in range(self.options.views)]
        return tuple(
            View(*augmentation(date.x, date.valid, fill=fill))
            for augmentation, date in zip(self.augmentations, dates, strict=True)
        )

    def loss(self, views: tuple[View, ...], places: Tensor) -> MethodLoss:
        outputs = [self.student(view) for view in views]
        known = None if self.options.same_place_is_negative else places
        projections = torch.stack([projected for _, projected in outputs])
        loss = multi_view_nt_xent(projections, self.options.temperature, known, seen_in_all(views))
        return MethodLoss(loss, outputs[0][0].detach())


FACTORY = MethodFactory("multi-view-object", 2, MultiViewObjectOptions, MultiViewObject)  # type: ignore[arg-type]
