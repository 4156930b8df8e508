"""HSI-PAWS: neighbouring windows vote alike, labelled pixels are shared out by class."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from catalog.errors import UsageError
from models.backbones import Encoder, describe_architecture
from models.methods import load_method
from models.methods.hsi_paws import draw_per_class, neighbouring_windows, without_pixels
from models.methods.method import Method, MethodContext, View
from models.support import Support
from tests.models.methods import harness
from tests.models.methods.harness import TINY_RESNET, TINY_VIT

NAME = "hsi-paws"
BANDS, WINDOW_PX, CLASSES = 12, 8, 3
TINY: dict[str, Any] = {
    "label_set": "made-up",
    "pixels_per_sample": 4,
    "support_per_class": 4,
    "support_views": 1,
    "further_views": 1,
    "averaged_runs": 1,
    "run_bands": 3,
}
UNCHANGED = {"averaged_runs": 0, "dropped": 0.0, "removed_pixels": 0.0, "crop_scale": None}


def support(per_class: int = 6, *, hidden: float = 0.0) -> Support:
    """Windows of three classes with a spectrum each, a corner of each window invalid."""
    torch.manual_seed(8)
    labels = torch.arange(CLASSES).repeat_interleave(per_class)
    spectra = torch.randn(CLASSES, BANDS)[labels]
    x = spectra[:, :, None, None] + 0.1 * torch.randn(len(labels), BANDS, WINDOW_PX, WINDOW_PX)
    valid = torch.ones(len(labels), 1, WINDOW_PX, WINDOW_PX, dtype=torch.bool)
    valid[..., :2, :2] = False
    return Support(torch.where(valid, x, hidden), valid, labels, (1, 2, 5), 0.0, {})


def make(*, vit: bool = False, steps: int = 10, seed: int = 0, **options: Any) -> Method:
    torch.manual_seed(seed)
    factory = load_method(NAME)
    name, args = ("vit_tiny_patch16_224", TINY_VIT) if vit else ("resnet18", TINY_RESNET)
    encoder = Encoder(describe_architecture(name, args, bands=BANDS, input_size_px=WINDOW_PX))
    context = MethodContext(encoder, BANDS, WINDOW_PX, steps, support=support())
    options.pop("head_batch_norm", None)  # there is no head
    return factory.build(context, factory.options.model_validate(TINY | options))


def numbered(batch: int = 3, side_px: int = 12) -> View:
    number = torch.arange(batch * side_px**2, dtype=torch.float32).view(batch, 1, side_px, side_px)
    return View(number.repeat(1, BANDS, 1, 1), torch.ones(batch, 1, side_px, side_px, dtype=torch.bool))


@pytest.mark.parametrize("side_px", [9, 12])
def test_the_second_window_lies_one_pixel_beside_the_first_in_any_direction(side_px: int) -> None:
    torch.manual_seed(0)
    believed = torch.ones(40, side_px, side_px, dtype=torch.bool)
    (top, left), (beside_top, beside_left) = neighbouring_windows(believed, WINDOW_PX, 4)
    down, right = beside_top - top, beside_left - left
    assert (torch.maximum(down.abs(), right.abs()) == 1).all()
    assert {(int(y), int(x)) for y, x in zip(down.flatten(), right.flatten(), strict=True)} == {
        (y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)
    }
    for start in (beside_top, beside_left):
        assert start.min() >= 0
        assert start.max() <= side_px - WINDOW_PX


def test_a_sample_as_small_as_a_window_has_no_neighbour() -> None:
    with pytest.raises(ValueError, match="no two windows"):
        neighbouring_windows(torch.ones(1, WINDOW_PX, WINDOW_PX, dtype=torch.bool), WINDOW_PX, 1)


def test_further_views_show_the_two_windows_in_turn() -> None:
    method = make(further_views=2, **UNCHANGED)
    torch.manual_seed(2)
    views = method.views((numbered(),))
    assert len(views) == 4
    pixels = [view.x[:, 0].flatten(1).sort(1).values for view in views]
    assert torch.equal(pixels[0], pixels[2])
    assert torch.equal(pixels[1], pixels[3])
    assert not torch.equal(pixels[0], pixels[1])


def test_removed_pixels_are_invalid_and_never_all() -> None:
    torch.manual_seed(3)
    view = View(torch.ones(200, 2, 4, 4), torch.zeros(200, 1, 4, 4, dtype=torch.bool))
    view.valid[..., 0, 0] = True
    fewer = without_pixels(view, 0.9, 1.0, fill=7.0)
    assert fewer.valid.flatten(1).any(1).all()
    full = View(torch.ones(200, 2, 4, 4), torch.ones(200, 1, 4, 4, dtype=torch.bool))
    fewer = without_pixels(full, 0.2, 0.75, fill=7.0)
    assert 0.1 < float((~fewer.valid).float().mean()) < 0.2
    assert torch.equal(fewer.x == 7.0, ~fewer.valid.expand_as(fewer.x))


def test_each_class_gives_as_many_labelled_pixels_as_it_has() -> None:
    labels = torch.tensor([2, 0, 0, 1, 0, 0, 2])
    drawn = draw_per_class(labels, 3, 3)
    assert labels[drawn].tolist() == [0, 0, 0, 1, 2, 2]
    assert len(set(drawn.tolist())) == len(drawn)


def test_a_window_like_a_labelled_one_gets_its_class() -> None:
    """What is learnt is told by the vote: the loss falls, and labelled pixels find their own class."""
    method = make(vit=True, support_views=2)
    losses, _ = harness.train(method, NAME, 30)
    assert min(losses[-5:]) < min(losses[:5])


def test_the_whole_loss_is_what_numpy_says() -> None:
    """From the embeddings on, with two further views: written out for one sample after the other."""
    method: Any = make(further_views=2, label_smoothing=0.1, entropy_weight=0.7).double()
    embedded: list[np.ndarray] = []
    method.encoder.register_forward_hook(lambda _, __, out: embedded.append(out.detach().numpy()))
    views = tuple(View(v.x.double(), v.valid) for v in harness.random_views(method, count=4))
    drawn: list[torch.Tensor] = []
    of_class = method._support
    method._support = lambda: drawn.append((made := of_class())[1]) or made
    loss = float(method.loss(views, torch.arange(harness.BATCH)).loss.detach())
    labelled, shown = embedded[0], embedded[1:]
    labels = drawn[0].numpy()

    def vote(z: np.ndarray) -> np.ndarray:
        cosines = labelled @ z / np.linalg.norm(labelled, axis=1) / np.linalg.norm(z)
        weights = np.exp(cosines / 0.1) / np.exp(cosines / 0.1).sum()
        return sum(
            w * (0.9 * np.eye(CLASSES)[y] + 0.1 / CLASSES) for w, y in zip(weights, labels, strict=True)
        )

    def sharp(p: np.ndarray) -> np.ndarray:
        return p**4 / (p**4).sum()

    votes = [[vote(z) for z in view] for view in shown]
    errors, mean = [], np.zeros(CLASSES)
    for sample in range(harness.BATCH):
        first, second = sharp(votes[0][sample]), sharp(votes[1][sample])
        for view, target in enumerate((second, first, (first + second) / 2, (first + second) / 2)):
            target = np.where(target < 1e-4, 0, target)
            errors.append(-(target * np.log(votes[view][sample])).sum())
            mean += sharp(votes[view][sample]) / (4 * harness.BATCH)
    assert loss == pytest.approx(np.mean(errors) + 0.7 * (mean * np.log(mean)).sum(), abs=1e-6)


def test_without_labelled_pixels_it_is_refused() -> None:
    factory = load_method(NAME)
    encoder = Encoder(describe_architecture("resnet18", TINY_RESNET, bands=BANDS, input_size_px=WINDOW_PX))
    with pytest.raises(UsageError) as refusal:
        factory.build(MethodContext(encoder, BANDS, WINDOW_PX, 10), factory.options.model_validate(TINY))
    assert refusal.value.code == "invalid-pretraining"


def test_labelled_pixels_are_no_part_of_what_is_saved() -> None:
    assert not any("support" in name for name in make().state_dict())


def test_the_main_views_may_be_swapped() -> None:
    first, second = harness.random_views(make())
    losses = []
    for pair in ((first, second), (second, first)):
        method = make().double()
        torch.manual_seed(5)
        views = tuple(View(view.x.double(), view.valid) for view in pair)
        losses.append(method.loss(views, torch.arange(harness.BATCH)).loss)
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-9, atol=1e-12)


def test_the_whole_encoder_learns() -> None:
    harness.check_the_whole_encoder_learns(make)


def test_pixels_under_the_mask_move_no_loss() -> None:
    harness.check_masked_pixels_move_nothing(make, NAME)


def test_labelled_pixels_under_the_mask_move_no_loss() -> None:
    losses = []
    for hidden in (0.0, 1e4, float("nan")):
        method: Any = make()
        method.support_x = support(hidden=hidden).x
        views = harness.random_views(method)
        torch.manual_seed(4)
        losses.append(method.loss(views, torch.arange(harness.BATCH)).loss)
    assert torch.isfinite(losses[0])
    assert torch.equal(losses[0], losses[1])
    assert torch.equal(losses[0], losses[2])


def test_fifty_steps_follow_the_golden_curve() -> None:
    harness.check_golden_curve(make, NAME)


def test_a_collapse_is_seen() -> None:
    harness.check_collapse_is_seen(make, NAME)
