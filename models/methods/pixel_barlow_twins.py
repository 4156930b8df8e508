"""Pixel Barlow Twins: a hyperspectral pixel, with a few neighbours, in two spectral and geometric variants.

Ait Ali Braham, Mou, Chanussot, Mairal & Zhu 2022 (arXiv 2206.12117, IGARSS 2022): an encoder is pretrained
with Barlow Twins on the unlabelled pixels of a scene. No more than that is known to us; no code was released.
The loss is that of Zbontar et al. 2021 (arXiv 2103.03230). Everything else is ours: windows of
``input_size_px`` (9 or 11 for this method) about random valid pixels, a projector of three layers of 512, and
the spectral changes of HSI-PAWS (Pande et al. 2023, arXiv 2306.10955) with a little noise. They leave
each band where it is and what neighbouring bands share; there is no brightness, contrast, grey or blur.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from models.augment import Augmentation
from models.correlation import barlow_twins_loss
from models.heads import projection_mlp
from models.methods.method import MethodContext, MethodFactory, MethodOptions, View
from models.pixel_windows import choose_windows, cut_windows
from models.spectral_augment import SpectralChanges
from models.two_views import TwoViewsWithoutTeacher


class PixelBarlowTwinsOptions(MethodOptions):
    """Defaults are ours, except the weight of the off-diagonal correlations."""

    dates: Literal[1, 2] = Field(1, description="1: two variants of one date; 2: two dates, where there are")
    pixels_per_sample: int = Field(16, gt=0, description="windows cut from each sample, at the same pixels")
    redundancy: float = Field(0.0051, ge=0, description="weight of the off-diagonal correlations")
    head_width: int = Field(512, gt=0, description="of all layers of the projector")
    head_layers: int = Field(3, gt=0)
    head_batch_norm: bool = True
    crop_scale: tuple[float, float] | None = Field((0.4, 1.0), description="share of the window's area kept")
    quarter_turns: bool = True
    averaged_runs: int = Field(3, ge=0, description="runs of neighbouring bands replaced by their mean")
    run_bands: int = Field(10, gt=0, description="bands per run")
    dropped: float = Field(0.2, ge=0, lt=1, description="share of bands set to their mean over the snapshot")
    gain: float = Field(0.0, ge=0, description="largest relative change of a band, each by itself")
    noise: float = Field(0.05, ge=0, description="deviation, in deviations of a band")
    changed_share: float = Field(0.75, ge=0, le=1, description="share of windows each spectral step changes")


class PixelBarlowTwins(TwoViewsWithoutTeacher):
    """Encoder of windows, and projector."""

    def __init__(self, context: MethodContext, options: PixelBarlowTwinsOptions) -> None:
        widths = (context.encoder.feature_dim, *[options.head_width] * options.head_layers)
        super().__init__(
            context.encoder, projection_mlp(widths, batch_norm=options.head_batch_norm, last_bias=False)
        )
        self.options = options
        self.size_px = context.input_size_px
        self.augmentation = Augmentation(
            size_px=context.input_size_px,
            crop_scale=options.crop_scale,
            quarter_turns=options.quarter_turns,
            spectral=SpectralChanges(
                averaged_runs=options.averaged_runs,
                run_bands=options.run_bands,
                dropped=options.dropped,
                gain=options.gain,
                noise=options.noise,
                share=options.changed_share,
            ),
        )

    def views(self, samples: tuple[View, ...], *, fill: float = 0.0) -> tuple[View, ...]:
        """Both views of the same pixels; ``(batch · pixels_per_sample, band, y, x)``."""
        first, last = samples[0], samples[-1]
        believed = first.valid.any(1) & last.valid.any(1)
        at = choose_windows(believed, self.size_px, self.options.pixels_per_sample)
        windows = tuple(
            View(*(cut_windows(values, *at, self.size_px) for values in (sample.x, sample.valid)))
            for sample in (first, last)
        )
        return super().views(windows, fill=fill)

    def compare(self, first: Tensor, second: Tensor, places: Tensor, seen: Tensor) -> Tensor:
        return barlow_twins_loss(first, second, self.options.redundancy, seen=seen)


FACTORY = MethodFactory("pixel-barlow-twins", 1, PixelBarlowTwinsOptions, PixelBarlowTwins)  # type: ignore[arg-type]
