"""Front-ends that are told wavelengths: neutral until they learn, and at home on other grids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from catalog.errors import TrainingError
from models.backbones import Encoder, describe_architecture
from models.spectral import SpectralAdapter, WavelengthAdapter
from models.spectral_front_ends import CONDITIONED
from models.spectral_tokens import SpectralTokens

GRID = [420 + 13.0 * at for at in range(80)]
OTHER = [430 + 9.5 * at for at in range(104)]
TINY_VIT = {"patch_size": 4, "embed_dim": 32, "depth": 1, "num_heads": 2}


def encoder(kind: str, wavelengths: Sequence[float] = GRID) -> Encoder:
    torch.manual_seed(0)
    asked = describe_architecture(
        "vit_tiny_patch16_224",
        TINY_VIT | {"front_end": kind},
        bands=len(wavelengths),
        input_size_px=8,
        wavelengths_nm=wavelengths,
    )
    return Encoder(asked).eval()


@pytest.mark.parametrize("train", [True, False])
def test_an_untrained_conditioned_adapter_is_the_unconditioned_one_bit_for_bit(train: bool) -> None:
    torch.manual_seed(0)
    plain = SpectralAdapter().train(train)
    told = WavelengthAdapter(GRID, GRID).train(train)
    missing = told.load_state_dict(plain.state_dict(), strict=False)
    assert sorted(missing.missing_keys) == ["modulation.bias", "modulation.weight"]
    x = torch.randn(3, 80, 4, 4)
    assert torch.equal(told(x), plain(x))
    with torch.no_grad():
        told.modulation.weight.normal_(std=0.1)
    assert not torch.equal(told(x), plain(x))


def test_untrained_conditioned_tokens_are_the_unconditioned_ones_bit_for_bit() -> None:
    torch.manual_seed(0)
    plain, told = SpectralTokens(80), SpectralTokens(80, GRID)
    told.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(2, 80, 3, 3)
    assert torch.equal(told(x), plain(x))
    with torch.no_grad():
        told.conditioning.weight.normal_(std=0.1)
    assert not torch.equal(told(x), plain(x))


@pytest.mark.parametrize("kind", CONDITIONED)
def test_the_conditioning_learns(kind: str) -> None:
    front_end = encoder(kind).front_end
    assert front_end is not None
    front_end(torch.randn(2, 80, 4, 4)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in front_end.parameters())


@pytest.mark.parametrize("kind", CONDITIONED)
def test_the_same_weights_read_a_grid_of_another_number_of_bands(kind: str) -> None:
    ours = encoder(kind)
    theirs = ours.on_bands(OTHER)
    assert theirs.architecture.bands == len(OTHER) != len(GRID)
    assert {name: value.shape for name, value in ours.state_dict().items()} == {
        name: value.shape for name, value in theirs.state_dict().items()
    }
    # The same smooth spectra seen through both grids give nearly the same features.
    torch.manual_seed(1)
    waves = torch.rand(6, 1, 8, 8) * 3 + torch.arange(6.0).view(6, 1, 1, 1)
    seen = [torch.sin(waves * torch.tensor(grid).view(1, -1, 1, 1) / 400) for grid in (GRID, OTHER)]
    with torch.no_grad():
        features, others = ours(seen[0]), theirs(seen[1])
        shuffled = ours.on_bands(np.random.default_rng(0).permutation(OTHER).tolist())(seen[1])
    between = (features[1:] - features[:-1]).norm(dim=1).mean()
    assert (features - others).norm(dim=1).mean() < 0.5 * between
    assert (features - shuffled).norm(dim=1).mean() > (features - others).norm(dim=1).mean() * 2


@pytest.mark.parametrize("kind", CONDITIONED)
def test_a_pixel_does_not_feel_its_neighbours(kind: str) -> None:
    front_end = encoder(kind).front_end
    assert front_end is not None
    x = torch.randn(1, 80, 4, 4)
    changed = x.clone()
    changed[..., 0, 0] += 5
    difference = (front_end(x) - front_end(changed)).abs().amax(1)[0].flatten()
    assert difference[0] > 0
    assert difference[1:].max() < 1e-6


def absorptions(count: int, grid: Sequence[float], seed: int) -> tuple[Tensor, Tensor]:
    """Pixels ``(count, band, 2, 2)`` of four minerals told apart by where they absorb, and which they are."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 4, count)
    where = np.array([600.0, 800.0, 1000.0, 1200.0])[kinds][:, None] + rng.normal(0, 15, (count, 1))
    level = rng.normal(0, 1, (count, 1)) + rng.normal(0, 0.5, (count, 1)) * (np.array(grid) - 900) / 500
    spectra = level - 3 * np.exp(-0.5 * ((np.array(grid) - where) / 40) ** 2)
    pixels = spectra[:, :, None, None] + rng.normal(0, 0.2, (count, len(grid), 2, 2))
    return torch.tensor(pixels, dtype=torch.float32), torch.tensor(kinds)


