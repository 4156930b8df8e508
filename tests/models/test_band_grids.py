"""A saved encoder reads bands it was not trained on, by wavelength, with statistics to match."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from catalog.errors import TrainingError, UsageError
from catalog.products import load_product
from models.backbones import Encoder, describe_architecture
from models.band_grids import on_band_grid
from models.encoder_files import describe_encoder, export_program, load_encoder, save_encoder
from models.normalisation import Normalisation
from models.physical_pixels import choose_bands

TINY_VIT = {"patch_size": 4, "embed_dim": 32, "depth": 1, "num_heads": 2}


def saved(folder: Path, kind: str) -> Path:
    choice = choose_bands(load_product("enmap-l2a"), None, ((420.0, 1000.0),))
    grid = [band.center_nm for band in choice.bands]
    torch.manual_seed(0)
    architecture = describe_architecture(
        "vit_tiny_patch16_224",
        TINY_VIT | {"front_end": kind},
        bands=len(grid),
        input_size_px=8,
        wavelengths_nm=grid,
    )
    encoder = Encoder(architecture)
    level = [0.1 + centre / 10_000 for centre in grid]
    config = describe_encoder(
        architecture,
        choice,
        Normalisation(tuple(level), tuple(level)),
        method="mae",
        products=["enmap-l2a"],
        input_size_px=8,
        feature_dim=encoder.feature_dim,
    )
    save_encoder(folder, encoder.eval(), config)
    return folder


@pytest.mark.parametrize("kind", ["wavelength-adapter", "spectral-tokens"])
def test_a_loaded_encoder_reads_other_bands(tmp_path: Path, kind: str) -> None:
    model = load_encoder(saved(tmp_path, kind))
    grid = np.linspace(424.5, 993, 60)
    other = on_band_grid(model, [f"B{at}" for at in range(60)], grid.tolist())
    assert other.config["bands"][:2] == ["B0", "B1"]
    np.testing.assert_allclose(other.normalisation.mean, 0.1 + grid / 10_000, atol=1e-6)
    torch.manual_seed(1)
    phase = torch.rand(4, 1, 8, 8) + torch.arange(4.0).view(4, 1, 1, 1)
    spectra = [
        0.3 + 0.1 * torch.sin(phase * torch.tensor(centres, dtype=torch.float32).view(1, -1, 1, 1) / 150)
        for centres in (model.config["wavelengths_nm"], grid)
    ]
    ours, theirs = model(spectra[0]), other(spectra[1])
    assert (ours - theirs).norm(dim=1).mean() < 0.4 * (ours[1:] - ours[:-1]).norm(dim=1).mean()


@pytest.mark.parametrize("kind", ["wavelength-adapter", "spectral-tokens"])
def test_a_program_for_use_without_swath_gives_the_same(tmp_path: Path, kind: str) -> None:
    folder = saved(tmp_path, kind)
    model = load_encoder(folder)
    program = torch.export.load(export_program(folder)).module()
    x = torch.rand(3, len(model.config["bands"]), 8, 8)
    valid = torch.rand(x.shape) > 0.2
    torch.testing.assert_close(program(x, valid), model(x, valid))


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    model = load_encoder(saved(tmp_path / "told", "wavelength-adapter"))
    with pytest.raises(UsageError) as refusal:
        on_band_grid(model, ["B1"], [500.0, 600.0])
    assert refusal.value.code == "wrong-bands"
    blind = load_encoder(saved(tmp_path / "blind", "spectral-adapter"))
    with pytest.raises(TrainingError) as refused:
        on_band_grid(blind, ["B1"], [500.0])
    assert refused.value.code == "unknown-wavelengths"
