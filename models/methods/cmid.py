"""CMID: rebuild hidden blocks, agree with a momentum teacher on the place, and on each spot of it.

Muhtar, Zhang, Xiao, Li & Gu 2023 (arXiv 2304.09670), for ResNets and Swin Transformers. The student sees two
views of a place with 60 % of their 32-px blocks hidden, the teacher both in full. Three losses of weight one:
reconstruction of hidden pixels (focal L1 and a focal frequency loss), a contrast of whole views against a
queue (as in MoCo-v2), and DINO's cross-entropy between cells of the two views that lie nearest to each other.

Deviations: any number of bands, hidden blocks are filled with each band's mean; with ``dates: 2`` the views
are two dates of a place where it has them, the published ones are of one image; the deviation of the noise is
ours (not found), and neither solarisation nor hue is used, which have no meaning for z-scores; keys of a
view's own place are no negatives; both directions of the local loss use one centre, which follows once per
step. The queue starts from normalised keys; the released code normalises along the wrong axis.

The published optimiser is ``adan``, learning rate 0.004 for a batch of 256, weight decay 0.02, 10 of 400
epochs of warm-up.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from timm.models.resnet import ResNet
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

from catalog.errors import TrainingError
from models.augment import Augmentation
from models.backbones import Encoder, pooled, valid_share
from models.block_masks import hidden_blocks
from models.heads import projection_mlp
from models.image_losses import focal_frequency, focal_l1
from models.located_views import LocatedView, cell_positions, located_crop, nearest_cells, taken
from models.losses import NOWHERE, KeyQueue, info_nce
from models.methods.method import Method, MethodContext, MethodFactory, MethodLoss, MethodOptions, View
from models.self_distillation import Centre, PrototypeHead, distillation_error, sharpened, warmed_up
from models.spectral_augment import SpectralChanges
from models.step_count import StepCount
from models.teacher import follow, make_teacher, momentum_at, without_dropout
from models.two_views import seen_in_all


class CmidOptions(MethodOptions):
    """Defaults are those of the released configuration."""

    dates: Literal[1, 2] = Field(1, description="2: the views are two dates of a place, where it has them")
    mask_ratio: float = Field(0.6, gt=0, lt=1)
    block_px: int = Field(32, gt=0, description="side of a hidden block")
    reconstruction_weight: float = Field(1.0, ge=0)
    global_weight: float = Field(1.0, ge=0)
    local_weight: float = Field(1.0, ge=0)
    frequency_weight: float = Field(1.0, ge=0, description="within the reconstruction")
    queue_size: int = Field(65536, gt=0)
    temperature: float = Field(0.2, gt=0, description="of the contrast of whole views")
    head_hidden: int = Field(2048, gt=0)
    head_out: int = Field(256, gt=0)
    prototypes: int = Field(2048, gt=1)
    local_bottleneck: int = Field(256, gt=0)
    local_batch_norm: bool | None = Field(None, description="with a ResNet and not with a Swin if none")
    matches: int = Field(20, gt=0, description="pairs of cells per direction")
    student_temperature: float = Field(0.1, gt=0)
    first_teacher_temperature: float = Field(0.04, gt=0)
    teacher_temperature: float = Field(0.07, gt=0)
    temperature_warmup_share: float = Field(0.125, ge=0, le=1, description="50 of 400 epochs")
    centre_momentum: float = Field(0.9, ge=0, le=1)
    momentum: float = Field(0.996, ge=0, le=1, description="of the teacher, at the start")
    final_momentum: float = Field(1.0, ge=0, le=1, description="at the end (cosine)")
    crop_scale: tuple[float, float] = (0.3, 1.0)
    brightness: float = Field(0.4, ge=0, description="of the second view, as all that follow")
    contrast: float = Field(0.4, ge=0, lt=1)
    grey: float = Field(0.2, ge=0, le=1)
    blur: float = Field(1.0, ge=0, le=1)
    noise: float = Field(0.1, ge=0, description="in deviations of a band, on 60 % of the samples")


class Branches(nn.Module):
    """What the student and the teacher have in common: the encoder and the two heads."""

    def __init__(self, encoder: Encoder, project: nn.Module, local: nn.Module) -> None:
        super().__init__()
        self.encoder, self.project, self.local = encoder, project, local

    def forward(self, features: Tensor, share: Tensor) -> Tensor:
        """Projection ``(batch, p)`` of a whole view."""
        projected: Tensor = self.project(pooled(features, share))
        return projected


class Cmid(Method):
    """Student, teacher, decoder and queue."""

    def __init__(self, context: MethodContext, options: CmidOptions) -> None:
        super().__init__()
        encoder = context.encoder
        require_cells(encoder, context.input_size_px)
        width, stride = encoder.feature_dim, encoder.stride_px
        batch_norm = options.local_batch_norm
        local = PrototypeHead(
            width,
            hidden=options.head_hidden,
            bottleneck=options.local_bottleneck,
            out=options.prototypes,
            batch_norm=isinstance(encoder.backbone, ResNet) if batch_norm is None else batch_norm,
            weight_std=None,
        )
        project = projection_mlp((width, options.head_hidden, options.head_out), batch_norm=False)
        self.student = Branches(encoder, project, local)
        self.teacher = without_dropout(make_teacher(self.student))
        self.decoder = nn.Sequential(nn.Conv2d(width, stride**2 * context.bands, 1), nn.PixelShuffle(stride))
        self.hidden_token = nn.Parameter(torch.zeros(1, encoder.stem_channels, 1, 1))
        self.queue = KeyQueue(options.queue_size, options.head_out)
        self.centre = Centre(options.prototypes, options.centre_momentum)
        self.step_count = StepCount()
        self.options, self.steps, self.size_px = options, context.steps, context.input_size_px
        self.augmentation = Augmentation(
            size_px=context.input_size_px,
            flips=False,
            brightness=options.brightness,
            contrast=options.contrast,
            grey=options.grey,
            blur=options.blur,
            spectral=SpectralChanges(noise=options.noise, share=0.6) if options.noise else None,
        )

    @property
    def encoder(self) -> Encoder:  # type: ignore[override]
        return self.student.encoder

    def views(self, samples: tuple[View, ...], *, fill: float = 0.0) -> tuple[View, ...]:
        """A plain crop of the first sample, and an altered one of the last."""
        plain, other = (
            located_crop(sample, self.size_px, self.options.crop_scale)
            for sample in (samples[0], samples[-1])
        )
        filled = LocatedView(torch.where(plain.valid, plain.x, fill), plain.valid, plain.theta)
        return filled, LocatedView(*self.augmentation(other.x, other.valid, fill=fill), other.theta)

    def loss(self, views: tuple[View, ...], places: Tensor) -> MethodLoss:
        options = self.options
        masked, images, whole = [], [], []
        for view in views:
            hidden = hidden_blocks(view.x, options.block_px, options.mask_ratio)
            features = self.encode_masked(view, hidden)
            masked.append((features, valid_share(view.valid, features.shape[-2:], like=features)))
            images.append((self.decoder(features), view, hidden))
            with torch.no_grad():
                whole.append(self.teacher.encoder.feature_map(view.x, view.valid))
        reconstruction = sum(self.reconstruction(*image) for image in images) / len(images)
        contrast = self.global_branch(masked, whole, places, seen_in_all(views))
        local = self.local_branch(masked, whole, views)
        loss = (
            options.reconstruction_weight * reconstruction
            + options.global_weight * contrast
            + options.local_weight * local
        )
        return MethodLoss(loss, pooled(*masked[0]).detach())

    def encode_masked(self, view: View, hidden: Tensor) -> Tensor:
        """Student features ``(batch, d, h, w)``: pixels hidden, a learned token added behind the stem."""
        cells = self.encoder.stem(torch.where(hidden, 0.0, view.x))
        at = F.interpolate(hidden.to(cells.dtype), size=cells.shape[-2:])
        return self.encoder.after_stem(cells + at * self.hidden_token.to(cells.dtype))

    def reconstruction(self, predicted: Tensor, view: View, hidden: Tensor) -> Tensor:
        """Focal L1 over hidden valid values, and the focal frequency loss."""
        counted = (hidden & view.valid).expand_as(predicted)
        frequency = focal_frequency(predicted, view.x, hidden, view.valid)
        return focal_l1(predicted, view.x, counted) + self.options.frequency_weight * frequency

    def global_branch(
        self,
        masked: list[tuple[Tensor, Tensor]],
        whole: list[tuple[Tensor, Tensor]],
        places: Tensor,
        seen: Tensor,
    ) -> Tensor:
        """InfoNCE of each view's projection to the teacher's of the other; then both keys join the queue.

        ``seen (batch,)``: samples with a valid pixel in both views; the others take no part.
        """
        queries = [self.student(*cells) for cells in masked]
        with torch.no_grad():
            keys = [F.normalize(self.teacher(*cells), dim=1) for cells in whole]
        negatives = self.queue.keys.clone()
        left_out = (places[:, None] == self.queue.places[None]) | (self.queue.places == NOWHERE)[None]
        losses = [
            info_nce(query, key, negatives, self.options.temperature, left_out, seen)
            for query, key in zip(queries, reversed(keys), strict=True)
        ]
        for key in keys:
            self.queue.push(key, torch.where(seen, places, NOWHERE))
        return torch.stack(losses).mean()

    def local_branch(
        self,
        masked: list[tuple[Tensor, Tensor]],
        whole: list[tuple[Tensor, Tensor]],
        views: tuple[View, ...],
    ) -> Tensor:
        """Cross-entropy of each view's cells to the teacher's nearest cells of the other view."""
        losses, outputs, believed = [], [], []
        for (ours, our_share), (theirs, their_share), first, second in zip(
            masked, reversed(whole), views, reversed(views), strict=True
        ):
            assert isinstance(first, LocatedView) and isinstance(second, LocatedView)
            grid = (ours.shape[-2], ours.shape[-1])
            our_index, their_index, counts = nearest_cells(
                cell_positions(first.theta, grid),
                cell_positions(second.theta, grid),
                our_share.flatten(1) > 0,
                their_share.flatten(1) > 0,
                self.options.matches,
            )
            student = self.student.local(taken(ours, our_index))
            with torch.no_grad():
                teacher = self.teacher.local(taken(theirs, their_index))
            target = sharpened(teacher, self.centre.value, self.teacher_temperature)
            seen = counts.flatten()
            losses.append(distillation_error(student, target, self.options.student_temperature, seen))
            outputs.append(teacher)
            believed.append(seen)
        self.centre.follow(torch.cat(outputs), torch.cat(believed))
        return torch.stack(losses).mean()

    @property
    def teacher_temperature(self) -> float:
        options = self.options
        warmup = round(options.temperature_warmup_share * self.steps)
        start, end = options.first_teacher_temperature, options.teacher_temperature
        return warmed_up(self.step_count.done, warmup, start, end)

    def after_optimiser_step(self, step: int) -> None:
        self.step_count.done = step
        momentum = momentum_at(step, self.steps, self.options.momentum, self.options.final_momentum)
        follow(self.student, self.teacher, momentum)


def require_cells(encoder: Encoder, input_size_px: int) -> None:
    """Refuse backbones without a stem, and inputs that are no whole number of feature cells."""
    known = isinstance(encoder.backbone, ResNet | SwinTransformer)
    if not known or input_size_px % encoder.stride_px:
        raise TrainingError(
            "wrong-backbone",
            f"cmid needs a ResNet or Swin Transformer whose stride divides the input of {input_size_px} px",
            subject=encoder.architecture.name,
            next_step="choose a resnet… or swin_… backbone and an input_size_px that is a multiple of 32",
        )


FACTORY = MethodFactory("cmid", 1, CmidOptions, Cmid)  # type: ignore[arg-type]
