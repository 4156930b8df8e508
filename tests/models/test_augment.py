"""Views keep their masks with their pixels, clamp nothing, and let nothing out from under a mask."""

from __future__ import annotations

import pytest
import torch

from models.augment import (
    Augmentation,
    blurred,
    change_intensity,
    random_quarter_turn,
    random_window,
    resized_crop,
)
from models.spectral_augment import SpectralChanges

EVERYTHING = Augmentation(
    size_px=12, crop_scale=(0.3, 1.0), quarter_turns=True, brightness=0.4, contrast=0.4, blur=0.9
)


def batch(bands: int = 13, per_band: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(3)
    return torch.randn(6, bands, 16, 16) * 3, torch.rand(6, bands if per_band else 1, 16, 16) > 0.25


@pytest.mark.parametrize("per_band", [False, True])
def test_values_under_the_mask_reach_no_view(per_band: bool) -> None:
    x, valid = batch(per_band=per_band)
    torch.manual_seed(0)
    ours = EVERYTHING(x, valid)
    torch.manual_seed(0)
    theirs = EVERYTHING(torch.where(valid, x, torch.nan), valid)
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1], theirs[1])
    assert ours[1].shape[1] == valid.shape[1]
    assert 0 < ours[1].float().mean() < 1
    assert (ours[0][~ours[1].expand_as(ours[0])] == 0).all()


@pytest.mark.parametrize("bands", [1, 2, 13, 202])
def test_any_number_of_bands_is_augmented(bands: int) -> None:
    x, valid = batch(bands)
    view, mask = EVERYTHING(x, valid)
    assert view.shape == (6, bands, 12, 12)
    assert mask.shape == (6, 1, 12, 12)
    assert torch.isfinite(view).all()


def test_masks_follow_the_geometry() -> None:
    """A band that marks the invalid pixels marks them in the view too."""
    marked = torch.zeros(8, 1, 16, 16)
    marked[..., 2:9, 3:12] = 1
    valid = marked > 0
    geometry = Augmentation(size_px=16, crop_scale=(0.4, 1.0), quarter_turns=True)
    torch.manual_seed(5)
    view, mask = geometry(marked, valid, fill=-7.0)
    assert (view[mask] - 1).abs().max() < 1e-6
    assert (view[~mask] == -7).all()
    torch.manual_seed(5)
    moved, _ = geometry(marked, torch.ones_like(valid))
    assert torch.equal(moved >= 0.5, mask)


def test_nothing_is_clamped_to_zero_and_one() -> None:
    x = torch.full((4, 3, 16, 16), 25.0)
    x[:, 1] = -25.0
    view, _ = EVERYTHING(x, torch.ones(4, 1, 16, 16, dtype=torch.bool))
    assert view[:, 0].min() > 20
    assert view[:, 1].max() < -20


def test_intensity_stretches_about_the_mean_of_valid_pixels() -> None:
    x, valid = batch()
    torch.manual_seed(1)
    changed = change_intensity(x, valid, 0.0, 0.5, 1.0)
    weight = valid.float()
    before = (x * weight).sum((2, 3)) / weight.sum((2, 3))
    after = (changed * weight).sum((2, 3)) / weight.sum((2, 3))
    torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(x, changed)


def test_a_crop_of_a_ramp_is_a_flatter_ramp_within_it() -> None:
    ramp = torch.arange(16.0).expand(6, 2, 16, 16)
    torch.manual_seed(2)
    crop, valid = resized_crop(ramp, torch.ones(6, 1, 16, 16, dtype=torch.bool), 9, (0.2, 0.6))
    assert valid.all()
    slope = crop.diff(dim=-1)
    torch.testing.assert_close(slope, slope[..., :1].expand_as(slope), rtol=1e-3, atol=0.2)
    assert (slope.mean((1, 2, 3)) < 16 / 9).all()
    assert crop.diff(dim=-2).abs().max() < 1e-5
    assert crop.min() >= 0
    assert crop.max() <= 15


def test_blur_leaves_the_mask_and_smooths_what_is_valid() -> None:
    x, valid = batch()
    smooth, mask = blurred(x, valid, 1.0)
    assert torch.equal(mask, valid)
    assert smooth[valid.expand_as(x)].std() < x[valid.expand_as(x)].std()


def test_quarter_turns_turn_square_samples_by_multiples_of_90_degrees() -> None:
    x, valid = batch()
    turned, mask = random_quarter_turn(x, valid)
    for before, after, old, new in zip(x, turned, valid, mask, strict=True):
        matching = [turn for turn in range(4) if torch.equal(before.rot90(turn, (-2, -1)), after)]
        assert matching
        assert torch.equal(old.rot90(matching[0], (-2, -1)), new)


def test_a_shifted_window_stays_near_the_centre() -> None:
    number = torch.arange(20 * 20.0).view(1, 1, 20, 20)
    everything = torch.ones(1, 1, 20, 20, dtype=torch.bool)
    corners = {
        tuple(divmod(int(random_window(number, everything, 10, 1)[0][0, 0, 0, 0]), 20)) for _ in range(200)
    }
    assert corners == {(row, column) for row in (4, 5, 6) for column in (4, 5, 6)}
    still = random_window(number, everything, 10, 0)[0]
    assert torch.equal(still, number[..., 5:15, 5:15])


def test_spectral_steps_are_part_of_the_list() -> None:
    x, valid = batch()
    list_of_steps = Augmentation(size_px=16, flips=False, spectral=SpectralChanges(dropped=0.5, share=1.0))
    view, _ = list_of_steps(x, valid)
    assert ((view == 0).all(3).all(2).float().mean() - 0.5).abs() < 0.2
    flat, mask = Augmentation(size_px=16, flips=False, grey=1.0)(x, valid)
    seen = mask.expand_as(flat)
    assert torch.allclose(flat[seen], flat[:, :1].expand_as(flat)[seen])


def test_a_view_larger_than_the_sample_needs_scaling() -> None:
    x, valid = batch()
    with pytest.raises(ValueError, match="does not fit"):
        Augmentation(size_px=20)(x, valid)
