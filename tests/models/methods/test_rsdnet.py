"""RSDnet: the two views of a place are other bands, of any sensor, on the same ground."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.backbones import Encoder, describe_architecture
from models.collapse import collapse_signs
from models.methods import load_method
from models.methods.method import MethodContext, View
from models.methods.rsdnet import Rsdnet, draw_bands, take_bands
from tests.models.methods import harness

NAME = "rsdnet"
BANDS = (5, 2)
BATCH = harness.BATCH


def make(*, vit: bool = False, seed: int = 0, steps: int = 10, **options: Any) -> Rsdnet:
    torch.manual_seed(seed)
    factory = load_method(NAME)
    tiny = {"head_hidden": 32, "head_out": 16, "momentum": 0.9}
    given_options = factory.options.model_validate(tiny | options)
    kind = "vit_tiny_patch16_224" if vit else "resnet18"
    args = harness.TINY_VIT if vit else harness.TINY_RESNET
    channels = given_options.channels  # type: ignore[attr-defined]
    encoder = Encoder(describe_architecture(kind, args, bands=channels, input_size_px=harness.SIZE_PX))
    method = factory.build(MethodContext(encoder, channels, harness.SIZE_PX, steps), given_options)
    assert isinstance(method, Rsdnet)
    return method


def samples(hidden: float = 0.0, dates: int = 1) -> tuple[View, ...]:
    return tuple(
        view
        for bands in BANDS
        for view in harness.ground_samples(
            harness.ground(BATCH, 2, bands, 20), torch.arange(BATCH), dates, hidden=hidden
        )
    )


@given(
    bands=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 1000),
)
def test_views_show_bands_of_one_sensor_each_and_never_the_same(
    bands: list[int], channels: int, seed: int
) -> None:
    torch.manual_seed(seed)
    one, other = draw_bands(16, bands, channels)
    edges = np.cumsum([0, *bands])
    for drawn in (one, other):
        sensor = np.searchsorted(edges, drawn.numpy(), side="right") - 1
        assert (sensor == sensor[:, :1]).all()
        for row, of in zip(drawn.numpy(), sensor[:, 0], strict=True):
            assert len(set(row)) == min(channels, bands[of])
    if sum(bands) > channels:
        assert all(set(a) != set(b) for a, b in zip(one.tolist(), other.tolist(), strict=True))


def test_every_sensor_is_seen_as_often_however_many_bands_it_has() -> None:
    torch.manual_seed(0)
    one, _ = draw_bands(20_000, [10, 2], 1)
    assert float((one >= 10).float().mean()) == pytest.approx(0.5, abs=0.02)
    assert len(one.unique()) == 12


def test_taken_bands_are_those_of_the_samples() -> None:
    optical, radar = (torch.randn(3, bands, 4, 4) for bands in (3, 2))
    mask = torch.rand(3, 1, 4, 4) > 0.3
    whole = torch.ones(3, 2, 4, 4, dtype=torch.bool)
    taken = take_bands((View(optical, mask), View(radar, whole)), torch.tensor([[0], [2], [4]]))
    assert torch.equal(taken.x, torch.stack([optical[0, :1], optical[1, 2:], radar[2, 1:]]))
    assert torch.equal(taken.valid, torch.stack([mask[0], mask[1], whole[2, :1]]))


@pytest.mark.parametrize("channels", [1, 3])
def test_views_have_the_channels_of_the_network(channels: int) -> None:
    method = make(channels=channels)
    first, second = method.views(samples())
    assert first.x.shape == second.x.shape == (BATCH, channels, harness.SIZE_PX, harness.SIZE_PX)
    assert torch.isfinite(method.loss((first, second), torch.arange(BATCH)).loss)


def test_both_views_show_the_same_ground() -> None:
    method = make(brightness=0, contrast=0, blur=(0, 0))
    ramp = torch.linspace(0, 1, 20).expand(BATCH, 1, 20, 20)
    known = torch.ones(BATCH, 1, 20, 20, dtype=torch.bool)
    same = tuple(View(ramp.expand(-1, bands, -1, -1).contiguous(), known) for bands in BANDS)
    first, second = method.views(same)
    torch.testing.assert_close(first.x, second.x)
    apart = make(brightness=0, contrast=0, blur=(0, 0), same_crop=False).views(same)
    assert not torch.allclose(apart[0].x, apart[1].x)


def test_two_dates_are_one_view_each() -> None:
    method = make(dates=2, brightness=0, contrast=0, blur=(0, 0))
    known = torch.ones(BATCH, 1, 20, 20, dtype=torch.bool)
    dated = tuple(
        View(torch.full((BATCH, bands, 20, 20), float(date)), known) for bands in BANDS for date in (0, 1)
    )
    first, second = method.views(dated)
    assert (float(first.x.mean()), float(second.x.mean())) == (0.0, 1.0)


def test_the_loss_is_byols() -> None:
    method, twin = make(), make()
    views = method.views(samples())
    expected = super(Rsdnet, twin).loss(views, torch.arange(BATCH)).loss
    unit = torch.nn.functional.normalize
    again, by_hand = make(), torch.zeros(())
    for ours, theirs in (views, views[::-1]):
        predicted = unit(again.predictor(again.student(ours)[1]), dim=1)
        by_hand = by_hand + (predicted - unit(again.teacher(theirs)[1], dim=1)).square().sum(1).mean()
    torch.testing.assert_close(method.loss(views, torch.arange(BATCH)).loss, expected)
    torch.testing.assert_close(expected, by_hand)


def test_the_teacher_follows_with_the_momentum_of_the_step() -> None:
    method = make()
    method.loss(method.views(samples()), torch.arange(BATCH)).loss.backward()
    before = [parameter.clone() for parameter in method.teacher.parameters()]
    torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.5).step()
    method.after_optimiser_step(5)
    for old, new, ours in zip(before, method.teacher.parameters(), method.student.parameters(), strict=True):
        torch.testing.assert_close(new, 0.95 * old + 0.05 * ours)


def test_pixels_under_the_mask_move_no_loss() -> None:
    def outcome(hidden: float) -> torch.Tensor:
        method = make()
        torch.manual_seed(4)
        loss = method.loss(method.views(samples(hidden)), torch.arange(BATCH)).loss
        loss.backward()
        gradients = [p.grad.flatten() for p in method.parameters() if p.grad is not None]
        return torch.cat([loss.reshape(1), *gradients])

    clean = outcome(0.0)
    for hidden in (1e4, float("nan")):
        assert torch.equal(outcome(hidden), clean)


def test_training_lowers_the_loss_without_collapse() -> None:
    method = make(vit=True, steps=40)
    ground = [harness.ground(12, 1, bands, 20) for bands in BANDS]
    optimiser = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=3e-3)
    losses, embedding = [], torch.empty(0)
    for step in range(1, 41):
        torch.manual_seed(step)
        at = torch.randperm(12)
        drawn = tuple(view for values in ground for view in harness.ground_samples(values, at, 1))
        made = method.loss(method.views(drawn), at)
        optimiser.zero_grad()
        made.loss.backward()
        optimiser.step()
        method.after_optimiser_step(step)
        losses.append(made.loss.item())
        embedding = made.embedding
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    assert collapse_signs(embedding)["embedding_std"] > 4 * harness.COLLAPSED
