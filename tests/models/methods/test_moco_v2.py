"""MoCo-v2: keys follow, the queue fills, a place is not its own negative, masks hold."""

from __future__ import annotations

import torch

from models.losses import NOWHERE, info_nce
from models.methods.method import View
from tests.models.methods import harness

NAME = "moco-v2"
make = harness.maker(NAME, {"queue_size": 16, "head_hidden": 32, "head_out": 8, "momentum": 0.9}, size_px=32)


def views(seed: int = 1) -> tuple[View, View]:
    torch.manual_seed(seed)
    made = []
    for _ in range(2):
        valid = torch.rand(6, 1, 32, 32) > 0.2
        made.append(View(torch.where(valid, torch.randn(6, 4, 32, 32), 0.0), valid))
    return made[0], made[1]


def test_only_the_query_side_learns_and_the_key_side_follows() -> None:
    method = make()
    made = method.loss(views(), torch.arange(6))
    made.loss.backward()
    assert all(p.grad is not None for p in method.student.parameters())
    assert method.encoder.backbone.conv1.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in method.teacher.parameters())
    before = [parameter.clone() for parameter in method.teacher.parameters()]
    torch.optim.SGD(method.student.parameters(), lr=0.5).step()
    method.after_optimiser_step(1)
    for old, new, student in zip(
        before, method.teacher.parameters(), method.student.parameters(), strict=True
    ):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * student)
    assert made.embedding.shape == (6, 32)
    assert not made.embedding.requires_grad


def test_the_loss_uses_the_queue_as_it_was_and_then_adds_the_keys() -> None:
    method = make(same_place_is_negative=True)
    first, second = views()
    queue = method.queue.keys.clone()
    made = method.loss((first, second), torch.arange(6))
    twin = make(same_place_is_negative=True)
    keys = twin.teacher(second)[1]
    expected = info_nce(twin.student(first)[1], keys, queue, 0.2)
    torch.testing.assert_close(made.loss, expected)
    assert method.queue.places[:6].tolist() == list(range(6))
    torch.testing.assert_close(method.queue.keys[:6], torch.nn.functional.normalize(keys, dim=1))
    assert torch.equal(method.queue.keys[6:], queue[6:])


def test_keys_of_the_querys_own_place_are_no_negatives() -> None:
    losses = {}
    for blind in (False, True):
        method = make(same_place_is_negative=blind, queue_size=6)
        method.loss(views(1), torch.arange(6))
        losses[blind] = method.loss(views(1), torch.arange(6)).loss
    assert losses[False] < losses[True]


def test_a_symmetric_loss_does_not_care_which_view_comes_first() -> None:
    first, second = views()
    ours = make(symmetric=True).eval().loss((first, second), torch.arange(6))
    theirs = make(symmetric=True).eval().loss((second, first), torch.arange(6))
    torch.testing.assert_close(ours.loss, theirs.loss)
    one_sided = make().eval()
    assert one_sided.loss((first, second), torch.arange(6)).loss != ours.loss


def test_pixels_under_the_mask_move_no_loss() -> None:
    def loss(hidden: float) -> torch.Tensor:
        method = make(blur=1.0, quarter_turns=True)
        torch.manual_seed(4)
        made = []
        for _ in range(2):
            valid = torch.rand(6, 1, 40, 40) > 0.2
            x = torch.where(valid, torch.randn(6, 4, 40, 40), hidden)
            made.append(View(*method.augmentation(x, valid)))
        return method.loss((made[0], made[1]), torch.arange(6)).loss

    assert torch.equal(loss(0.0), loss(1e4))
    assert torch.equal(loss(0.0), loss(float("nan")))


def test_a_sample_that_a_view_sees_nothing_of_does_not_count_and_its_key_is_nobodys_negative() -> None:
    harness.check_unseen_samples_do_not_count(make)
    method = make()
    first, second = views()
    second.valid[3] = False
    second.x[3] = 0.0
    method.loss((first, second), torch.arange(6))
    assert method.queue.places[:6].tolist() == [0, 1, 2, NOWHERE, 4, 5]
    before = method.eval().loss(views(2), torch.arange(6, 12)).loss
    method = make()
    method.loss((first, second), torch.arange(6))
    method.queue.keys[3] = torch.randn(8)
    assert method.eval().loss(views(2), torch.arange(6, 12)).loss == before


def test_fifty_steps_follow_the_golden_curve() -> None:
    harness.check_golden_curve(make, NAME)


def test_a_collapse_is_seen() -> None:
    harness.check_collapse_is_seen(make, NAME)
