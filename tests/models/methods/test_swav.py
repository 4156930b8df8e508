"""SwAV: swapped codes, unit prototypes that wait, a queue that joins when it is full."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from models.clustering import code_error, sinkhorn_codes
from tests.models.methods import harness

NAME = "swav"
make = harness.maker(
    NAME, {"head_hidden": 32, "head_out": 16, "prototypes": 12, "frozen_share": 0.1, "queue_after": 0.1}
)


def scores_of(method, view):
    return F.normalize(method.student(view)[1], dim=1) @ method.prototypes.T


def test_each_view_predicts_the_codes_of_the_other() -> None:
    method, twin = make(), make()
    views = harness.random_views(method)
    first, second = (scores_of(twin, view) for view in views)
    codes = [sinkhorn_codes(scores, epsilon=0.05, iterations=3) for scores in (first, second)]
    expected = (code_error(second, codes[0], 0.1) + code_error(first, codes[1], 0.1)) / 2
    torch.testing.assert_close(method.loss(views, torch.arange(6)).loss, expected)


def test_small_crops_predict_both_codes_and_are_assigned_to_nothing() -> None:
    method, twin = make(local_crops=2, local_size_px=8), make()
    torch.manual_seed(2)
    samples = harness.ground_samples(harness.ground(6, 2, 4, 20), torch.arange(6), 2)
    views = method.views(samples)
    assert [view.x.shape[-1] for view in views] == [16, 16, 8, 8]
    scores = [scores_of(twin, view) for view in views]
    codes = [sinkhorn_codes(part, epsilon=0.05, iterations=3) for part in scores[:2]]
    expected = [
        sum(code_error(scores[view], codes[at], 0.1) for view in range(4) if view != at) / 3 for at in (0, 1)
    ]
    torch.testing.assert_close(method.loss(views, torch.arange(6)).loss, sum(expected) / 2)


def test_prototypes_have_length_one_and_wait_at_the_start() -> None:
    method = make(steps=20)  # a tenth of the run: two steps
    optimiser = torch.optim.SGD(method.parameters(), lr=0.5, momentum=0.9, weight_decay=0.1)
    moved = []
    for step in range(1, 5):
        before = method.prototypes.detach().clone()
        optimiser.zero_grad()
        method.loss(harness.random_views(method, seed=step), torch.arange(6)).loss.backward()
        method.before_optimiser_step(step)
        optimiser.step()
        method.after_optimiser_step(step)
        torch.testing.assert_close(method.prototypes.norm(dim=1), torch.ones(12))
        moved.append(float((method.prototypes - before).abs().max().detach()))
    assert max(moved[:2]) < 1e-6
    assert min(moved[2:]) > 1e-4


def test_a_full_queue_takes_part_in_the_assignment() -> None:
    method = make(queue_size=12)
    for seed in (1, 2):
        method.loss(harness.random_views(method, seed=seed), torch.arange(6))
    method.after_optimiser_step(2)
    views = harness.random_views(method, seed=3)
    method.eval()
    queues = [queue.keys.clone() for queue in method.queues]
    scores = [scores_of(method, view) for view in views]
    codes = [
        sinkhorn_codes(torch.cat([own, older @ method.prototypes.T]), epsilon=0.05, iterations=3)[:6]
        for own, older in zip(scores, queues, strict=True)
    ]
    expected = (code_error(scores[1], codes[0], 0.1) + code_error(scores[0], codes[1], 0.1)) / 2
    torch.testing.assert_close(method.loss(views, torch.arange(6)).loss, expected)
    newest = F.normalize(method.student(views[1])[1], dim=1)
    torch.testing.assert_close(method.queues[1].keys[:6], newest)


def test_a_queue_that_is_not_full_or_too_early_is_left_out() -> None:
    for pushes, step in ((1, 2), (2, 0)):
        method, without = make(queue_size=12), make()
        for seed in range(pushes):
            method.loss(harness.random_views(method, seed=seed), torch.arange(6))
        method.after_optimiser_step(step)
        without.after_optimiser_step(step)
        views = harness.random_views(method, seed=9)
        # Batch statistics of the head have moved; without them the two are the same network.
        losses = [kind.train().loss(views, torch.arange(6)).loss for kind in (method, without)]
        torch.testing.assert_close(*losses)


def test_views_may_be_swapped() -> None:
    harness.check_views_may_be_swapped(make)


def test_encoder_and_head_learn() -> None:
    harness.check_the_whole_encoder_learns(make)


def test_pixels_under_the_mask_move_no_loss() -> None:
    harness.check_masked_pixels_move_nothing(make, NAME)


def test_a_sample_of_which_nothing_is_seen_does_not_count() -> None:
    """Seen in one view only it takes part in that view's assignment, and in no error."""
    harness.check_unseen_samples_do_not_count(make, unseen_in=(0, 1))


def test_fifty_steps_follow_the_golden_curve() -> None:
    harness.check_golden_curve(make, NAME)


def test_a_collapse_is_seen() -> None:
    harness.check_collapse_is_seen(make, NAME)
