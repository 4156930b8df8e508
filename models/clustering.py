"""Codes by optimal transport: every prototype gets an equal part of the batch of all processes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.across_processes import mean_where, summed
from models.precision import in_full_precision


@torch.no_grad()
def sinkhorn_codes(scores: Tensor, *, epsilon: float, iterations: int, seen: Tensor | None = None) -> Tensor:
    """Soft codes ``(sample, prototype)`` of ``scores``; each row sums to 1, all columns to nearly the same.

    Sinkhorn-Knopp as in SwAV (Caron et al. 2020, arXiv 2006.09882), over the samples of all processes.
    Samples that are not ``seen (sample,)`` take no part, and get zeros. In float64, because
    exp(score / epsilon) leaves float32 soon; scores are cosines. lightly's ``sinkhorn`` is the same where all
    processes have as many samples and all are seen.
    """
    with torch.autocast(scores.device.type, enabled=False):
        codes = (scores.detach().double() / epsilon).exp()
        if seen is not None:
            codes = codes * seen[:, None]
        for _ in range(iterations):
            codes = codes / _nonzero(summed(codes.sum(0)))
            codes = codes / _nonzero(codes.sum(1, keepdim=True))
        return codes


def _nonzero(total: Tensor) -> Tensor:
    return torch.where(total > 0, total, 1.0)


@in_full_precision
def prototype_scores(features: Tensor, prototypes: Tensor) -> Tensor:
    """Cosines ``(sample, prototype)`` of ``features (sample, d)`` with unit ``prototypes (prototype, d)``."""
    return F.normalize(features, dim=1) @ prototypes.T


@in_full_precision
def code_error(scores: Tensor, codes: Tensor, temperature: float, seen: Tensor | None = None) -> Tensor:
    """Cross-entropy of ``softmax(scores / temperature)`` with ``codes``, both ``(sample, prototype)``.

    Mean over the samples of all processes, those that are ``seen (sample,)``.
    """
    errors = -(codes.to(scores.dtype) * F.log_softmax(scores / temperature, dim=1)).sum(1)
    return mean_where(errors, seen)
