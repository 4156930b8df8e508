"""Losses against a labelled support set, as in PAWS: soft nearest neighbours, sharpening, mean entropy."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.across_processes import gathered, gathered_with_gradient, mean_where
from models.precision import in_full_precision

_SMALLEST = 1e-4
"""Parts of a target below this are set to zero, as in the released code of PAWS."""


@in_full_precision
def nearest_classes(embeddings: Tensor, support: Tensor, classes: Tensor, temperature: float) -> Tensor:
    """Class probabilities ``(batch, class)``: softmax of cosines with ``support (labelled, d)`` × labels.

    ``classes (labelled, class)``: one row per labelled sample, summing to 1. The soft nearest-neighbour
    classifier of PAWS (Assran et al. 2021, arXiv 2104.13963); gradients flow into the support too.
    """
    cosines = F.normalize(embeddings, dim=1) @ F.normalize(support, dim=1).T
    return (cosines / temperature).softmax(1) @ classes.to(cosines.dtype)


def smoothed_classes(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    """``labels (labelled,)`` as rows ``(labelled, class)``: ``smoothing`` of each row lies on all alike."""
    return F.one_hot(labels, classes) * (1 - smoothing) + smoothing / classes


@in_full_precision
def sharpened(probabilities: Tensor, temperature: float) -> Tensor:
    """``p^(1 / temperature)``, rows normalised again: below 1 the likely classes become more so."""
    # Through logarithms: 1e-20 to the fourth power leaves float32.
    logarithms = probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()
    return (logarithms / temperature).softmax(1)


@in_full_precision
def agreement_error(probabilities: Tensor, target: Tensor, seen: Tensor | None = None) -> Tensor:
    """Cross-entropy of ``probabilities`` with a sharpened ``target``, both ``(batch, class)``; mean.

    No gradient reaches the target; what is below 1e-4 in it is zero.
    """
    target = target.detach()
    target = torch.where(target < _SMALLEST, 0.0, target)
    logarithms = probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()
    return mean_where(-(target * logarithms).sum(1), seen)


@in_full_precision
def mean_entropy(probabilities: Tensor, seen: Tensor | None = None) -> Tensor:
    """Entropy in nats of the mean of ``probabilities (batch, class)`` over all processes' samples.

    Largest where the classes are used alike: to be maximised, or everything may become one class.
    """
    counted = probabilities.new_ones(len(probabilities)) if seen is None else seen.to(probabilities.dtype)
    everybody = gathered_with_gradient(probabilities * counted[:, None])
    mean = everybody.sum(0) / gathered(counted).sum().clamp(min=1)
    entropy: Tensor = torch.special.entr(mean).sum()
    return entropy
