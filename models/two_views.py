"""Skeletons: two views, with a momentum teacher and without."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from models.backbones import Encoder
from models.losses import NOWHERE
from models.methods.method import MethodLoss, View
from models.teacher import follow, make_teacher, momentum_at
from models.view_pairs import PairMethod


class Projected(nn.Module):
    """An encoder with its projection head; the student and the teacher are one of these each."""

    def __init__(self, encoder: Encoder, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, view: View) -> tuple[Tensor, Tensor]:
        """Embedding ``(batch, d)`` and projection ``(batch, p)``."""
        embedding = self.encoder(view.x, view.valid)
        return embedding, self.head(embedding)


class TwoViewsWithTeacher(PairMethod, ABC):
    """The student sees one view, its moving average the other; ``compare`` says what should agree.

    Subclasses give ``compare``; what else they need (a predictor, a queue) they add to the module.
    """

    def __init__(
        self,
        encoder: Encoder,
        head: nn.Module,
        *,
        steps: int,
        momentum: float,
        final_momentum: float,
        symmetric: bool,
    ) -> None:
        super().__init__()
        self.student = Projected(encoder, head)
        self.teacher = make_teacher(self.student)
        self.steps = steps
        self.momentum, self.final_momentum = momentum, final_momentum
        self.symmetric = symmetric

    @property
    def encoder(self) -> Encoder:  # type: ignore[override]
        return self.student.encoder

    @abstractmethod
    def compare(self, student: Tensor, teacher: Tensor, places: Tensor, seen: Tensor) -> Tensor:
        """Loss between projections ``(batch, p)`` of two views; the teacher's has no gradient.

        ``seen (batch,)``: samples with a valid pixel in both views; the others should not count.
        """

    def after_loss(self, teacher: Tensor, places: Tensor) -> None:
        """Called with the teacher's projections once the loss has used them; place ``NOWHERE``: not seen."""

    def loss(self, views: tuple[View, ...], places: Tensor) -> MethodLoss:
        first, second = views
        seen = seen_in_all(views)
        embedding, projected = self.student(first)
        with torch.no_grad():
            partner, target = self.teacher(second)
        loss = self.compare(projected, target, places, seen)
        targets = target
        if self.symmetric:
            _, projected = self.student(second)
            with torch.no_grad():
                _, target = self.teacher(first)
            loss = (loss + self.compare(projected, target, places, seen)) / 2
            targets = torch.cat([targets, target])
        known = torch.where(seen, places, NOWHERE)
        self.after_loss(targets, torch.cat([known, known]) if self.symmetric else known)
        return MethodLoss(loss, embedding.detach(), partner)

    def after_optimiser_step(self, step: int) -> None:
        momentum = momentum_at(step, self.steps, self.momentum, self.final_momentum)
        follow(self.student, self.teacher, momentum)


class TwoViewsWithoutTeacher(PairMethod, ABC):
    """One network sees both views, each in a pass of its own; ``compare`` says how they should relate.

    Batch statistics are those of one view: two dates have different ones.
    """

    def __init__(self, encoder: Encoder, head: nn.Module) -> None:
        super().__init__()
        self.student = Projected(encoder, head)

    @property
    def encoder(self) -> Encoder:  # type: ignore[override]
        return self.student.encoder

    @abstractmethod
    def compare(self, first: Tensor, second: Tensor, places: Tensor, seen: Tensor) -> Tensor:
        """Loss between projections ``(batch, p)`` of two views, both with gradient.

        ``seen (batch,)``: samples with a valid pixel in both views; the others should not count.
        """

    def loss(self, views: tuple[View, ...], places: Tensor) -> MethodLoss:
        embedding, first = self.student(views[0])
        partner, second = self.student(views[1])
        loss = self.compare(first, second, places, seen_in_all(views))
        return MethodLoss(loss, embedding.detach(), partner.detach())


def seen_in_all(views: tuple[View, ...]) -> Tensor:
    """Samples ``(batch,)`` with a valid pixel in every view."""
    return torch.stack([view.valid.flatten(1).any(1) for view in views]).all(0)
