"""From one band grid to another by wavelength, and wavelengths as a network reads them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

CODE_LENGTH = 32
_CYCLES_PER_UM = (0.25, 16.0)
"""Slowest and fastest oscillation of the code: over the whole solar range, and over ten EnMAP bands."""


def resampling(wavelengths_nm: Sequence[float], reference_nm: Sequence[float]) -> Tensor:
    """Weights ``(reference, band)`` that carry spectra from one band grid to another.

    A reference band is the mean of the bands within its own spacing, weighted by nearness (a triangle);
    where there is none, the line between its two neighbours. Outside of what the bands cover its row is
    zero. Every other row sums to one; the same grid twice gives the identity. The bands may come in any
    order.
    """
    given = torch.tensor(wavelengths_nm, dtype=torch.float64)
    wanted = torch.tensor(reference_nm, dtype=torch.float64)
    spacing = _spacing(wanted)
    distance = (wanted[:, None] - given[None, :]).abs()
    weight = (1 - distance / spacing[:, None]).clamp(min=0)
    below = torch.where(given <= wanted[:, None], distance, math.inf).min(1)
    above = torch.where(given >= wanted[:, None], distance, math.inf).min(1)
    between = torch.isfinite(below.values) & torch.isfinite(above.values) & (weight.sum(1) == 0)
    rows = between.nonzero()[:, 0]
    gap = (below.values + above.values)[rows]
    weight[rows, below.indices[rows]] = above.values[rows] / gap
    weight[rows, above.indices[rows]] += below.values[rows] / gap
    total = weight.sum(1, keepdim=True)
    return (weight / torch.where(total > 0, total, torch.ones_like(total))).float()


def nearest_or_between(wavelengths_nm: Sequence[float], wanted_nm: Sequence[float]) -> Tensor:
    """Weights ``(wanted, band)`` of the straight line between neighbours; outside of them, of the nearest."""
    given = torch.tensor(wavelengths_nm, dtype=torch.float64)
    wanted = torch.tensor(wanted_nm, dtype=torch.float64).clamp(given.min(), given.max())
    order = given.argsort()
    above = torch.searchsorted(given[order], wanted).clamp(1, max(1, len(given) - 1))
    if len(given) == 1:
        return torch.ones(len(wanted), 1, dtype=torch.float64)
    low, high = given[order][above - 1], given[order][above]
    share = ((wanted - low) / (high - low).clamp(min=1e-9)).clamp(0, 1)
    rows = torch.arange(len(wanted))
    weight = torch.zeros(len(wanted), len(given), dtype=torch.float64)
    weight[rows, order[above - 1]] = 1 - share
    weight[rows, order[above]] += share
    return weight


def covered(wavelengths_nm: Sequence[float], reference_nm: Sequence[float]) -> Tensor:
    """Which reference bands ``(reference,)`` have a counterpart in the given ones."""
    return resampling(wavelengths_nm, reference_nm).sum(1) > 0


def wavelength_code(wavelengths_nm: Sequence[float]) -> Tensor:
    """Sines and cosines ``(band, 32)`` of the wavelength, slow and fast ones."""
    micrometres = torch.tensor(wavelengths_nm, dtype=torch.float64)[:, None] / 1000
    slow, fast = _CYCLES_PER_UM
    steps = torch.linspace(0, 1, CODE_LENGTH // 2, dtype=torch.float64)
    phase = 2 * math.pi * micrometres * slow * (fast / slow) ** steps
    return torch.cat([phase.sin(), phase.cos()], 1).float()


def _spacing(wavelengths_nm: Tensor) -> Tensor:
    """Distance of each band to the nearest other one, in nm."""
    distance = (wavelengths_nm[:, None] - wavelengths_nm[None, :]).abs()
    distance.fill_diagonal_(math.inf)
    return distance.amin(1).clamp(min=1e-3, max=1e6)
