"""Schedules span the whole run, and parameters of one dimension are spared decay and layer-wise scaling."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from catalog.recipes import Optimiser
from models.optim import make_optimiser, make_schedule, set_weight_decay, weight_decay_at


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


@pytest.mark.parametrize("name", ["sgd", "adamw", "lars", "adan"])
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


def test_weight_decay_rises_with_a_cosine_over_the_whole_run_where_asked_for() -> None:
    rising = request(weight_decay=0.04, final_weight_decay=0.4)
    values = [weight_decay_at(rising, step, 100) for step in range(101)]
    assert values[0] == pytest.approx(0.04)
    assert values[50] == pytest.approx(0.22)
    assert values[100] == pytest.approx(0.4)
    assert values == sorted(values)
    assert {weight_decay_at(request(weight_decay=0.3), step, 100) for step in range(100)} == {0.3}


@pytest.mark.parametrize("name", ["sgd", "adamw", "lars", "adan"])
def test_a_new_weight_decay_reaches_matrices_only_also_from_zero(name: str) -> None:
    module = nn.Linear(3, 3)
    optimiser = make_optimiser(module, request(name=name, weight_decay=0.0))
    set_weight_decay(optimiser, 0.25)
    decay = {id(p): group["weight_decay"] for group in optimiser.param_groups for p in group["params"]}
    assert decay == {id(module.weight): 0.25, id(module.bias): 0.0}


def test_adamw_takes_the_betas_of_the_recipe() -> None:
    optimiser = make_optimiser(nn.Linear(2, 2), request(name="adamw", betas=(0.9, 0.999)))
    assert optimiser.param_groups[0]["betas"] == (0.9, 0.999)
