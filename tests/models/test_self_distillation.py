"""Prototypes, centre and distillation are DINO's: equal to NumPy's arithmetic, and to lightly's."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightly.loss import DINOLoss
from lightly.models.modules.heads import DINOProjectionHead

from models.self_distillation import (
    Centre,
    PrototypeHead,
    distillation_error,
    multi_crop_error,
    sharpened,
    warmed_up,
)


def numpy_softmax(values):
    powers = np.exp(values - values.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def numpy_multi_crop(student, teacher, centre, student_t, teacher_t, seen):
    """One term per (large crop, other crop, sample); those with an unseen crop are left out."""
    terms = []
    for large in range(len(teacher)):
        for crop in range(len(student)):
            for sample in range(student.shape[1]):
                if large != crop and seen[large, sample] and seen[crop, sample]:
                    target = numpy_softmax((teacher[large, sample] - centre) / teacher_t)
                    predicted = numpy_softmax(student[crop, sample] / student_t)
                    terms.append(-(target * np.log(predicted)).sum())
    return np.mean(terms) if terms else 0.0


@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.booleans())
@settings(max_examples=30, deadline=None)
def test_the_multi_crop_loss_is_what_numpy_says(seed: int, crops: int, some_unseen: bool) -> None:
    rng = np.random.default_rng(seed)
    student, teacher = rng.normal(size=(crops, 4, 7)), rng.normal(size=(2, 4, 7))
    centre = rng.normal(size=7) * 0.1
    seen = (rng.random((crops, 4)) < 0.7) | (not some_unseen)
    ours = multi_crop_error(
        torch.tensor(student),
        sharpened(torch.tensor(teacher), torch.tensor(centre), 0.3),
        0.4,
        torch.tensor(seen),
        torch.tensor(seen[:2]),
    )
    assert ours.dtype == torch.float64
    np.testing.assert_allclose(
        float(ours), numpy_multi_crop(student, teacher, centre, 0.4, 0.3, seen), rtol=1e-6, atol=1e-12
    )


def test_with_everything_seen_loss_and_centre_are_lightlys() -> None:
    torch.manual_seed(0)
    published = DINOLoss(output_dim=9, teacher_temp=0.05, student_temp=0.1, center_momentum=0.8).double()
    centre = Centre(9, 0.8).double()
    seen = torch.ones(5, 3, dtype=torch.bool)
    for _ in range(3):
        student, teacher = torch.randn(5, 3, 9).double(), torch.randn(2, 3, 9).double()
        target = sharpened(teacher, centre.value, 0.05)
        ours = multi_crop_error(student, target, 0.1, seen, seen[:2])
        torch.testing.assert_close(ours, published(list(teacher), list(student), teacher_temp=0.05))
        centre.follow(teacher.flatten(0, 1), seen[:2].flatten())
        torch.testing.assert_close(centre.value, published.center[0, 0])


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_matched_cells_are_distilled_as_numpy_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    student, teacher, centre = rng.normal(size=(6, 5)), rng.normal(size=(6, 5)), rng.normal(size=5)
    seen = rng.random(6) < 0.7
    terms = [
        -(numpy_softmax((teacher[at] - centre) / 0.2) * np.log(numpy_softmax(student[at] / 0.5))).sum()
        for at in np.flatnonzero(seen)
    ]
    target = sharpened(torch.tensor(teacher), torch.tensor(centre), 0.2)
    ours = distillation_error(torch.tensor(student), target, 0.5, torch.tensor(seen))
    np.testing.assert_allclose(float(ours), np.mean(terms) if terms else 0.0, rtol=1e-6, atol=1e-12)


def test_the_target_gets_no_gradient() -> None:
    teacher = torch.randn(2, 3, requires_grad=True)
    assert not sharpened(teacher, torch.zeros(3), 0.1).requires_grad


def test_the_centre_follows_what_was_seen_and_stays_where_nothing_was() -> None:
    centre = Centre(2, 0.9)
    outputs = torch.tensor([[1.0, 2.0], [3.0, 4.0], [float("nan"), 1e9]])
    centre.follow(outputs, torch.tensor([True, True, False]))
    torch.testing.assert_close(centre.value, torch.tensor([0.2, 0.3]))
    centre.follow(outputs, torch.zeros(3, dtype=torch.bool))
    torch.testing.assert_close(centre.value, torch.tensor([0.2, 0.3]))


@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_head_is_lightlys_and_can_be_copied_after_it_has_run(batch_norm: bool) -> None:
    torch.manual_seed(0)
    ours = PrototypeHead(6, hidden=8, bottleneck=4, out=5, batch_norm=batch_norm, weight_std=0.02)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        published = DINOProjectionHead(6, 8, 4, 5, batch_norm=batch_norm)
    with torch.no_grad():
        published.last_layer.weight_v.copy_(ours.prototypes)
    published.layers.load_state_dict(ours.mlp.layers.state_dict())
    x = torch.randn(7, 6)
    torch.testing.assert_close(ours(x), published(x))
    assert ours(x).abs().max() <= 1 + 1e-6
    ours(x).sum().backward()
    twin = copy.deepcopy(ours)
    assert torch.equal(twin(x), ours(x))


def test_prototypes_move_on_a_sphere() -> None:
    torch.manual_seed(0)
    head = PrototypeHead(6, hidden=8, bottleneck=4, out=5, batch_norm=False, weight_std=None)
    x = torch.randn(3, 6)
    before = head(x).detach()
    with torch.no_grad():
        head.prototypes.mul_(torch.rand(5, 1) + 0.5)
    torch.testing.assert_close(head(x), before)


def test_a_temperature_rises_in_a_straight_line_and_then_stays() -> None:
    assert [warmed_up(step, 4, 0.04, 0.08) for step in range(7)] == pytest.approx(
        [0.04, 0.05, 0.06, 0.07, 0.08, 0.08, 0.08]
    )
    assert warmed_up(0, 0, 0.04, 0.07) == 0.07
