"""Pixel Barlow Twins: both views show the same valid pixels, and spectra keep their bands."""

from __future__ import annotations

import torch

from models.methods.method import View
from tests.models.methods import harness

NAME = "pixel-barlow-twins"
BANDS, WINDOW_PX = 12, 9
make = harness.maker(
    NAME,
    {"head_width": 32, "pixels_per_sample": 4, "averaged_runs": 1, "run_bands": 3},
    bands=BANDS,
    size_px=WINDOW_PX,
)
UNCHANGED = {"averaged_runs": 0, "dropped": 0.0, "noise": 0.0, "crop_scale": None}


def numbered(batch: int = 3, side_px: int = 20) -> View:
    """Every pixel says which it is, the same in all bands."""
    number = torch.arange(batch * side_px**2, dtype=torch.float32).view(batch, 1, side_px, side_px)
    return View(number.repeat(1, BANDS, 1, 1), torch.ones(batch, 1, side_px, side_px, dtype=torch.bool))


def test_both_views_show_the_same_pixels_of_each_sample() -> None:
    method = make(**UNCHANGED)
    first, second = method.views((numbered(), numbered()))
    assert first.x.shape == (12, BANDS, WINDOW_PX, WINDOW_PX)
    assert first.valid.shape == (12, 1, WINDOW_PX, WINDOW_PX)
    middle = WINDOW_PX // 2
    assert torch.equal(first.x[:, 0, middle, middle], second.x[:, 0, middle, middle])
    for ours, theirs in zip(first.x, second.x, strict=True):
        assert torch.equal(ours.flatten().sort().values, theirs.flatten().sort().values)
    # Four different pixels of each sample, sample by sample.
    centres = first.x[:, 0, middle, middle].view(3, 4)
    assert ((centres // 400) == torch.arange(3.0)[:, None]).all()
    assert all(len(set(row.tolist())) == 4 for row in centres)


def test_one_sample_is_enough_for_two_views() -> None:
    method = make()
    assert harness.dates_of(method, NAME) == 1
    assert harness.dates_of(make(dates=2), NAME) == 2
    first, second = method.views((numbered(),))
    assert first.x.shape == second.x.shape
    assert not torch.equal(first.x, second.x)


def test_windows_lie_about_valid_pixels() -> None:
    sample = numbered()
    valid = torch.zeros_like(sample.valid)
    valid[..., 4:7, 4:16] = True
    method = make(**UNCHANGED)
    for view in method.views((View(torch.where(valid, sample.x, 0.0), valid),)):
        assert view.valid[:, 0, WINDOW_PX // 2, WINDOW_PX // 2].all()


def test_views_may_be_swapped() -> None:
    harness.check_views_may_be_swapped(make)


def test_encoder_and_head_learn() -> None:
    harness.check_the_whole_encoder_learns(make)


def test_pixels_under_the_mask_move_no_loss() -> None:
    harness.check_masked_pixels_move_nothing(make, NAME, gain=0.1)


def test_a_sample_that_a_view_sees_nothing_of_does_not_count() -> None:
    harness.check_unseen_samples_do_not_count(make)


def test_fifty_steps_follow_the_golden_curve() -> None:
    harness.check_golden_curve(make, NAME)


def test_a_collapse_is_seen() -> None:
    harness.check_collapse_is_seen(make, NAME)
