"""Sharded over two processes a training is the same as replicated over them, and leaves a whole encoder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from catalog.cubes import Cube
from catalog.recipes import Pretraining
from models import load_encoder
from models.training_spec import TrainingSpec
from tasks.pretrain.run import run_pretraining
from tests.models.learnable_cube import make_cube

BYOL: dict[str, Any] = {
    "encoder": "tiny",
    "method": "byol",
    "products": ["sentinel-2-l2a"],
    "backbone": "vit_tiny_patch16_224",
    "backbone_options": {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2},
    "input_size_px": 32,
    "steps": 6,
    "batch_size": 8,
    "devices": 2,
    "optimiser": {"name": "adamw", "learning_rate": 1e-3, "weight_decay": 0.01},
    "options": {"head_hidden": 32, "head_out": 16, "head_batch_norm": False},
}


@pytest.fixture(scope="module")
def cube(shared_home: Path) -> Cube:
    return make_cube(places=12, dates=2)


def trained(cube: Cube, folder: Path, **changes: Any) -> Path:
    spec = TrainingSpec(
        run_id="run",
        pretraining=Pretraining.model_validate(BYOL | changes),
        cube=cube.name,
        snapshot=cube.snapshot(),
        folder=folder,
        log_every=1,
        checkpoint_every=3,
    )
    return run_pretraining(spec).encoder


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.long
def test_sharded_and_replicated_trainings_agree_and_a_sharded_one_resumes(cube: Cube, tmp_path: Path) -> None:
    replicated = trained(cube, tmp_path / "ddp")
    sharded = trained(cube, tmp_path / "fsdp", strategy="fsdp")
    assert losses(tmp_path / "fsdp") == pytest.approx(losses(tmp_path / "ddp"), rel=1e-5)
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (sharded, replicated))
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-5)
    assert load_encoder(sharded)(torch.rand(2, 12, 32, 32)).shape == (2, 32)

    resumed = tmp_path / "resumed"
    (resumed / "checkpoints").mkdir(parents=True)
    shutil.copy(tmp_path / "fsdp" / "checkpoints" / "last.ckpt", resumed / "checkpoints" / "last.ckpt")
    shutil.copy(tmp_path / "fsdp" / "metrics.jsonl", resumed / "metrics.jsonl")
    again = load_file(trained(cube, resumed, strategy="fsdp") / "model.safetensors")
    assert losses(resumed) == losses(tmp_path / "fsdp")
    assert all(torch.equal(again[name], ours[name]) for name in ours)
