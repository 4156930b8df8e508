"""Spectral-profile reconstruction: hide bands of a pixel's spectrum and rebuild them from the others.

Zhang & Han 2023 (arXiv 2306.15836, Remote Sensing 15(21) 5238): the pixel task of two. Known to us is that
part of a pixel's spectral profile is masked and the model reconstructs it; no code was released. Everything
else is ours. Runs of ``run_bands`` neighbouring bands are hidden together, because a single band is told by
its neighbours; hidden values become a learned placeholder per band. A decoder of two layers rebuilds the
profile from the encoder's embedding; the loss is the mean squared error over hidden valid values, each pixel
counting alike. Bands are z-scored, nothing else is changed about a spectrum.

The encoder is any: for one pixel at a time ``input_size_px: 1``, a Vision Transformer with ``patch_size: 1``
and ``depth: 0``, which mixes no pixels, behind ``front_end: spectral-tokens`` (a one-dimensional transformer
over groups of bands) or ``spectral-adapter``; without a front-end and with ``depth: 1`` it is an MLP. With a
larger input the pixel in its middle is rebuilt, and its bands are hidden in all pixels of the window.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from models.augment import Augmentation
from models.losses import masked_error
from models.methods.method import Method, MethodContext, MethodFactory, MethodLoss, MethodOptions, View
from models.pixel_windows import choose_windows, cut_windows


class SpectralProfileOptions(MethodOptions):
    """Defaults are ours."""

    pixels_per_sample: int = Field(64, gt=0, description="windows cut from each sample")
    mask_ratio: float = Field(0.5, gt=0, lt=1, description="share of the runs of bands that are hidden")
    run_bands: int = Field(8, gt=0, description="neighbouring bands that are hidden together")
    decoder_hidden: int = Field(512, gt=0)


class SpectralProfile(Method):
    """Encoder of windows, placeholders and decoder."""

    def __init__(self, context: MethodContext, options: SpectralProfileOptions) -> None:
        super().__init__()
        self.encoder = context.encoder
        self.options = options
        self.size_px = context.input_size_px
        self.placeholder = nn.Parameter(torch.zeros(context.bands))
        self.decoder = nn.Sequential(
            nn.Linear(context.encoder.feature_dim, options.decoder_hidden),
            nn.GELU(),
            nn.Linear(options.decoder_hidden, context.bands),
        )
        self.augmentation = Augmentation(size_px=context.input_size_px, flips=False)

    def views(self, samples: tuple[View, ...], *, fill: float = 0.0) -> tuple[View, ...]:
        """Windows about valid pixels, ``(batch · pixels_per_sample, band, y, x)``."""
        (sample,) = samples
        at = choose_windows(sample.valid.any(1), self.size_px, self.options.pixels_per_sample)
        x, valid = (cut_windows(values, *at, self.size_px) for values in (sample.x, sample.valid))
        return (View(torch.where(valid, x, fill), valid),)

    def loss(self, views: tuple[View, ...], places: Tensor) -> MethodLoss:
        (view,) = views
        batch, bands = view.x.shape[:2]
        hidden = hidden_bands(batch, bands, self.options.run_bands, self.options.mask_ratio)
        hidden = hidden.to(view.x.device)
        known = view.valid & ~hidden[:, :, None, None]
        placeholder = torch.where(hidden, self.placeholder, 0.0)[:, :, None, None]
        # Invalid values hold the fill; so do bands that are hidden, with their placeholder in its place.
        x = torch.where(hidden[:, :, None, None], placeholder.to(view.x.dtype), view.x)
        embedding = self.encoder(x, known.any(1, keepdim=True))
        rebuilt = self.decoder(embedding)
        rebuilt = rebuilt.to(torch.promote_types(rebuilt.dtype, torch.float32))
        middle = (..., self.size_px // 2, self.size_px // 2)
        target, valid = view.x[middle], view.valid.expand_as(view.x)[middle]
        error = masked_error(
            rebuilt[:, None], target[:, None], (valid & hidden)[:, None], known[middle].any(1)[:, None]
        )
        return MethodLoss(error, embedding.detach())


def hidden_bands(batch: int, bands: int, run_bands: int, ratio: float) -> Tensor:
    """``(batch, band)``: which bands are hidden, whole runs of them; at least one run, and not all.

    Runs start anew every ``run_bands``, at an offset of each sample's own. Uses torch's RNG.
    """
    run_bands = min(run_bands, max(1, bands // 2))
    offset = torch.randint(run_bands, (batch, 1))
    run = (torch.arange(bands) + offset) // run_bands
    runs = int(run.max()) + 1
    order = torch.rand(batch, runs)
    # A sample whose last run does not begin within its bands has one run fewer.
    count = run[:, -1:] + 1
    order = order.masked_fill(torch.arange(runs) >= count, 2.0).argsort(1).argsort(1)
    # Rounded up or down by chance, so that the share is right on average.
    wanted = (count * ratio + torch.rand(batch, 1)).floor().clamp(min=1)
    wanted = torch.minimum(wanted, count - 1)
    return order.gather(1, run) < wanted


FACTORY = MethodFactory("spectral-profile", 1, SpectralProfileOptions, SpectralProfile)  # type: ignore[arg-type]
