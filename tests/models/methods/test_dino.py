"""DINO: every crop is compared with every large one but itself; the teacher sees large crops alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.methods.method import View
from models.self_distillation import sharpened
from models.teacher import momentum_at, require_separate
from tests.models.methods.attraction import attract_embeddings
from tests.models.methods.harness import (
    BATCH,
    check_collapse_is_seen,
    check_golden_curve,
    check_masked_pixels_move_nothing,
    check_the_teacher_follows,
    check_the_whole_encoder_learns,
    check_views_may_be_swapped,
    ground,
    ground_samples,
    maker,
    random_views,
    train,
)
from tests.models.test_self_distillation import numpy_multi_crop

TINY = {"prototypes": 32, "head_hidden": 32, "head_bottleneck": 8, "local_crops": 3}
make = maker("dino", TINY, backbone="vit_tiny_patch16_224")


def crops(method, *, invalid: tuple[int, int] | None = None) -> tuple[View, ...]:
    """Two large and three small crops of made-up ground; ``invalid``: (crop, sample) that saw nothing."""
    torch.manual_seed(5)
    made = list(method.views(ground_samples(ground(BATCH, 2, 4, 20), torch.arange(BATCH), 2)))
    if invalid is not None:
        crop, sample = invalid
        made[crop].valid[sample] = False
        made[crop].x[sample] = 0.0
    return tuple(made)


@pytest.mark.parametrize("invalid", [None, (0, 2), (3, 1)])
def test_the_loss_is_that_of_all_pairs_of_seen_crops(invalid: tuple[int, int] | None) -> None:
    method = make(teacher_temperature=0.07).double()
    method.centre.value.normal_(0, 0.1)
    centre = method.centre.value.clone()
    captured = {}
    method.student.head.register_forward_hook(lambda _, __, out: captured.update(student=out))
    method.teacher.head.register_forward_hook(lambda _, __, out: captured.update(teacher=out))
    views = tuple(View(view.x.double(), view.valid) for view in crops(method, invalid=invalid))
    made = method.loss(views, torch.arange(BATCH))
    student, teacher = (
        captured[name].detach().numpy().reshape(-1, BATCH, 32) for name in ("student", "teacher")
    )
    assert len(student) == 5 and len(teacher) == 2
    seen = np.ones((5, BATCH), bool)
    if invalid is not None:
        seen[invalid] = False
    # 0.04 · (1 - 0) + …: the first step of a run without warm-up has the final temperature.
    expected = numpy_multi_crop(student, teacher, centre.numpy(), 0.1, 0.07, seen)
    np.testing.assert_allclose(float(made.loss.detach()), expected, rtol=1e-6)
    mean = teacher[seen[:2]].mean(0)
    np.testing.assert_allclose(method.centre.value.numpy(), 0.9 * centre.numpy() + 0.1 * mean, rtol=1e-6)


def test_the_teacher_sees_large_crops_and_the_student_all() -> None:
    method = make()
    seen: dict[str, list[int]] = {"student": [], "teacher": []}
    for name in seen:
        encoder = getattr(method, name).encoder
        encoder.register_forward_pre_hook(lambda _, inputs, name=name: seen[name].append(inputs[0].shape[-1]))
    views = crops(method)
    assert [view.x.shape[-1] for view in views] == [16, 16, 8, 8, 8]
    method.loss(views, torch.arange(BATCH))
    assert seen == {"student": [16, 8], "teacher": [16]}


def test_the_teacher_shares_nothing_with_the_student_and_has_no_dropout() -> None:
    method = make()
    require_separate(method.student, method.teacher)
    noisy = maker(
        "dino",
        TINY,
        backbone="vit_tiny_patch16_224",
        backbone_options={"patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 2}
        | {"drop_path_rate": 0.5, "proj_drop_rate": 0.5},
    )()
    view = crops(noisy)[0]
    assert not torch.equal(noisy.student(view)[1], noisy.student(view)[1])
    assert torch.equal(noisy.teacher(view)[1], noisy.teacher(view)[1])


def test_the_teacher_follows() -> None:
    check_the_teacher_follows(make, momentum_at(1, 10, 0.996, 1.0))


def test_everything_learns() -> None:
    check_the_whole_encoder_learns(make)


def test_large_views_may_be_swapped() -> None:
    check_views_may_be_swapped(make)


@pytest.mark.parametrize("vit", [True, False])
def test_pixels_under_the_mask_move_no_loss(vit: bool) -> None:
    method = make if vit else maker("dino", TINY)
    check_masked_pixels_move_nothing(method, "dino")


def test_prototypes_stand_still_in_the_first_steps() -> None:
    method = make(frozen_share=0.2)
    for step, frozen in ((1, True), (2, True), (3, False)):
        method.zero_grad()
        method.loss(random_views(method), torch.arange(BATCH)).loss.backward()
        method.before_optimiser_step(step)
        assert (method.student.head.prototypes.grad is None) == frozen


def test_the_teachers_temperature_warms_up_and_survives_a_checkpoint() -> None:
    options = {
        "first_teacher_temperature": 0.04,
        "teacher_temperature": 0.08,
        "temperature_warmup_share": 0.4,
    }
    method = make(**options)
    assert method.teacher_temperature == pytest.approx(0.04)
    method.after_optimiser_step(2)
    assert method.teacher_temperature == pytest.approx(0.06)
    resumed = make(**options)
    resumed.load_state_dict(method.state_dict(), strict=True)
    assert resumed.teacher_temperature == method.teacher_temperature
    method.after_optimiser_step(4)
    assert method.teacher_temperature == pytest.approx(0.08)


def test_golden_losses() -> None:
    check_golden_curve(make, "dino")


def test_a_collapse_is_seen() -> None:
    check_collapse_is_seen(make, "dino", attract_embeddings)


def test_without_centring_all_places_end_in_one_prototype() -> None:
    used = {}
    for momentum in (0.9, 1.0):  # 1.0: the centre never moves
        method = make(steps=60, seed=1, centre_momentum=momentum, momentum=0.5, final_momentum=0.5)
        chosen: list[torch.Tensor] = []
        method.teacher.head.register_forward_hook(
            lambda _, __, out, method=method, chosen=chosen: chosen.append(
                sharpened(out, method.centre.value, 0.04).mean(0)
            )
        )
        train(method, "dino", 60, learning_rate=0.01)
        used[momentum] = float(1 / chosen[-1].square().sum())
    assert used[1.0] < 1.1
    assert used[0.9] > 2
