"""The teacher is nobody's alias and follows as a moving average."""

from __future__ import annotations

import copy

import pytest
import torch
from timm.layers import DropPath
from torch import nn

from models.teacher import follow, make_teacher, momentum_at, require_separate, without_dropout


def student() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def test_the_teacher_shares_no_storage_with_the_student() -> None:
    ours = student()
    teacher = make_teacher(ours)
    require_separate(ours, teacher)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    alias = copy.deepcopy(ours)
    alias[0] = ours[0]
    with pytest.raises(AssertionError, match="2 tensors"):
        require_separate(ours, alias)


def test_after_one_step_every_parameter_is_the_moving_average() -> None:
    ours = student()
    teacher = make_teacher(ours)
    before = [parameter.clone() for parameter in teacher.parameters()]
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(torch.randn_like(parameter))
    follow(ours, teacher, 0.9)
    for old, new, student_now in zip(before, teacher.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * student_now)
        assert not torch.equal(new, student_now)
        assert not torch.equal(new, old)


def test_momentum_goes_from_start_to_end_over_the_whole_run() -> None:
    values = [momentum_at(step, 100, 0.99, 1.0) for step in range(101)]
    assert values[0] == pytest.approx(0.99)
    assert values[50] == pytest.approx(0.995)
    assert values[-1] == pytest.approx(1.0)
    assert values == sorted(values)
    # SpectralEarth's released script reaches 1 at a tenth of the run: its teacher then stands still.
    assert max(values[:-1]) < 1


def test_a_teacher_without_dropout_answers_alike_twice() -> None:
    noisy = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), DropPath(0.5)).train()
    x = torch.randn(16, 3)
    assert not torch.equal(noisy(x), noisy(x))
    quiet = without_dropout(make_teacher(noisy))
    assert torch.equal(quiet(x), quiet(x))
    assert noisy[1].p == 0.5
