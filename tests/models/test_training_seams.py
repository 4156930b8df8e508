"""What a method may ask of the trainer: several views of a sample, a rising weight decay, frozen weights."""

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
from models import load_encoder, train
from models.training import Pretrainer
from models.training_spec import TrainingSpec
from tests.models.learnable_cube import make_cube

PRODUCT = "sentinel-2-l2a"
DINO: dict[str, Any] = {
    "encoder": "tiny",
    "method": "dino",
    "products": [PRODUCT],
    "backbone": "vit_tiny_patch16_224",
    "backbone_options": {"patch_size": 8, "embed_dim": 32, "depth": 1, "num_heads": 2},
    "input_size_px": 32,
    "steps": 6,
    "batch_size": 4,
    "optimiser": {
        "name": "adamw",
        "learning_rate": 1e-3,
        "weight_decay": 0.04,
        "final_weight_decay": 0.4,
        "clip_norm": 3.0,
    },
    "options": {
        "prototypes": 16,
        "head_hidden": 16,
        "head_bottleneck": 8,
        "local_crops": 2,
        "frozen_share": 0.34,
        "first_teacher_temperature": 0.02,
        "temperature_warmup_share": 1.0,
    },
}


@pytest.fixture(scope="module")
def cube(shared_home: Path) -> Cube:
    return make_cube(places=10, dates=2)


def spec(cube: Cube, folder: Path, asked: dict[str, Any] = DINO) -> TrainingSpec:
    return TrainingSpec(
        run_id=folder.name,
        pretraining=Pretraining.model_validate(asked),
        cube=cube.name,
        snapshot=cube.snapshot(),
        folder=folder,
        log_every=1,
        checkpoint_every=3,
    )


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_dino_trains_with_its_schedules_and_resumes_bit_for_bit(
    cube: Cube, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decay: list[float] = []
    prototypes: list[torch.Tensor] = []
    norms: list[float] = []
    step = Pretrainer.optimizer_step

    def watched(self: Pretrainer, *args: Any, **kwargs: Any) -> None:
        step(self, *args, **kwargs)
        groups = self.trainer.optimizers[0].param_groups
        decay.append(groups[0]["weight_decay"])
        assert groups[1]["weight_decay"] == 0
        prototypes.append(self.method.student.head.prototypes.detach().clone())
        gradients = [p.grad for p in self.method.parameters() if p.grad is not None]
        norms.append(float(torch.stack([gradient.norm() for gradient in gradients]).norm()))

    monkeypatch.setattr(Pretrainer, "optimizer_step", watched)
    whole = tmp_path / "whole"
    assert train.train(spec(cube, whole)) == 0
    assert decay == sorted(decay) and decay[0] == pytest.approx(0.04) and 0.3 < decay[-1] < 0.4
    assert torch.equal(prototypes[0], prototypes[1])  # a third of the run frozen
    assert not torch.equal(prototypes[1], prototypes[2])
    assert max(norms) < 3.0 + 1e-4
    resumed = tmp_path / "resumed"
    (resumed / "checkpoints").mkdir(parents=True)
    shutil.copy(whole / "checkpoints" / "last.ckpt", resumed / "checkpoints" / "last.ckpt")
    shutil.copy(whole / "metrics.jsonl", resumed / "metrics.jsonl")
    assert train.train(spec(cube, resumed)) == 0
    assert losses(resumed) == losses(whole)
    ours, theirs = (load_file(folder / "encoder" / "model.safetensors") for folder in (whole, resumed))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


CMID: dict[str, Any] = DINO | {
    "method": "cmid",
    "backbone": "resnet18",
    "backbone_options": {"channels": [8, 16, 24, 32]},
    "steps": 2,
    "optimiser": {"name": "adan", "learning_rate": 1e-3},
    "options": {
        "dates": 2,
        "queue_size": 16,
        "head_hidden": 16,
        "head_out": 8,
        "prototypes": 16,
        "local_bottleneck": 8,
        "block_px": 8,
    },
}
DATA2VEC: dict[str, Any] = DINO | {
    "method": "data2vec",
    "products": ["enmap-l2a"],
    "backbone_options": DINO["backbone_options"] | {"patch_size": 4, "front_end": "wavelength-adapter"},
    "input_size_px": 16,
    "steps": 2,
    "options": {},
}


def test_cmid_trains_on_two_dates_of_a_place(cube: Cube, tmp_path: Path) -> None:
    assert train.train(spec(cube, tmp_path, CMID)) == 0
    assert load_encoder(tmp_path / "encoder").feature_dim == 32


def test_data2vec_trains_behind_a_front_end_that_is_told_the_wavelengths(
    shared_home: Path, tmp_path: Path
) -> None:
    cube = make_cube("spectra", "enmap-l2a", places=6, dates=2)
    assert train.train(spec(cube, tmp_path, DATA2VEC)) == 0
    initial = load_file(tmp_path / "initial.safetensors")
    weights = load_file(tmp_path / "encoder" / "model.safetensors")
    assert (initial["front_end.modulation.weight"] == 0).all()
    assert (weights["front_end.modulation.weight"] != 0).any()
    front_end = load_encoder(tmp_path / "encoder").config["front_end"]
    assert front_end["wavelengths_nm"] == front_end["reference_nm"]
    assert len(front_end["reference_nm"]) == 224
