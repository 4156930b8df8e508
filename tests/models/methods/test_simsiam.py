"""SimSiam: the target side gets no gradient, and without that everything would collapse."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from tests.models.methods import harness

NAME = "simsiam"
make = harness.maker(NAME, {"head_width": 32, "predictor_hidden": 16})


def test_the_loss_is_the_mean_of_two_negative_cosines() -> None:
    method, twin = make(), make()
    views = harness.random_views(method)
    first, second = (twin.student(view)[1] for view in views)
    ahead = -F.cosine_similarity(twin.predictor(first), second).mean()
    back = -F.cosine_similarity(twin.predictor(second), first).mean()
    torch.testing.assert_close(method.loss(views, torch.arange(6)).loss, (ahead + back) / 2)


def test_no_gradient_flows_through_the_target() -> None:
    method = make()
    first, second = torch.randn(2, 6, 32, requires_grad=True).unbind()
    seen = torch.ones(6, dtype=torch.bool)
    ours = torch.autograd.grad(method.compare(first, second, torch.arange(6), seen), (first, second))
    with_constant = [
        torch.autograd.grad(-F.cosine_similarity(method.predictor(seen), other.detach()).mean() / 2, seen)[0]
        for seen, other in ((first, second), (second, first))
    ]
    torch.testing.assert_close(list(ours), with_constant)


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
