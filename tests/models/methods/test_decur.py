"""DeCUR: common dimensions of two sensors agree, unique ones do not, and each sensor agrees with itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from catalog.errors import TrainingError
from models.backbones import Encoder, describe_architecture
from models.correlation import barlow_twins_loss
from models.methods import load_method
from models.methods.decur import Decur
from models.methods.method import MethodContext, View
from tests.models.methods import harness

NAME = "decur"
BANDS = (4, 2)
BATCH = harness.BATCH


def make(*, bands: tuple[int, ...] = BANDS, seed: int = 0, vit: bool = False, **options: Any) -> Decur:
    torch.manual_seed(seed)
    factory = load_method(NAME)
    kind = "vit_tiny_patch16_224" if vit else "resnet18"
    args = harness.TINY_VIT if vit else harness.TINY_RESNET
    encoders = [
        Encoder(describe_architecture(kind, args, bands=count, input_size_px=harness.SIZE_PX))
        for count in bands
    ]
    given = factory.options.model_validate({"head_width": 32, "common_share": 0.75, **options})
    context = MethodContext(encoders[0], bands[0], harness.SIZE_PX, 10, tuple(encoders[1:]))
    method = factory.build(context, given)
    assert isinstance(method, Decur)
    return method


def views(seed: int = 1) -> tuple[View, ...]:
    torch.manual_seed(seed)
    made = []
    for bands in (BANDS[0], BANDS[0], BANDS[1], BANDS[1]):
        valid = torch.rand(BATCH, 1, harness.SIZE_PX, harness.SIZE_PX) > 0.2
        made.append(View(torch.where(valid, torch.randn(BATCH, bands, *valid.shape[2:]), 0.0), valid))
    return tuple(made)


def correlation(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    def standard(values: NDArray[Any]) -> NDArray[Any]:
        return (values - values.mean(0)) / np.sqrt(values.var(0) + 1e-5)

    return standard(first).T @ standard(second) / len(first)


def towards(matrix: NDArray[Any], diagonal: float, redundancy: float) -> float:
    off = matrix - np.diag(np.diag(matrix))
    return float(((np.diag(matrix) - diagonal) ** 2).sum() + redundancy * (off**2).sum())


def test_the_loss_is_the_papers_formula_on_four_projections() -> None:
    method, twin = make(redundancy=0.02).double(), make().double()
    seen = tuple(View(view.x.double(), view.valid) for view in views())
    loss = method.loss(seen, torch.arange(BATCH)).loss

    with torch.no_grad():
        a, b, c, d = (twin.branches[number // 2](view)[1].numpy() for number, view in enumerate(seen))
    within = towards(correlation(a, b), 1, 0.02) + towards(correlation(c, d), 1, 0.02)
    between = correlation(a, c)
    common = towards(between[:24, :24], 1, 0.02)
    unique = towards(between[24:, 24:], 0, 0.02)
    np.testing.assert_allclose(loss.item(), (within + (common + unique) / 2) / 3, rtol=1e-6)


def test_with_all_dimensions_common_equal_sensors_give_barlow_twins() -> None:
    method = make(bands=(4, 4), common_share=1.0)
    for ours, theirs in zip(method.branches[0].parameters(), method.branches[1].parameters(), strict=True):
        theirs.data.copy_(ours.data)
    first, second, _, _ = views()
    # The sensors' first views are each other's second ones: all three terms are those of one pair.
    loss = method.loss((first, second, second, first), torch.arange(BATCH)).loss
    projections = [method.branches[0](view)[1] for view in (first, second)]
    torch.testing.assert_close(loss, barlow_twins_loss(*projections, 0.0051))


def test_independent_projections_have_nothing_unique_to_lose() -> None:
    torch.manual_seed(0)
    method = make(common_share=0.0, redundancy=0.0)
    first, second = torch.randn(2, 20_000, 8)
    assert method.between(first, second, torch.ones(20_000, dtype=torch.bool)) < 0.01
    assert method.between(first, first, torch.ones(20_000, dtype=torch.bool)) > 7.9


def test_blocks_of_common_by_unique_dimensions_are_left_alone() -> None:
    method = make()
    first, second = torch.randn(2, 50, 32, dtype=torch.float64)
    before = method.between(first, second, torch.ones(50, dtype=torch.bool))
    # Mixing a common dimension into a unique one of the same sensor moves that dimension's own terms only.
    common = barlow_twins_loss(first[:, :24], second[:, :24], 0.0051)
    unique = barlow_twins_loss(first[:, 24:], second[:, 24:], 0.0051, diagonal=0.0)
    torch.testing.assert_close(before, (common + unique) / 2)


def test_each_sensor_has_a_projector_unless_the_released_code_is_asked_for() -> None:
    apart, together = make(), make(shared_projector=True)
    assert apart.branches[0].head is not apart.branches[1].head
    assert together.branches[0].head is together.branches[1].head
    assert len(list(together.parameters())) < len(list(apart.parameters()))


def test_both_encoders_are_saved_and_learn() -> None:
    method = make()
    made = method.loss(views(), torch.arange(BATCH))
    made.loss.backward()
    assert len(method.encoders) == 2
    assert [name for name, p in method.named_parameters() if p.grad is None] == []
    assert made.embedding.shape == (BATCH, sum(encoder.feature_dim for encoder in method.encoders))


def test_each_sensor_gives_two_views_of_its_own_dates() -> None:
    method = make(crop_scale=None, brightness=(0, 0), contrast=(0, 0), grey=(0, 0), blur=(0, 0))
    side = harness.SIZE_PX
    samples = tuple(
        View(
            torch.full((2, bands, side, side), float(number)), torch.ones(2, 1, side, side, dtype=torch.bool)
        )
        for number, bands in enumerate((4, 4, 2, 2))
    )
    assert [float(view.x.mean()) for view in method.views(samples)] == [0, 1, 2, 3]
    assert [float(view.x.mean()) for view in method.views((samples[0], samples[2]))] == [0, 0, 2, 2]


def test_pixels_under_the_mask_move_no_loss() -> None:
    def outcome(hidden: float) -> torch.Tensor:
        method = make()
        samples = tuple(
            harness.ground_samples(harness.ground(BATCH, 2, bands, 20), torch.arange(BATCH), 2, hidden=hidden)
            for bands in BANDS
        )
        torch.manual_seed(4)
        loss = method.loss(method.views(samples[0] + samples[1]), torch.arange(BATCH)).loss
        loss.backward()
        return torch.cat([loss.reshape(1), *(p.grad.flatten() for p in method.parameters())])  # type: ignore[union-attr]

    clean = outcome(0.0)
    for hidden in (1e4, float("nan")):
        assert torch.equal(outcome(hidden), clean)


def test_a_place_that_a_sensor_sees_nothing_of_does_not_count_between_the_sensors() -> None:
    method = make(vit=True, head_batch_norm=False).double()
    first, second = torch.randn(2, BATCH, 32, dtype=torch.float64)
    seen = torch.ones(BATCH, dtype=torch.bool)
    seen[2] = False
    kept = seen.nonzero()[:, 0]
    torch.testing.assert_close(
        method.between(first, second, seen),
        method.between(first[kept], second[kept], torch.ones(len(kept), dtype=torch.bool)),
    )


def test_one_product_is_refused() -> None:
    with pytest.raises(TrainingError, match="two-products-needed"):
        make(bands=(4,))


def test_training_lowers_the_loss_without_collapse() -> None:
    from models.collapse import collapse_signs

    method = make(vit=True)
    ground = [harness.ground(12, 2, bands, 20, seed=3) for bands in BANDS]
    optimiser = torch.optim.AdamW(method.parameters(), lr=3e-3)
    losses, embedding = [], torch.empty(0)
    for step in range(40):
        torch.manual_seed(step)
        at = torch.randperm(12)
        samples = tuple(view for values in ground for view in harness.ground_samples(values, at, 2))
        made = method.loss(method.views(samples), at)
        optimiser.zero_grad()
        made.loss.backward()
        optimiser.step()
        losses.append(made.loss.item())
        embedding = made.embedding
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])
    assert collapse_signs(embedding)["embedding_std"] > 4 * harness.COLLAPSED
