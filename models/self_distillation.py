"""Self-distillation without labels: prototypes, a centred and sharpened teacher, and the loss between."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from lightly.models.modules.heads import ProjectionHead
from torch import Tensor, nn

from models.across_processes import mean_where, summed
from models.precision import in_full_precision


class PrototypeHead(nn.Module):
    """DINO's head: an MLP with GELU, L2 norm, and the cosine to each of ``out`` prototypes.

    Caron et al. 2021 (arXiv 2104.14294), with the norm of its weight-normed last layer fixed at one. Our own
    and not lightly's ``DINOProjectionHead``, whose old-style weight norm cannot be copied into a teacher once
    it has run. ``weight_std``: of the truncated normal that linear layers start from; torch's own start if
    none.
    """

    def __init__(
        self,
        width: int,
        *,
        hidden: int,
        bottleneck: int,
        out: int,
        batch_norm: bool,
        weight_std: float | None,
    ) -> None:
        super().__init__()
        blocks: list[tuple[int, int, nn.Module | None, nn.Module | None]] = [
            (before, hidden, nn.BatchNorm1d(hidden) if batch_norm else None, nn.GELU())
            for before in (width, hidden)
        ]
        self.mlp = ProjectionHead([*blocks, (hidden, bottleneck, None, None)])
        if weight_std is not None:
            for module in self.mlp.modules():
                if isinstance(module, nn.Linear):
                    nn.init.trunc_normal_(module.weight, std=weight_std)
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)
        self.prototypes = nn.Parameter(torch.empty(out, bottleneck))
        nn.init.kaiming_uniform_(self.prototypes, a=math.sqrt(5))

    def forward(self, features: Tensor) -> Tensor:
        """``(sample, width)`` → ``(sample, out)``, each in -1 … 1."""
        unit = F.normalize(self.mlp(features), dim=1)
        return F.linear(unit, F.normalize(self.prototypes, dim=1))


class Centre(nn.Module):
    """Moving mean of the teacher's outputs over the samples of all processes, to be taken from them."""

    value: Tensor

    def __init__(self, out: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("value", torch.zeros(out))

    @torch.no_grad()
    def follow(self, outputs: Tensor, seen: Tensor) -> None:
        """value = momentum · value + (1 - momentum) · mean of ``outputs (n, out)``, those ``seen (n,)``.

        Stays where it is if nothing was seen anywhere.
        """
        weight = seen.to(self.value.dtype)
        total = torch.where(seen[:, None], outputs.to(self.value.dtype), 0.0).sum(0)
        everywhere = summed(torch.cat([total, weight.sum()[None]]))
        count = everywhere[-1]
        mean = everywhere[:-1] / count.clamp(min=1)
        self.value.copy_(torch.where(count > 0, self.value.lerp(mean, 1 - self.momentum), self.value))


@in_full_precision
def sharpened(outputs: Tensor, centre: Tensor, temperature: float) -> Tensor:
    """The teacher's distribution over prototypes: softmax((outputs - centre) / temperature)."""
    return F.softmax((outputs.detach() - centre) / temperature, dim=-1)


@in_full_precision
def multi_crop_error(
    student: Tensor, teacher: Tensor, temperature: float, student_seen: Tensor, teacher_seen: Tensor
) -> Tensor:
    """Cross-entropy of every crop to every global crop but itself, the mean over pairs and samples.

    ``student (crop, batch, out)`` are outputs, the global crops first; ``teacher (global, batch, out)`` are
    distributions. A crop without a valid pixel (``…_seen (crop, batch)`` false) takes part in no pair. With
    all seen this is lightly's ``DINOLoss``, which cannot leave any out. Pairs of all processes count alike.
    """
    log_probability = F.log_softmax(student / temperature, dim=-1)
    error = -torch.einsum("gbk,cbk->gcb", teacher, log_probability)
    itself = torch.eye(len(teacher), len(student), dtype=torch.bool, device=student.device)
    counted = teacher_seen[:, None] & student_seen[None] & ~itself[:, :, None]
    return mean_where(error, counted)


@in_full_precision
def distillation_error(student: Tensor, teacher: Tensor, temperature: float, seen: Tensor) -> Tensor:
    """Mean cross-entropy of ``student (n, out)`` outputs to ``teacher (n, out)`` where ``seen (n,)``."""
    error = -(teacher * F.log_softmax(student / temperature, dim=-1)).sum(-1)
    return mean_where(error, seen)


def warmed_up(step: int, warmup_steps: int, start: float, end: float) -> float:
    """A straight line from ``start`` at step 0 to ``end`` at ``warmup_steps``, and ``end`` from there on."""
    if step >= warmup_steps:
        return end
    return start + (end - start) * step / warmup_steps
