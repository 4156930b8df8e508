"""Skeleton: two views and a momentum teacher."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from models.backbones import Encoder
from models.methods.method import Method, MethodLoss, View
from models.teacher import follow, make_teacher, momentum_at


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


class TwoViewsWithTeacher(Method, ABC):
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
    def compare(self, student: Tensor, teacher: Tensor, places: Tensor) -> Tensor:
        """Loss between projections ``(batch, p)`` of two views; the teacher's has no gradient."""

    def after_loss(self, teacher: Tensor, places: Tensor) -> None:
        """Called with the teacher's projections once the loss has used them."""

    def loss(self, views: tuple[View, ...], places: Tensor) -> MethodLoss:
        first, second = views
        embedding, projected = self.student(first)
        with torch.no_grad():
            _, target = self.teacher(second)
        loss = self.compare(projected, target, places)
        targets = target
        if self.symmetric:
            _, projected = self.student(second)
            with torch.no_grad():
                _, target = self.teacher(first)
            loss = (loss + self.compare(projected, target, places)) / 2
            targets, places = torch.cat([targets, target]), torch.cat([places, places])
        self.after_loss(targets, places)
        return MethodLoss(loss, embedding.detach())

    def after_optimiser_step(self, step: int) -> None:
        momentum = momentum_at(step, self.steps, self.momentum, self.final_momentum)
        follow(self.student, self.teacher, momentum)
