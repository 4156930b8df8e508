"""SimCLR: the batch is the negatives, a place is not its own, and views may change places."""

from __future__ import annotations

import torch

from models.contrast import nt_xent
from tests.models.methods import harness

NAME = "simclr"
make = harness.maker(NAME, {"head_hidden": 32, "head_out": 16})


def test_the_loss_is_nt_xent_of_both_projections() -> None:
    method, twin = make(), make()
    views = harness.random_views(method)
    made = method.loss(views, torch.arange(6))
    first, second = (twin.student(view)[1] for view in views)
    torch.testing.assert_close(made.loss, nt_xent(first, second, 0.1))


def test_another_date_of_the_place_is_no_negative_unless_asked_for() -> None:
    views = harness.random_views(make())
    twice = torch.tensor([0, 0, 1, 1, 2, 2])
    known = make().loss(views, twice).loss
    blind = make(same_place_is_negative=True).loss(views, twice).loss
    assert known < blind
    torch.testing.assert_close(blind, make().loss(views, torch.arange(6)).loss)


def test_views_may_be_swapped() -> None:
    harness.check_views_may_be_swapped(make)


def test_encoder_and_head_learn() -> None:
    harness.check_the_whole_encoder_learns(make)


def test_pixels_under_the_mask_move_no_loss() -> None:
    harness.check_masked_pixels_move_nothing(make, NAME, quarter_turns=True, blur=(1.0, 1.0), grey=1.0)


def test_a_sample_that_a_view_sees_nothing_of_does_not_count() -> None:
    harness.check_unseen_samples_do_not_count(make)


def test_fifty_steps_follow_the_golden_curve() -> None:
    harness.check_golden_curve(make, NAME)


def test_a_collapse_is_seen() -> None:
    harness.check_collapse_is_seen(make, NAME)
