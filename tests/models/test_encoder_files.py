"""Encoder folders load by themselves, verify themselves, and give the same features everywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file

from catalog.errors import EncoderError
from catalog.products import load_product
from models import load_encoder
from models.backbones import Encoder, describe_architecture
from models.encoder_files import (
    describe_encoder,
    export_program,
    file_sha256,
    random_encoder,
    read_config,
    save_encoder,
)
from models.normalisation import Normalisation
from models.physical_pixels import choose_bands

TINY_VIT = {"patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 2}
TINY_RESNET = {"channels": [8, 16, 24, 32], "stem_width": 8}
KINDS: dict[str, tuple[str, dict[str, Any], str]] = {
    "resnet": ("resnet18", TINY_RESNET, "sentinel-2-l2a"),
    "vit": ("vit_tiny_patch16_224", TINY_VIT, "sentinel-2-l2a"),
    "spectral": ("vit_tiny_patch16_224", TINY_VIT | {"front_end": "spectral-adapter"}, "enmap-l2a"),
}


def save(folder: Path, kind: str) -> tuple[Encoder, dict[str, Any]]:
    name, options, product = KINDS[kind]
    choice = choose_bands(load_product(product))
    bands = len(choice.names)
    torch.manual_seed(0)
    architecture = describe_architecture(name, options, bands=bands, input_size_px=16)
    encoder = Encoder(architecture).eval()
    rising = tuple(0.1 + 0.001 * number for number in range(bands))
    config = describe_encoder(
        architecture,
        choice,
        Normalisation(rising, tuple(2 * value for value in rising)),
        method="moco-v2",
        products=[product],
        input_size_px=16,
        feature_dim=encoder.feature_dim,
    )
    save_encoder(folder, encoder, config)
    return encoder, config


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_encoder_loads_with_the_same_features_from_physical_values(kind: str, tmp_path: Path) -> None:
    encoder, config = save(tmp_path, kind)
    model = load_encoder(tmp_path)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    values = torch.rand(3, len(config["bands"]), 16, 16)
    mean, std = (torch.tensor(config["normalisation"][key])[:, None, None] for key in ("mean", "std"))
    everything = torch.ones(3, 1, 16, 16, dtype=torch.bool)
    with torch.no_grad():
        expected = encoder((values - mean) / std, everything)
    torch.testing.assert_close(model(values), expected)
    assert model(values).shape == (3, config["feature_dim"])
    dense = model.dense(values)
    assert dense.ndim == 4 and dense.shape[:2] == (3, config["feature_dim"])


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_timm_and_safetensors_alone_load_a_plain_backbone(kind: str, tmp_path: Path) -> None:
    save(tmp_path, kind)
    config = json.loads((tmp_path / "config.json").read_text())
    alone = timm.create_model(config["timm"]["name"], **config["timm"]["args"])
    alone.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=True)
    values = torch.rand(2, 12, 16, 16)
    mean, std = (torch.tensor(config["normalisation"][key])[:, None, None] for key in ("mean", "std"))
    with torch.no_grad():
        features = alone.eval()((values - mean) / std)
    torch.testing.assert_close(features, load_encoder(tmp_path)(values), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_values_under_the_mask_move_no_feature_of_a_loaded_encoder(kind: str, tmp_path: Path) -> None:
    _, config = save(tmp_path, kind)
    model = load_encoder(tmp_path)
    torch.manual_seed(2)
    values = torch.rand(2, len(config["bands"]), 16, 16)
    valid = torch.rand(2, 16, 16) > 0.3
    hidden = torch.where(valid[:, None], values, torch.nan)
    for shaped in (valid, valid[:, None], valid[:, None].expand_as(values)):
        assert torch.equal(model(values, shaped), model(hidden, valid))
        assert torch.equal(model.dense(values, shaped), model.dense(hidden, valid))
    assert not torch.equal(model(values), model(values, valid))
    # What is not finite is invalid without being told.
    assert torch.equal(model(hidden), model(values, valid))


def test_config_says_what_goes_in(tmp_path: Path) -> None:
    save(tmp_path, "spectral")
    config = read_config(tmp_path)
    assert len(config["bands"]) == len(config["wavelengths_nm"]) == len(config["fwhm_nm"]) == 224
    assert set(config["units"]) == {"reflectance"}
    assert config["front_end"] == {"kind": "spectral-adapter", "bands": 224, "channels": 128}
    assert config["gsd_m"] == 30
    assert config["weights_sha256"] == file_sha256(tmp_path / "model.safetensors")


def test_an_exported_program_runs_without_swath(tmp_path: Path) -> None:
    save(tmp_path, "spectral")
    program = torch.export.load(export_program(tmp_path)).module()
    model = load_encoder(tmp_path)
    torch.manual_seed(3)
    values, valid = torch.rand(5, 224, 16, 16), torch.rand(5, 224, 16, 16) > 0.2
    torch.testing.assert_close(program(values, valid), model(values, valid), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("victim", ["model.safetensors", "config.json"])
def test_a_file_that_is_not_what_was_registered_is_refused(victim: str, tmp_path: Path) -> None:
    save(tmp_path, "resnet")
    files = {name: file_sha256(tmp_path / name) for name in ("model.safetensors", "config.json")}
    (tmp_path / "manifest.json").write_text(json.dumps({"files": files}))
    load_encoder(tmp_path)
    content = bytearray((tmp_path / victim).read_bytes())
    content[content.rindex(b"0")] ^= 1
    (tmp_path / victim).write_bytes(content)
    with pytest.raises(EncoderError) as refusal:
        load_encoder(tmp_path)
    assert refusal.value.code == "checksum-mismatch"
    assert victim in refusal.value.message


def test_weights_are_verified_without_a_manifest_too(tmp_path: Path) -> None:
    save(tmp_path, "resnet")
    content = bytearray((tmp_path / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(EncoderError, match="not the file"):
        load_encoder(tmp_path)


def test_a_wrong_number_of_bands_is_answered_with_the_right_ones(tmp_path: Path) -> None:
    save(tmp_path, "resnet")
    with pytest.raises(EncoderError, match=r"\(1, 3, 16, 16\)") as refusal:
        load_encoder(tmp_path)(torch.zeros(1, 3, 16, 16))
    assert "B01, B02" in refusal.value.next_step


def test_something_that_is_no_encoder_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EncoderError) as refusal:
        load_encoder(tmp_path)
    assert refusal.value.code == "unreadable-config"
    (tmp_path / "config.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(EncoderError, match="format 99"):
        load_encoder(tmp_path)


def test_the_untrained_twin_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    save(tmp_path, "resnet")
    config = read_config(tmp_path)
    values = torch.rand(2, 12, 16, 16)
    state = torch.random.get_rng_state()
    one, again, other = (random_encoder(config, seed)(values) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