class Probe(nn.Module):
    """A front-end and a linear classifier of its mean over the pixels."""

    def __init__(self, front_end: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.front_end, self.head = front_end, head

    def forward(self, pixels: Tensor) -> Tensor:
        scores: Tensor = self.head(self.front_end(pixels).mean((2, 3)))
        return scores


@pytest.mark.parametrize("kind", CONDITIONED)
def test_a_trained_probe_keeps_its_score_on_a_new_grid_and_loses_it_with_shuffled_wavelengths(
    kind: str,
) -> None:
    ours = encoder(kind)
    assert ours.front_end is not None
    head = nn.Linear(128, 4)
    probe = Probe(ours.front_end, head).train()
    pixels, minerals = absorptions(256, GRID, 0)
    optimiser = torch.optim.Adam(probe.parameters(), lr=3e-3)
    for step in range(60):
        at = torch.arange(64) + 64 * (step % 4)
        loss = F.cross_entropy(probe(pixels[at]), minerals[at])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    probe.eval()

    def score(grid: Sequence[float], told: Sequence[float]) -> float:
        pixels, minerals = absorptions(256, grid, 1)
        front_end = ours if list(told) == GRID else ours.on_bands(told)
        assert front_end.front_end is not None
        with torch.no_grad():
            guess = Probe(front_end.front_end.eval(), head)(pixels).argmax(1)
        return float((guess == minerals).float().mean())

    shuffled = [np.random.default_rng(0).permutation(grid).tolist() for grid in (GRID, OTHER)]
    assert score(GRID, GRID) > 0.9
    assert score(OTHER, OTHER) > 0.85
    assert score(GRID, shuffled[0]) < 0.6
    assert score(OTHER, shuffled[1]) < 0.6


def test_bands_without_a_wavelength_and_front_ends_that_are_not_told_are_refused() -> None:
    with pytest.raises(TrainingError) as refusal:
        describe_architecture(
            "resnet18",
            {"front_end": "wavelength-adapter"},
            bands=80,
            input_size_px=16,
            wavelengths_nm=[*GRID[:-1], None],
        )
    assert refusal.value.code == "unknown-wavelengths"
    with pytest.raises(TrainingError) as refusal:
        encoder("spectral-adapter").on_bands(OTHER)
    assert refusal.value.code == "unknown-wavelengths"


def test_an_adapter_trained_on_many_bands_reads_few() -> None:
    few = [490.0, 560.0, 665.0, 705.0, 740.0, 783.0, 842.0, 865.0]
    for kind in CONDITIONED:
        assert encoder(kind).on_bands(few)(torch.randn(2, 8, 8, 8)).shape == (2, 32)


def test_tokens_outside_of_what_a_sensor_covers_are_left_out() -> None:
    torch.manual_seed(0)
    visible = SpectralTokens(30, GRID[:30], GRID)
    assert visible.tokens(torch.randn(5, 30)).shape == (5, 4, 32)
    assert SpectralTokens(80, GRID).tokens(torch.randn(5, 80)).shape == (5, 10, 32)
    with pytest.raises(ValueError, match="share no wavelength"):
        SpectralTokens(3, [2000.0, 2100.0, 2200.0], GRID)
