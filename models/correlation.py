"""Losses on the second moments of projections over the batch of all processes: Barlow Twins and VICReg.

``seen (batch,)`` says which samples take part in the statistics: one without a valid pixel does not.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.across_processes import gathered, gathered_with_gradient, mean_where
from models.precision import in_full_precision

_EPSILON = 1e-5
"""Added to a variance before the root: that of the batch norm in the released code of Barlow Twins."""


@in_full_precision
def barlow_twins_loss(
    first: Tensor,
    second: Tensor,
    redundancy: float,
    *,
    diagonal: float = 1.0,
    seen: Tensor | None = None,
) -> Tensor:
    """Barlow Twins (Zbontar et al. 2021, arXiv 2103.03230): Σᵢ (1 - Cᵢᵢ)² + redundancy · Σᵢ≠ⱼ Cᵢⱼ².

    C is the cross-correlation of ``first`` and ``second (batch, d)`` over the batch of all processes, each
    dimension standardised over that batch. ``diagonal``: what the diagonal is drawn to; 0 decorrelates the
    two, as DeCUR does with dimensions of their own (arXiv 2309.05300). Columns may be cut before: a block of
    C is the cross-correlation of the columns.

    lightly's loss standardises within each process, so that it depends on how the batch is shared out.
    """
    weight = _weights(first, seen)
    first, second = (standardised(gathered_with_gradient(values), weight) for values in (first, second))
    matching = (first * second).sum(0) / _count(weight)
    redundant = _squared_correlations(first, second, weight) - matching.square().sum()
    return (diagonal - matching).square().sum() + redundancy * redundant


def standardised(values: Tensor, weight: Tensor) -> Tensor:
    """``values (batch, d)`` with mean 0 and variance 1 per dimension, where ``weight (batch, 1)`` is 1."""
    count = _count(weight)
    centred = (values - (values * weight).sum(0) / count) * weight
    return centred / (centred.square().sum(0) / count + _EPSILON).sqrt()


@in_full_precision
def vicreg_terms(first: Tensor, second: Tensor, seen: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Invariance, variance and covariance of VICReg (Bardes, Ponce & LeCun 2022, arXiv 2105.04906).

    Of ``first`` and ``second (batch, d)``, over the batch of all processes, scaled as in the released code
    to which the published weights 25, 25 and 1 belong: the squared distance is a mean over dimensions too,
    and the variance term a mean over the two views, where the paper's formulas have sums.
    """
    invariance = mean_where((first - second).square().mean(1), seen)
    weight = _weights(first, seen)
    count = _count(weight)
    others = (count - 1).clamp(min=1)
    variance = covariance = torch.zeros((), dtype=first.dtype, device=first.device)
    for values in (first, second):
        values = gathered_with_gradient(values)
        centred = (values - (values * weight).sum(0) / count) * weight
        spread = centred.square().sum(0) / others
        variance = variance + F.relu(1 - (spread + 1e-4).sqrt()).mean() / 2
        scale = (count / others) ** 2
        redundant = scale * _squared_correlations(centred, centred, weight) - spread.square().sum()
        covariance = covariance + redundant / values.shape[1]
    return invariance, variance, covariance


def _weights(values: Tensor, seen: Tensor | None) -> Tensor:
    """1 for the samples of all processes that take part and 0 for the others, ``(batch, 1)``."""
    ones = values.new_ones(len(values)) if seen is None else seen.to(values.dtype)
    return gathered(ones)[:, None]


def _count(weight: Tensor) -> Tensor:
    return weight.sum().clamp(min=1)


def _squared_correlations(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    """Σᵢⱼ (firstᵀ second / count)ᵢⱼ², through the smaller of the two possible matrices.

    The sum is the trace of (first firstᵀ)(second secondᵀ): with 8,192 dimensions and a batch of 256 that is
    a thirtieth of the work of the matrix itself.
    """
    batch, dimensions = first.shape
    if batch < dimensions:
        total = ((first @ first.T) * (second @ second.T)).sum()
    else:
        total = (first.T @ second).square().sum()
    return total / _count(weight).square()
