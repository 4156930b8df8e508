"""Spectral changes stay within their band or run, keep pixels in place, and believe valid values only."""

from __future__ import annotations

import pytest
import torch

from models.spectral_augment import SpectralChanges, averaged, grey


def batch(bands: int = 12, per_band: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(3)
    return torch.randn(64, bands, 5, 5), torch.rand(64, bands if per_band else 1, 5, 5) > 0.3


ALL = SpectralChanges(averaged_runs=2, run_bands=3, dropped=0.3, gain=0.2, noise=0.1, share=0.8)


@pytest.mark.parametrize("per_band", [False, True])
def test_values_under_the_mask_reach_no_valid_value(per_band: bool) -> None:
    x, valid = batch(per_band=per_band)
    seen = valid.expand_as(x)
    made = []
    for hidden in (0.0, float("nan")):
        torch.manual_seed(0)
        changed = grey(ALL(torch.where(valid, x, hidden), valid), valid, 0.5)
        made.append(changed[seen])
    assert torch.equal(*made)
    assert torch.isfinite(made[0]).all()
    assert not torch.equal(made[0], x[seen])


def test_nothing_asked_for_changes_nothing() -> None:
    x, valid = batch()
    assert torch.equal(SpectralChanges()(x, valid), x)


def test_a_run_of_neighbouring_bands_becomes_its_mean_and_the_rest_stays() -> None:
    x, valid = batch()
    valid = torch.ones_like(valid)
    changed = SpectralChanges(averaged_runs=1, run_bands=4, share=1.0)(x, valid)
    starts = set()
    for before, after in zip(x, changed, strict=True):
        moved = (before != after).flatten(1).any(1).nonzero()[:, 0]
        first, last = int(moved.min()), int(moved.max())
        assert last - first == 3
        torch.testing.assert_close(
            after[first : last + 1], before[first : last + 1].mean(0).expand(4, -1, -1)
        )
        starts.add(first)
    assert min(starts) == 0
    assert max(starts) == 12 - 4


def test_dropped_bands_are_zero_everywhere_and_about_as_many_as_asked() -> None:
    x, valid = batch(bands=100)
    changed = SpectralChanges(dropped=0.2, share=1.0)(x, valid)
    lost = (changed == 0).all(3).all(2)
    assert 0.17 < lost.float().mean() < 0.23
    kept = ~lost[:, :, None, None].expand_as(x)
    assert torch.equal(changed[kept], x[kept])


def test_gain_is_one_factor_per_band_and_noise_has_its_deviation() -> None:
    x, valid = batch()
    factor = SpectralChanges(gain=0.2, share=1.0)(x, valid) / x
    torch.testing.assert_close(factor, factor[..., :1, :1].expand_as(factor))
    assert 0.1 < (factor - 1).abs().max() <= 0.2 + 1e-5
    noise = SpectralChanges(noise=0.3, share=1.0)(x, valid) - x
    assert 0.28 < noise.std() < 0.32


def test_only_a_share_of_the_samples_is_changed() -> None:
    x, valid = batch()
    for changes in (
        SpectralChanges(noise=0.3, share=0.5),
        SpectralChanges(averaged_runs=1, run_bands=4, share=0.5),
        SpectralChanges(gain=0.3, share=0.5),
        SpectralChanges(dropped=0.5, share=0.5),
    ):
        moved = (changes(x, valid) != x).flatten(1).any(1)
        assert 0.25 < moved.float().mean() < 0.75


def test_grey_pixels_have_the_mean_of_their_valid_bands_in_all_bands() -> None:
    x, valid = batch(per_band=True)
    valid[:, 0] = True
    flat = grey(torch.where(valid, x, 1e6), valid, 1.0)
    mean = (x * valid).sum(1, keepdim=True) / valid.sum(1, keepdim=True)
    torch.testing.assert_close(flat, mean.expand_as(x))
    assert torch.equal(grey(x, valid, 0.0), x)


def test_only_the_named_bands_are_averaged() -> None:
    x, valid = batch()
    bands = torch.zeros(64, 12, dtype=torch.bool)
    bands[:, [1, 7]] = True
    changed = averaged(x, torch.ones_like(valid), bands)
    torch.testing.assert_close(changed[:, 1], (x[:, 1] + x[:, 7]) / 2)
    torch.testing.assert_close(changed[:, 7], changed[:, 1])
    assert torch.equal(changed[:, 2:7], x[:, 2:7])
