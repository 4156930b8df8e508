"""Random changes along the spectral axis: grey, averaged and dropped bands, gain, noise; no pixel moves.

All work on z-scores: zero is a band's mean, and nothing is clamped. What lies under a mask takes no part.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SpectralChanges:
    """What may happen to spectra; each step is left out where its setting is 0.

    No step mixes distant bands or exchanges them, so that a spectrum stays the spectrum of its ground. Order
    and shares are those of HSI-PAWS (Pande et al. 2023, arXiv 2306.10955) for averaging and dropping.
    """

    averaged_runs: int = 0
    """Runs of neighbouring bands that are replaced by their mean."""
    run_bands: int = 10
    """Length of such a run."""
    dropped: float = 0.0
    """Share of bands that are set to their mean over the snapshot."""
    gain: float = 0.0
    """Largest relative change of a band about its mean over the snapshot, each band by itself."""
    noise: float = 0.0
    """Deviation of Gaussian noise on every value, in standard deviations of the band."""
    share: float = 0.75
    """Share of samples that each step changes."""

    def __call__(self, x: Tensor, valid: Tensor) -> Tensor:
        """Changed ``x (batch, band, y, x)``; uses torch's generator of the CPU."""
        batch, bands = x.shape[:2]
        for _ in range(self.averaged_runs):
            x = averaged(x, valid, self._chosen(x) & _run(batch, bands, self.run_bands).to(x.device))
        if self.dropped:
            lost = torch.rand(batch, bands).to(x.device) < self.dropped
            x = torch.where((self._chosen(x) & lost)[:, :, None, None], 0.0, x)
        if self.gain:
            change = (torch.rand(batch, bands).to(x) * 2 - 1) * self.gain
            x = x * (1 + torch.where(self._chosen(x), change, 0.0))[:, :, None, None]
        if self.noise:
            deviation = torch.where(self._chosen(x), self.noise, 0.0)[:, :, None, None]
            x = x + torch.randn(x.shape).to(x) * deviation.to(x)
        return x

    def _chosen(self, x: Tensor) -> Tensor:
        """``(batch, 1)``: which samples a step changes."""
        return (torch.rand(len(x), 1) < self.share).to(x.device)


def grey(x: Tensor, valid: Tensor, share: float) -> Tensor:
    """Replace all bands of ``share`` of the samples by their mean."""
    chosen = (torch.rand(len(x), 1) < share).to(x.device)
    return averaged(x, valid, chosen.expand(-1, x.shape[1]))


def averaged(x: Tensor, valid: Tensor, bands: Tensor) -> Tensor:
    """Replace ``bands (batch, band)`` by their mean over valid values, pixel by pixel."""
    members = bands[:, :, None, None]
    believed = valid & members
    count = believed.sum(1, keepdim=True).clamp(min=1)
    mean = torch.where(believed, x, 0.0).sum(1, keepdim=True) / count
    return torch.where(members, mean, x)


def _run(batch: int, bands: int, length: int) -> Tensor:
    """``(batch, band)``: a random run of neighbouring bands per sample."""
    length = min(length, bands)
    start = torch.randint(bands - length + 1, (batch, 1))
    band = torch.arange(bands)
    return (band >= start) & (band < start + length)
