"""VICReg: three weighted terms, and views may change places."""

from __future__ import annotations

import pytest
import torch

from models.correlation import vicreg_terms
from tests.models.methods import harness

NAME = "vicreg"
make = harness.maker(NAME, {"head_width": 32})


@pytest.mark.parametrize("weights", [(25.0, 25.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)])
def test_the_loss_is_the_weighted_sum_of_its_terms(weights: tuple[float, float, float]) -> None:
    invariance, variance, covariance = weights
    method, twin = make(invariance=invariance, variance=variance, covariance=covariance), make()
    views = harness.random_views(method)
    first, second = (twin.student(view)[1] for view in views)
    expected = sum(weight * term for weight, term in zip(weights, vicreg_terms(first, second), strict=True))
    torch.testing.assert_close(method.loss(views, torch.arange(6)).loss, expected)


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
