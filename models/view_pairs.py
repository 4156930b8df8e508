"""How the two views of a joint-embedding method come about: what a recipe may ask for, and the making."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from models.augment import Augmentation
from models.methods.method import Method, MethodOptions, View


class PairOptions(MethodOptions):
    """Views by season and by augmentation.

    There is no jitter of hue or saturation and no solarisation: neither has a meaning for z-scores of any
    number of bands. Brightness, contrast and grey stand for the colour part of the papers' lists, with the
    values of SSL4EO-S12's scripts (arXiv 2211.07044).
    """

    dates: Literal[1, 2] = Field(
        2, description="2: two dates of a place where it has them; 1: one date, augmented twice"
    )
    crop_scale: tuple[float, float] | None = (0.2, 1.0)
    quarter_turns: bool = False
    brightness: float = Field(0.4, ge=0, description="largest shift, in deviations of a band")
    contrast: float = Field(0.4, ge=0, lt=1)
    grey: float = Field(0.2, ge=0, le=1, description="share of samples whose bands become their mean")
    blur: tuple[float, float] = Field((0.5, 0.5), description="share blurred in the first and second view")

    def augmentations(self, size_px: int) -> tuple[Augmentation, Augmentation]:
        """Those of the first and of the second view."""
        first, second = (
            Augmentation(
                size_px=size_px,
                crop_scale=self.crop_scale,
                quarter_turns=self.quarter_turns,
                brightness=self.brightness,
                contrast=self.contrast,
                grey=self.grey,
                blur=blur,
            )
            for blur in self.blur
        )
        return first, second


class PairMethod(Method):
    """A method on two views of a place: of two samples one each, of one sample both."""

    augmentation: Augmentation
    second_augmentation: Augmentation | None = None
    """Where the second view is made otherwise than the first."""

    def augment_with(self, options: PairOptions, size_px: int) -> None:
        """Make views as the recipe asks."""
        self.augmentation, self.second_augmentation = options.augmentations(size_px)

    def views(self, samples: tuple[View, ...], *, fill: float = 0.0) -> tuple[View, ...]:
        first, last = samples[0], samples[-1]
        second_augmentation = self.second_augmentation or self.augmentation
        return (
            View(*self.augmentation(first.x, first.valid, fill=fill)),
            View(*second_augmentation(last.x, last.valid, fill=fill)),
        )
