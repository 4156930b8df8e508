"""How far a reconstructed image is off, in space and in frequency, over valid values only."""

from __future__ import annotations

import torch
from torch import Tensor

from models.across_processes import mean_where
from models.precision import in_full_precision


@in_full_precision
def focal_l1(predicted: Tensor, target: Tensor, counted: Tensor, alpha: float = 0.2) -> Tensor:
    """Mean of |e| · (2 · sigmoid(alpha · |e|) - 1) over the values that count, all ``(batch, band, y, x)``.

    As in CMID (Muhtar et al. 2023, arXiv 2304.09670): small errors weigh less. Zero where nothing counts.
    """
    error = torch.where(counted, predicted - target, 0.0).abs()
    focal = error * (2 * torch.sigmoid(alpha * error) - 1)
    return mean_where(focal, counted)


@in_full_precision
def focal_frequency(
    predicted: Tensor, target: Tensor, hidden: Tensor, valid: Tensor, open_weight: float = 0.001
) -> Tensor:
    """Weighted squared distance between the spectra of two images ``(batch, band, y, x)``.

    As in CMID: where pixels were not ``hidden (batch, 1, y, x)`` the prediction gives way, but for
    ``open_weight``, to the mean of prediction and target, without gradient; the orthonormal spectra are
    averaged over the batch of a process; each frequency weighs log(1 + distance) over the largest of these,
    without gradient. What is not ``valid (batch, 1 or band, y, x)`` is zero in both images and moves nothing.
    """
    weight = hidden.to(predicted.dtype)
    weight = weight + (1 - weight) * open_weight
    off, fixed = predicted - target, predicted.detach() - target
    difference = torch.where(valid, off * weight + 0.5 * fixed * (1 - weight), 0.0)
    # The spectrum is linear: that of the difference is the difference of the spectra.
    spectrum = torch.fft.fft2(difference, norm="ortho").mean(0)
    distance = spectrum.real.square() + spectrum.imag.square()
    importance = torch.log1p(distance.detach().sqrt())
    importance = importance / importance.max().clamp(min=torch.finfo(importance.dtype).tiny)
    loss: Tensor = (importance * distance).mean()
    return loss
