"""Multi-view objects: every view of an object is told from all views of the others, whichever comes first."""

from __future__ import annotations

import torch

from models.methods.method import View
from tests.models.methods import harness

NAME = "multi-view-object"
make = harness.maker(NAME, {"head_hidden": 32, "head_out": 16, "views": 3, "dropped_bands": 0.1})


def test_views_take_turns_between_the_dates_and_go_without_some_bands() -> None:
    method = make(views=4, crop_scale=None, brightness=0.0, contrast=0.0, grey=0.0, blur=(0.0, 0.0))
    valid = torch.ones(3, 1, harness.SIZE_PX, harness.SIZE_PX, dtype=torch.bool)
    early, late = (
        View(torch.full((3, harness.BANDS, harness.SIZE_PX, harness.SIZE_PX), value), valid)
        for value in (1.0, 2.0)
    )
    torch.manual_seed(5)
    views = method.views((early, late))
    assert len(views) == 4
    for number, view in enumerate(views):
        assert set(view.x.unique().tolist()) <= {0.0, (1.0, 2.0)[number % 2]}
        # A band is gone from a view as a whole.
        assert (view.x.flatten(2).std(2) == 0).all()
    assert any((view.x == 0).any() for view in views)
    assert len(method.views((early,))) == 4


def test_any_order_of_the_views_gives_the_same_loss() -> None:
    views = [harness._double(view) for view in harness.random_views(make(), count=3)]
    ours, theirs = (
        make().double().loss(tuple(order), torch.arange(harness.BATCH)).loss
        for order in (views, [views[2], views[0], views[1]])
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_views_may_be_swapped() -> None:
    harness.check_views_may_be_swapped(make)


def test_another_date_of_the_same_place_is_no_wrong_answer() -> None:
    views = harness.random_views(make(), count=3)
    places = torch.tensor([0, 1, 2, 3, 4, 0])
    lenient, strict = (
        make(same_place_is_negative=negative).loss(views, places).loss for negative in (False, True)
    )
    assert lenient < strict


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
