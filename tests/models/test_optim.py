"""Schedules span the whole run, and parameters of one dimension are spared decay and layer-wise scaling."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from catalog.recipes import Optimiser
from models.optim import make_optimiser, make_schedule


def request(**changes: object) -> Optimiser:
    return Optimiser.model_validate({"learning_rate": 0.1} | changes)


def test_cosine_warms_up_and_ends_at_zero_with_the_run() -> None:
    factor = make_schedule(request(schedule="cosine", warmup_share=0.1), 100)
    values = [factor(step) for step in range(100)]
    assert values[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert values[10] == 1
    assert values[55] == pytest.approx(0.5)
    assert values[99] == pytest.approx(0.5 * (1 + math.cos(math.pi * 89 / 90)))
    assert factor(100) == pytest.approx(0)


def test_steps_fall_at_shares_of_the_run() -> None:
    factor = make_schedule(request(schedule="step", warmup_share=0, milestones=(0.6, 0.8)), 50)
    assert [factor(step) for step in (0, 29, 30, 39, 40, 49)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_a_constant_schedule_stays_at_one_after_its_warm_up() -> None:
    factor = make_schedule(request(schedule="constant", warmup_share=0.2), 10)
    assert factor(0) < factor(1) < 1
    assert [factor(step) for step in range(2, 10)] == [1.0] * 8


@pytest.mark.parametrize("name", ["sgd", "adamw", "lars"])
def test_biases_and_norms_do_not_decay(name: str) -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    module[0].bias.requires_grad_(False)
    optimiser = make_optimiser(module, request(name=name, weight_decay=0.5))
    decay = {id(p): group["weight_decay"] for group in optimiser.param_groups for p in group["params"]}
    assert decay == {id(module[0].weight): 0.5, id(module[1].weight): 0.0, id(module[1].bias): 0.0}


def test_lars_scales_matrices_by_their_norm_and_leaves_vectors_alone() -> None:
    module = nn.Linear(4, 4)
    with torch.no_grad():
        module.weight.fill_(2.0)
        module.bias.fill_(2.0)
    optimiser = make_optimiser(module, request(name="lars", weight_decay=1e-4, momentum=0.0))
    for parameter in module.parameters():
        parameter.grad = torch.full_like(parameter, 100.0)
    before = [parameter.detach().clone() for parameter in (module.weight, module.bias)]
    optimiser.step()
    weight, bias = (
        float((old - new).abs().mean().detach())
        for old, new in zip(before, (module.weight, module.bias), strict=True)
    )
    assert bias == pytest.approx(0.1 * 100)
    # Trust ratio: 0.001 · |w| / |g| = 0.001 · 8 / 400, times the gradient and the learning rate.
    assert weight == pytest.approx(0.1 * 100 * 0.001 * 8 / 400, rel=1e-3)
