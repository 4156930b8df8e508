"""A method broken on purpose: all embeddings attract each other, whatever the method would have asked for."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from models.methods.method import MethodLoss, View


def attract_embeddings(method: Any) -> None:
    """Put mutual attraction in place of ``method.loss``."""

    def loss(views: tuple[View, ...], places: torch.Tensor) -> MethodLoss:
        embedding = torch.cat([method.encoder(view.x, view.valid) for view in views])
        unit = F.normalize(embedding, dim=1)
        return MethodLoss(1 - (unit @ unit.T).mean(), embedding[: len(places)].detach())

    method.loss = loss
