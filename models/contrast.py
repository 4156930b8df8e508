"""Contrastive losses within a batch, over all processes; no place is a negative of itself.

``seen (batch,)`` says which samples take part: one without a valid pixel is neither drawn to anything nor
pushed from it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.across_processes import gathered, gathered_with_gradient, mean_where, rank
from models.precision import in_full_precision


@in_full_precision
def nt_xent(
    first: Tensor,
    second: Tensor,
    temperature: float,
    places: Tensor | None = None,
    seen: Tensor | None = None,
) -> Tensor:
    """NT-Xent of SimCLR (Chen et al. 2020, arXiv 2002.05709): one view of a sample against all others.

    ``first`` and ``second (batch, d)``, L2-normalised here; negatives are both views of all other samples of
    all processes, except those that show the sample's own place (``places (batch,)``). Mean over both
    views. lightly's ``NTXentLoss`` is the same without places.
    """
    batch = len(first)
    first, second = F.normalize(first, dim=1), F.normalize(second, dim=1)
    own = torch.arange(batch, device=first.device) + rank() * batch
    samples = len(gathered(own))
    # Rows: first views of all processes, then second views.
    everybody = torch.cat([gathered_with_gradient(first), gathered_with_gradient(second)])
    logits = torch.cat([first, second]) @ everybody.T / temperature
    itself = torch.cat([own, own + samples])
    positive = torch.cat([own + samples, own])
    left_out = F.one_hot(itself, 2 * samples).bool()
    if places is not None:
        same = places[:, None] == gathered(places)[None, :]
        left_out |= same.repeat(2, 2)
    if seen is not None:
        left_out |= ~gathered(seen).repeat(2)
        seen = seen.repeat(2)
    left_out.scatter_(1, positive[:, None], False)
    errors = F.cross_entropy(logits.masked_fill(left_out, float("-inf")), positive, reduction="none")
    return mean_where(errors, seen)


@in_full_precision
def batch_info_nce(
    queries: Tensor,
    keys: Tensor,
    temperature: float,
    places: Tensor | None = None,
    seen: Tensor | None = None,
) -> Tensor:
    """InfoNCE of MoCo-v3 (Chen, Xie & He 2021, arXiv 2104.02057), without its factor 2 · temperature.

    ``queries`` and ``keys (batch, d)``, L2-normalised here. The key of a query has its number; keys of all
    processes are negatives, except those of the query's own place (``places (batch,)``). Keys have no
    gradient.
    """
    queries = F.normalize(queries, dim=1)
    everybody = gathered(F.normalize(keys.detach(), dim=1))
    logits = queries @ everybody.T / temperature
    positive = torch.arange(len(queries), device=queries.device) + rank() * len(queries)
    left_out = torch.zeros_like(logits, dtype=torch.bool)
    if places is not None:
        left_out |= places[:, None] == gathered(places)[None, :]
    if seen is not None:
        left_out |= ~gathered(seen)
    left_out.scatter_(1, positive[:, None], False)
    errors = F.cross_entropy(logits.masked_fill(left_out, float("-inf")), positive, reduction="none")
    return mean_where(errors, seen)


@in_full_precision
def cosine_distance(predicted: Tensor, target: Tensor, seen: Tensor | None = None) -> Tensor:
    """2 - 2 cos, mean over the batch: the squared distance of unit vectors, as in BYOL. Zero for a match.

    No gradient reaches ``target (batch, d)``.
    """
    return mean_where(2 - 2 * F.cosine_similarity(predicted, target.detach(), dim=1), seen)


@in_full_precision
def multi_view_nt_xent(
    views: Tensor, temperature: float, places: Tensor | None = None, seen: Tensor | None = None
) -> Tensor:
    """Identify an object among others by each of its other views; NT-Xent where there are two.

    ``views (view, batch, d)``, L2-normalised here. Every ordered pair of views of an object is a question:
    which of all objects' views belongs to it? The negatives are all views of all other objects of all
    processes, except those that show the object's own place (``places (batch,)``); further views of the
    object are neither right nor wrong. Mean over pairs and objects.
    """
    views = F.normalize(views, dim=2)
    count, batch, _ = views.shape
    right = torch.einsum("abd,cbd->acb", views, views) / temperature
    everybody = torch.stack([gathered_with_gradient(view) for view in views])
    own = torch.arange(batch, device=views.device) + rank() * batch
    left_out = own[:, None] == torch.arange(everybody.shape[1], device=views.device)
    if places is not None:
        left_out = left_out | (places[:, None] == gathered(places))
    if seen is not None:
        left_out = left_out | ~gathered(seen)
    wrong = torch.einsum("abd,cod->aboc", views, everybody) / temperature
    wrong = wrong.masked_fill(left_out[None, :, :, None], float("-inf")).flatten(2).logsumexp(2)
    errors = torch.logaddexp(right, wrong[:, None]) - right
    pairs = ~torch.eye(count, dtype=torch.bool, device=views.device)
    return mean_where(errors[pairs].mean(0), seen)
