"""Signs of collapse in a batch of embeddings, logged while training."""

from __future__ import annotations

from torch import Tensor

from models.vitality import effective_rank, spread_of


def collapse_signs(embedding: Tensor) -> dict[str, float]:
    """Of ``embedding (batch, d)``: how far it is from one point, and how many directions it uses.

    ``embedding_std``: standard deviation of L2-normalised features × √d; 0 for a constant.
    ``effective_rank``: at most the batch size; shown, but noise scores highest on it.
    """
    features = embedding.detach().double().cpu().numpy()
    if len(features) < 2:
        return {"embedding_std": 0.0, "effective_rank": 0.0}
    return {"embedding_std": spread_of(features), "effective_rank": effective_rank(features)}
