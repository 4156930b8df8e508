"""SwAV: predict from one view the cluster that the other view is assigned to.

Caron et al. 2020 (arXiv 2006.09882). Assignments are soft codes from Sinkhorn-Knopp over the batch of all
devices (and a queue, where asked for), so that all prototypes are used alike. Small crops predict the codes
of both large views and are assigned to nothing. Ours: no small crops by default (the paper's best run has
six, ``local_crops: 6``), prototypes stand still for a hundredth of the run, and a queue is used from 0.15 of
the run on, where the released scripts count 313 steps and 15 epochs. The review of Wang et al. (arXiv
2206.13188) has 60 to 500 prototypes and a queue of 1,280 for satellite images. The paper trains with LARS,
learning rate 0.3 for 256 samples, weight decay 1e-6.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from models.across_processes import processes, rank
from models.backbones import Encoder
from models.clustering import code_error, prototype_scores, sinkhorn_codes
from models.heads import projection_mlp
from models.losses import EMPTY, NOWHERE, KeyQueue
from models.methods.method import Method, MethodContext, MethodFactory, MethodLoss, View
from models.multi_crop import crops_of, local_size_px, seen_in
from models.step_count import StepCount
from models.two_views import Projected
from models.view_pairs import PairOptions


class SwavOptions(PairOptions):
    """Defaults are those of the paper; augmentation as in SSL4EO-S12's scripts."""

    prototypes: int = Field(3000, gt=1)
    temperature: float = Field(0.1, gt=0)
    epsilon: float = Field(0.05, gt=0.002, description="entropy of the codes")
    iterations: int = Field(3, gt=0, description="of Sinkhorn-Knopp")
    frozen_share: float = Field(0.01, ge=0, le=1, description="of all steps that leave prototypes alone")
    queue_size: int = Field(0, ge=0, description="older samples that take part in the assignment, per view")
    queue_after: float = Field(0.15, ge=0, le=1, description="share of all steps before it is used")
    head_hidden: int = Field(2048, gt=0)
    head_out: int = Field(128, gt=0)
    head_batch_norm: bool = True
    crop_scale: tuple[float, float] | None = (0.14, 1.0)
    local_crops: int = Field(0, ge=0, description="small crops per place")
    local_scale: tuple[float, float] = (0.05, 0.14)
    local_size_px: int | None = Field(None, gt=0, description="3/7 of the input's side if none")


class Swav(Method):
    """Encoder, projector, prototypes and queues."""

    def __init__(self, context: MethodContext, options: SwavOptions) -> None:
        widths = (context.encoder.feature_dim, options.head_hidden, options.head_out)
        super().__init__()
        self.student = Projected(context.encoder, projection_mlp(widths, batch_norm=options.head_batch_norm))
        self.options = options
        self.prototypes = nn.Parameter(F.normalize(torch.randn(options.prototypes, options.head_out), dim=1))
        self.queues = nn.ModuleList(
            KeyQueue(options.queue_size, options.head_out) for _ in range(2 if options.queue_size else 0)
        )
        self.frozen_steps = round(options.frozen_share * context.steps)
        self.queue_from = round(options.queue_after * context.steps)
        self.step_count = StepCount()
        large = options.augmentations(context.input_size_px)
        side = options.local_size_px or local_size_px(context.input_size_px, context.encoder.whole_px)
        small = replace(large[0], size_px=side, crop_scale=options.local_scale)
        self.augmentation = large[0]
        self.augmentations = [*large, *[small] * options.local_crops]

    @property
    def encoder(self) -> Encoder:  # type: ignore[override]
        return self.student.encoder

    def views(self, samples: tuple[View, ...], *, fill: float = 0.0) -> tuple[View, ...]:
        return crops_of(samples, self.augmentations, fill)

    def loss(self, views: tuple[View, ...], places: Tensor) -> MethodLoss:
        embeddings, projections = zip(*map(self.student, views), strict=True)
        return MethodLoss(self._swapped(projections, places, seen_in(views)), embeddings[0].detach())

    def _swapped(self, projections: tuple[Tensor, ...], places: Tensor, seen: Tensor) -> Tensor:
        """Mean error of every view in the codes of each large one but itself; ``seen (view, batch)``."""
        scores = [prototype_scores(features, self.prototypes) for features in projections]
        codes = [self._codes(view, scores[view], seen[view]) for view in (0, 1)]
        for queue, features, known in zip(self.queues, projections, seen, strict=False):
            keys = F.normalize(features.detach().to(self.prototypes.dtype), dim=1)
            queue.push(keys, torch.where(known, places, NOWHERE))  # type: ignore[operator]
        errors = [
            code_error(scores[view], codes[assigned], self.options.temperature, seen[view] & seen[assigned])
            for assigned in (0, 1)
            for view in range(len(scores))
            if view != assigned
        ]
        return torch.stack(errors).mean()

    def _codes(self, view: int, scores: Tensor, seen: Tensor) -> Tensor:
        """Codes of the batch, assigned together with this process's part of the queue once it is full."""
        batch = len(scores)
        if self.queues and self.step_count.done >= self.queue_from:
            queue = self.queues[view]
            assert isinstance(queue, KeyQueue)
            if bool((queue.places != EMPTY).all()):
                older = slice(rank(), None, processes())
                queued = prototype_scores(queue.keys[older].to(scores.dtype), self.prototypes)
                scores = torch.cat([scores, queued])
                seen = torch.cat([seen, queue.places[older] != NOWHERE])
        settings = self.options
        codes = sinkhorn_codes(scores, epsilon=settings.epsilon, iterations=settings.iterations, seen=seen)
        return codes[:batch]

    def before_optimiser_step(self, step: int) -> None:
        if step <= self.frozen_steps:
            self.prototypes.grad = None

    @torch.no_grad()
    def after_optimiser_step(self, step: int) -> None:
        self.prototypes.copy_(F.normalize(self.prototypes, dim=1))
        self.step_count.done = step


FACTORY = MethodFactory("swav", 2, SwavOptions, Swav)  # type: ignore[arg-type]
