"""Signs of collapse in a batch of embeddings, logged while training."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from models.vitality import effective_rank, spread_of


def collapse_signs(embedding: Tensor, partner: Tensor | None = None) -> dict[str, float]:
    """Of ``embedding (batch, d)``: how far it is from one point, and how many directions it uses.

    ``embedding_std``: standard deviation of L2-normalised features × √d; 0 for a constant.
    ``effective_rank``: at most the batch size; shown, but noise scores highest on it.
    ``uniformity``, and ``alignment`` to ``partner (batch, d)``, the other view's embedding, where there is
    one: those of Wang & Isola 2020 (arXiv 2005.10242), lower is better; a constant has alignment and
    uniformity 0.
    """
    features = embedding.detach().double().cpu()
    signs = {"embedding_std": 0.0, "effective_rank": 0.0, "uniformity": 0.0}
    if len(features) > 1:
        signs = {
            "embedding_std": spread_of(features.numpy()),
            "effective_rank": effective_rank(features.numpy()),
            "uniformity": uniformity(features),
        }
    if partner is not None:
        signs["alignment"] = alignment(features, partner.detach().double().cpu())
    return signs


def alignment(first: Tensor, second: Tensor) -> float:
    """Mean squared distance between the L2-normalised embeddings ``(batch, d)`` of two views."""
    return float((F.normalize(first, dim=1) - F.normalize(second, dim=1)).square().sum(1).mean())


def uniformity(features: Tensor) -> float:
    """Logarithm of the mean Gaussian potential exp(-2 d²) over pairs of ``features (batch, d)``."""
    squared = torch.pdist(F.normalize(features, dim=1)).square()
    return float(torch.logsumexp(-2 * squared, 0) - math.log(len(squared)))
