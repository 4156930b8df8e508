"""BYOL: the teacher is a moving average of the student, and its momentum rises over the whole run."""

from __future__ import annotations

import torch
from torch import nn

from tests.models.methods import harness

NAME = "byol"
make = harness.maker(NAME, {"head_hidden": 32, "head_out": 16, "momentum": 0.9})


def test_the_loss_is_the_sum_of_two_squared_distances_of_unit_vectors() -> None:
    method, twin = make(), make()
    first, second = harness.random_views(method)
    unit = nn.functional.normalize
    expected = torch.zeros(())
    for seen, other in ((first, second), (second, first)):
        predicted = unit(twin.predictor(twin.student(seen)[1]), dim=1)
        expected = expected + (predicted - unit(twin.teacher(other)[1], dim=1)).square().sum(1).mean()
    torch.testing.assert_close(method.loss((first, second), torch.arange(6)).loss, expected)


def test_the_teacher_follows_with_the_momentum_of_the_step() -> None:
    harness.check_the_teacher_follows(make, 0.9 + 0.1 * 0.5, step=5, steps=10)
    harness.check_the_teacher_follows(make, 0.8, final_momentum=0.8, momentum=0.8)


def test_at_the_end_of_the_run_the_teacher_stands_still() -> None:
    method = make()
    before = [parameter.clone() for parameter in method.teacher.parameters()]
    with torch.no_grad():
        for parameter in method.student.parameters():
            parameter.add_(1.0)
    method.after_optimiser_step(10)
    assert all(torch.equal(*pair) for pair in zip(before, method.teacher.parameters(), strict=True))


def test_views_may_be_swapped() -> None:
    harness.check_views_may_be_swapped(make)


def test_encoder_and_heads_learn() -> None:
    harness.check_the_whole_encoder_learns(make)


def test_pixels_under_the_mask_move_no_loss() -> None:
    harness.check_masked_pixels_move_nothing(make, NAME)


def test_a_sample_that_a_view_sees_nothing_of_does_not_count() -> None:
    harness.check_unseen_samples_do_not_count(make)


def test_fifty_steps_follow_the_golden_curve() -> None:
    harness.check_golden_curve(make, NAME)


def test_a_collapse_is_seen() -> None:
    harness.check_collapse_is_seen(make, NAME)
