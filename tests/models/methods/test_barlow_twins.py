"""Barlow Twins: the loss is that of the projections' correlation, and views may change places."""

from __future__ import annotations

import torch

from models.correlation import barlow_twins_loss
from tests.models.methods import harness

NAME = "barlow-twins"
make = harness.maker(NAME, {"head_width": 32})


def test_the_loss_is_that_of_both_projections() -> None:
    method, twin = make(redundancy=0.02), make()
    views = harness.random_views(method)
    first, second = (twin.student(view)[1] for view in views)
    expected = barlow_twins_loss(first, second, 0.02)
    torch.testing.assert_close(method.loss(views, torch.arange(6)).loss, expected)


def test_equal_views_leave_only_redundancy() -> None:
    method = make(redundancy=0.0)
    (view, _) = harness.random_views(method)
    loss = method.loss((view, view), torch.arange(6)).loss
    assert loss < 1e-3


def test_the_projector_has_the_released_layers() -> None:
    layers = [layer for layer in make().student.head.layers if isinstance(layer, torch.nn.Linear)]
    assert [layer.out_features for layer in layers] == [32, 32, 32]
    assert all(layer.bias is None for layer in layers)


def test_views_may_be_swapped() -> None:
    harness.check_views_may_be_swapped(make)


def test_encoder_and_head_learn() -> None:
    harness.check_the_whole_encoder_learns(make)


def test_pixels_under_the_mask_move_no_loss() -> None:
    harness.check_masked_pixels_move_nothing(make, NAME)


def test_a_sample_that_a_view_sees_nothing_of_does_not_count() -> None:
    harness.check_unseen_samples_do_not_count(make)


def test_fifty_steps_follow_the_golden_curve() -> None:
    harness.check_golden_curve(make, NAME)


def test_a_collapse_is_seen() -> None:
    harness.check_collapse_is_seen(make, NAME)
