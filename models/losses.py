"""Losses of self-supervised methods, each leaving out what is invalid."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.across_processes import gathered, mean_where


def info_nce(
    queries: Tensor,
    keys: Tensor,
    negatives: Tensor,
    temperature: float,
    same_place: Tensor | None = None,
    seen: Tensor | None = None,
) -> Tensor:
    """InfoNCE with one positive per query and negatives from a queue (van den Oord 2018; He et al. 2020).

    ``queries`` and ``keys (batch, d)`` are L2-normalised here, ``negatives (queue, d)`` already are.
    ``same_place (batch, queue)``: negatives to leave out because they show the query's own place; a
    small archive comes round to the same place before its key has left the queue. ``seen (batch,)``: queries
    that count. Computed in float32 at least, also under autocast.
    """
    with torch.autocast(queries.device.type, enabled=False):
        precision = torch.promote_types(queries.dtype, torch.float32)
        queries = F.normalize(queries.to(precision), dim=1)
        keys = F.normalize(keys.to(precision), dim=1)
        positive = (queries * keys).sum(1, keepdim=True)
        negative = queries @ negatives.to(precision).T
        if same_place is not None:
            negative = negative.masked_fill(same_place, float("-inf"))
        logits = torch.cat([positive, negative], 1) / temperature
        first = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
        return mean_where(F.cross_entropy(logits, first, reduction="none"), seen)


EMPTY = -1
"""Place of a key that is still the random one a queue begins with."""
NOWHERE = -2
"""Place of a sample without a valid pixel: its key is no negative of anybody."""


class KeyQueue(nn.Module):
    """The last keys of all devices, oldest replaced first, each with its place; ``NOWHERE`` is no place.

    Our own and not lightly's memory bank, because that cannot tell which keys show the query's own place.
    """

    keys: Tensor
    places: Tensor
    pointer: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("keys", F.normalize(torch.randn(size, dim), dim=1))
        self.register_buffer("places", torch.full((size,), EMPTY, dtype=torch.long))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def push(self, keys: Tensor, places: Tensor) -> None:
        """Add L2-normalised ``keys (batch, d)`` and ``places (batch,)``, of all devices in rank order."""
        keys, places = gathered(keys.detach().to(self.keys.dtype)), gathered(places)
        size = len(self.keys)
        keys, places = keys[-size:], places[-size:]
        at = (self.pointer + torch.arange(len(keys), device=keys.device)) % size
        self.keys[at] = keys
        self.places[at] = places
        self.pointer.copy_((self.pointer + len(keys)) % size)


def token_targets(tokens: Tensor, valid: Tensor, *, normalise: bool) -> Tensor:
    """Reconstruction targets ``(batch, token, value)``; ``normalise``: per token, over its valid values.

    The unbiased variance with 1e-6 added is that of the released MAE code (He et al. 2022). Invalid values
    become 0.
    """
    weight = valid.to(tokens.dtype)
    tokens = torch.where(valid, tokens, 0.0)
    if not normalise:
        return tokens
    count = weight.sum(-1, keepdim=True)
    mean = tokens.sum(-1, keepdim=True) / count.clamp(min=1)
    centred = torch.where(valid, tokens - mean, 0.0)
    variance = centred.square().sum(-1, keepdim=True) / (count - 1).clamp(min=1)
    return centred / (variance + 1e-6).sqrt()


def masked_error(predicted: Tensor, target: Tensor, valid: Tensor, masked: Tensor) -> Tensor:
    """Mean squared error over the tokens that were masked, each over its valid values only.

    ``predicted``, ``target`` and ``valid (batch, token, value)``; ``masked (batch, token)``. Tokens without a
    valid value do not count. Zero where nothing counts. All tokens of all processes count alike.
    """
    weight = valid.to(predicted.dtype)
    count = weight.sum(-1)
    squared = torch.where(valid, predicted - target, 0.0).square().sum(-1)
    error = squared / count.clamp(min=1)
    return mean_where(error.flatten(), (masked & (count > 0)).flatten())
