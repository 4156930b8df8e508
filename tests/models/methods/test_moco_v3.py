"""MoCo-v3: keys of the batch, a frozen patch projection, and a teacher that follows."""

from __future__ import annotations

import torch

from models.contrast import batch_info_nce
from tests.models.methods import harness

NAME = "moco-v3"
make = harness.maker(NAME, {"head_hidden": 32, "head_out": 16})
PATCH = ("backbone.patch_embed.proj.weight", "backbone.patch_embed.proj.bias")


def test_the_loss_contrasts_both_ways_with_the_papers_factor() -> None:
    method, twin = make(), make()
    first, second = harness.random_views(method)
    expected = torch.zeros(())
    for seen, other in ((first, second), (second, first)):
        query = twin.predictor(twin.student(seen)[1])
        expected = expected + 2 * 0.2 * batch_info_nce(query, twin.teacher(other)[1], 0.2)
    torch.testing.assert_close(method.loss((first, second), torch.arange(6)).loss, expected)


def test_another_date_of_the_place_is_no_negative_unless_asked_for() -> None:
    views = harness.random_views(make())
    twice = torch.tensor([0, 0, 1, 1, 2, 2])
    assert make().loss(views, twice).loss < make(same_place_is_negative=True).loss(views, twice).loss


def test_the_patch_projection_of_a_vision_transformer_stays() -> None:
    harness.check_the_whole_encoder_learns(make, vit=True, frozen=PATCH)
    harness.check_the_whole_encoder_learns(make, vit=True, freeze_patch_projection=False)
    harness.check_the_whole_encoder_learns(make)
    method = make(vit=True)
    before = method.encoder.backbone.patch_embed.proj.weight.clone()
    harness.train(method, NAME, 2)
    assert torch.equal(method.encoder.backbone.patch_embed.proj.weight, before)


def test_heads_are_those_released_for_each_kind_of_backbone() -> None:
    kinds = {}
    for vit in (False, True):
        method = make(vit=vit)
        kinds[vit] = [
            [type(layer).__name__ for layer in head.layers]
            for head in (method.student.head, method.predictor)
        ]
    hidden, bare, normed = ["Linear", "BatchNorm1d", "ReLU"], ["Linear"], ["Linear", "BatchNorm1d"]
    assert kinds[False] == [hidden + normed, hidden + bare]
    assert kinds[True] == [hidden + hidden + normed, hidden + normed]


def test_the_teacher_follows_with_the_momentum_of_the_step() -> None:
    harness.check_the_teacher_follows(make, 0.95, step=5, steps=10, momentum=0.9)


def test_views_may_be_swapped() -> None:
    harness.check_views_may_be_swapped(make)


def test_pixels_under_the_mask_move_no_loss() -> None:
    harness.check_masked_pixels_move_nothing(make, NAME, vit=True)
    harness.check_masked_pixels_move_nothing(make, NAME)


def test_a_sample_that_a_view_sees_nothing_of_does_not_count() -> None:
    harness.check_unseen_samples_do_not_count(make)


def test_fifty_steps_follow_the_golden_curve() -> None:
    harness.check_golden_curve(make, NAME)


def test_a_collapse_is_seen() -> None:
    harness.check_collapse_is_seen(make, NAME)
