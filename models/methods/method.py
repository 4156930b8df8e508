"""What every pretraining method is to the trainer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from models.augment import Augmentation
from models.backbones import Encoder

if TYPE_CHECKING:
    from models.support import Support

Joins = Literal["one-product", "encoder-per-product", "shared-encoder"]


class MethodOptions(BaseModel):
    """Options of a method, as a recipe gives them under ``options``."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class View:
    """One normalised view of a batch."""

    x: Tensor
    """``(batch, band, y, x)``, the fill where invalid."""
    valid: Tensor
    """``(batch, 1 or band, y, x)``."""


@dataclass(frozen=True)
class MethodLoss:
    """What a method makes of one batch."""

    loss: Tensor
    embedding: Tensor
    """Detached ``(batch, d)``, watched for collapse."""
    partner: Tensor | None = None
    """The other view's, detached ``(batch, d)``, where there is one."""


class Method(nn.Module):
    """A pretraining method around the encoder that will be saved."""

    encoder: Encoder
    augmentation: Augmentation

    @property
    def encoders(self) -> tuple[Encoder, ...]:
        """Every encoder that will be saved, in the order of the recipe's products."""
        return (self.encoder,)

    def views(self, samples: tuple[View, ...], *, fill: float = 0.0) -> tuple[View, ...]:
        """Augmented views of a batch's samples: one of each, unless a method wants others (multi-crop).

        ``samples``: product by product, the dates of each one after the other.
        """
        return tuple(View(*self.augmentation(sample.x, sample.valid, fill=fill)) for sample in samples)

    @abstractmethod
    def loss(self, views: tuple[View, ...], places: Tensor) -> MethodLoss:
        """Loss of one batch; ``places (batch,)`` is equal where the ground is the same."""

    def before_optimiser_step(self, step: int) -> None:
        """Called once the gradients of optimiser step ``step`` (1 for the first) are there."""

    def after_optimiser_step(self, step: int) -> None:
        """Called after optimiser step ``step`` (1 after the first): where teachers follow."""


@dataclass(frozen=True)
class MethodContext:
    """What a method is built from besides its options."""

    encoder: Encoder
    bands: int
    input_size_px: int
    steps: int
    """Optimiser steps of the whole run."""
    further: tuple[Encoder, ...] = ()
    """Encoders of the recipe's other products, where the method has one for each."""
    support: Support | None = None
    """Labelled pixels, for a method whose options are ``SupportOptions``."""


@dataclass(frozen=True)
class MethodFactory:
    """A method that a recipe can name."""

    name: str
    views: int
    """Samples drawn per place: 2 gives two dates where the place has them."""
    options: type[MethodOptions]
    build: Callable[[MethodContext, MethodOptions], Method]
    joins: Joins = "one-product"
    """How the products of a recipe meet: there is one only, each has its encoder, or they share one."""

    def samples(self, options: MethodOptions) -> int:
        """Samples to draw per place: ``views``, unless the options have ``dates``."""
        return int(getattr(options, "dates", self.views))
