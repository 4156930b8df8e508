"""data2vec: hidden tokens are predicted from the others, towards the teacher's mean of upper layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import TrainingError, UsageError
from models.methods.data2vec import layer_mean, smooth_l1_at
from models.methods.method import View
from models.teacher import require_separate
from tests.models.methods.attraction import attract_embeddings
from tests.models.methods.harness import (
    BATCH,
    check_collapse_is_seen,
    check_golden_curve,
    check_masked_pixels_move_nothing,
    maker,
    random_views,
)

make = maker("data2vec", {}, backbone="vit_tiny_patch16_224")


def numpy_layer_mean(layers):
    return np.mean(
        [
            (layer - layer.mean(-1, keepdims=True)) / np.sqrt(layer.var(-1, keepdims=True) + 1e-5)
            for layer in layers
        ],
        axis=0,
    )


def numpy_smooth_l1(predicted, target, counted, beta):
    error = np.abs(predicted - target)[counted]
    values = np.where(error < beta, 0.5 * error**2 / beta, error - 0.5 * beta)
    return values.mean() if counted.any() else 0.0


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 3.0))
@settings(max_examples=30, deadline=None)
def test_targets_and_loss_are_what_numpy_says(seed: int, beta: float) -> None:
    rng = np.random.default_rng(seed)
    layers = rng.normal(3, 2, (4, 2, 5, 8))
    predicted, counted = rng.normal(size=(2, 5, 8)), rng.random((2, 5)) < 0.6
    target = layer_mean([torch.tensor(layer) for layer in layers])
    np.testing.assert_allclose(target.numpy(), numpy_layer_mean(layers), rtol=1e-6, atol=1e-9)
    ours = smooth_l1_at(torch.tensor(predicted), target, torch.tensor(counted), beta)
    expected = numpy_smooth_l1(predicted, numpy_layer_mean(layers), counted, beta)
    np.testing.assert_allclose(float(ours), expected, rtol=1e-6)


def test_the_loss_counts_hidden_tokens_with_valid_pixels_and_the_upper_half_of_layers() -> None:
    method = make().double()
    (view,) = random_views(method, count=1)
    view.valid[..., :8, :4] = False
    view = View(torch.where(view.valid, view.x, 0.0).double(), view.valid)
    torch.manual_seed(7)
    hidden, believed = method._hidden_and_believed(view)
    assert hidden.sum(1).tolist() == [10] * BATCH  # 120 of 196, of 16
    assert not believed[:, [0, 4]].any() and believed.sum() == BATCH * 14
    layers, captured = [], {}
    for block in method.teacher.backbone.blocks:
        block.register_forward_hook(lambda _, __, out: layers.append(out[:, 1:].numpy()))
    method.predict.register_forward_hook(lambda _, __, out: captured.update(predicted=out))
    torch.manual_seed(7)
    loss = method.loss((view,), torch.arange(BATCH)).loss
    assert len(layers) == 2 and method.layers == 1
    predicted = captured["predicted"].detach().numpy()
    counted = (hidden & believed).numpy()
    expected = numpy_smooth_l1(predicted, numpy_layer_mean(layers[1:]), counted, 2.0)
    np.testing.assert_allclose(float(loss.detach()), expected, rtol=1e-6)


def test_hidden_pixels_reach_the_teacher_and_not_the_student() -> None:
    method = make()
    (view,) = random_views(method, count=1)
    torch.manual_seed(7)
    hidden, _ = method._hidden_and_believed(view)
    pixels = hidden.view(-1, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    predicted, targets = [], []
    method.predict.register_forward_hook(lambda _, __, out: predicted.append(out))
    method.teacher.backbone.blocks[-1].register_forward_hook(lambda _, __, out: targets.append(out))
    for x in (view.x, torch.where(pixels & view.valid, view.x + 3, view.x)):
        torch.manual_seed(7)
        method.loss((View(x, view.valid),), torch.arange(BATCH))
    assert torch.equal(predicted[0], predicted[1])
    assert not torch.equal(targets[0], targets[1])


def test_the_teacher_is_a_moving_average_whose_momentum_rises_in_a_straight_line() -> None:
    method = make(momentum=0.9, final_momentum=1.0, momentum_rise_share=0.5)
    require_separate(method.encoder, method.teacher)
    for step, momentum in ((1, 0.92), (3, 0.96), (5, 1.0), (9, 1.0)):
        with torch.no_grad():
            for parameter in method.encoder.parameters():
                parameter.add_(torch.randn_like(parameter))
        before = [parameter.clone() for parameter in method.teacher.parameters()]
        method.after_optimiser_step(step)
        for old, new, student in zip(
            before, method.teacher.parameters(), method.encoder.parameters(), strict=True
        ):
            torch.testing.assert_close(new, momentum * old + (1 - momentum) * student)


def test_the_whole_encoder_and_the_head_learn_and_the_teacher_does_not() -> None:
    method = make()
    made = method.loss(random_views(method, count=1), torch.arange(BATCH))
    made.loss.backward()
    assert [name for name, p in method.named_parameters() if p.requires_grad and p.grad is None] == []
    assert all(parameter.grad is None for parameter in method.teacher.parameters())
    assert made.embedding.shape == (BATCH, 32) and not made.embedding.requires_grad


@pytest.mark.parametrize("bands", [4, 80])
def test_pixels_under_the_mask_move_no_loss(bands: int) -> None:
    options = {"patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 2}
    if bands > 4:
        options["front_end"] = "spectral-adapter"
    made = maker("data2vec", {}, backbone="vit_tiny_patch16_224", backbone_options=options, bands=bands)
    check_masked_pixels_move_nothing(made, "data2vec")


def test_what_it_cannot_train_is_refused() -> None:
    with pytest.raises(TrainingError, match="Vision Transformer"):
        maker("data2vec", {})()
    with pytest.raises(UsageError, match="3 of 2 layers"):
        make(target_layers=3)


def test_golden_losses() -> None:
    check_golden_curve(make, "data2vec")


def test_a_collapse_is_seen() -> None:
    check_collapse_is_seen(make, "data2vec", attract_embeddings)
