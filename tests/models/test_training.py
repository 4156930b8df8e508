"""A training leaves a changed encoder and says what it drew; resumed, it continues bit for bit."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from catalog.cubes import Cube
from catalog.errors import TrainingError, UsageError
from catalog.recipes import Pretraining
from models import load_encoder, train
from models.encoder_files import read_config
from models.features import band_choice, dense_features, embeddings, physical_batches
from models.sample_pool import BatchPlan, open_pool
from models.training import Pretrainer, forget_after, step_seed
from models.training_spec import TrainingSpec
from tests.models.learnable_cube import make_cube

PRODUCT = "sentinel-2-l2a"
MOCO: dict[str, Any] = {
    "encoder": "tiny",
    "method": "moco-v2",
    "products": [PRODUCT],
    "backbone": "resnet18",
    "backbone_options": {"channels": [8, 16, 24, 32], "stem_width": 8},
    "input_size_px": 32,
    "steps": 8,
    "batch_size": 8,
    "optimiser": {"name": "sgd", "learning_rate": 0.05},
    "options": {"queue_size": 32, "head_hidden": 32, "head_out": 16, "momentum": 0.9},
}
MAE: dict[str, Any] = {
    "encoder": "tiny",
    "method": "mae",
    "products": ["enmap-l2a"],
    "backbone": "vit_tiny_patch16_224",
    "backbone_options": {
        "front_end": "spectral-adapter",
        "patch_size": 4,
        "embed_dim": 32,
        "depth": 2,
        "num_heads": 2,
    },
    "input_size_px": 16,
    "steps": 4,
    "batch_size": 4,
    "optimiser": {"name": "adamw", "learning_rate": 1e-3},
    "options": {"decoder_width": 32, "decoder_depth": 1, "decoder_heads": 2},
}


@pytest.fixture(scope="module")
def cube(shared_home: Path) -> Cube:
    return make_cube(places=15, dates=3)


def spec(cube: Cube, folder: Path, asked: dict[str, Any] | None = None, **changes: Any) -> TrainingSpec:
    own = {key: changes.pop(key) for key in list(changes) if key in TrainingSpec.model_fields}
    return TrainingSpec(
        **{
            "run_id": folder.name,
            "pretraining": Pretraining.model_validate((asked or MOCO) | changes),
            "cube": cube.name,
            "snapshot": cube.snapshot(),
            "folder": folder,
            "log_every": 1,
            "checkpoint_every": 4,
        }
        | own
    )


def losses(folder: Path) -> list[tuple[int, float]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [(line["step"], line["loss"]) for line in map(json.loads, lines)]


@pytest.fixture(scope="module")
def finished(cube: Cube, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    assert train.train(spec(cube, folder)) == 0
    return folder


def test_a_training_leaves_an_encoder_that_differs_from_its_start(finished: Path) -> None:
    result = json.loads((finished / "result.json").read_text())
    assert result["status"] == "finished"
    assert result["weight_distance"] > 0.001
    initial = load_file(finished / "initial.safetensors")
    weights = load_file(finished / "encoder" / "model.safetensors")
    assert initial.keys() == weights.keys()
    assert not torch.equal(initial["conv1.weight"], weights["conv1.weight"])
    assert load_encoder(finished / "encoder").feature_dim == 32


def test_metrics_say_how_it_went(finished: Path) -> None:
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 9))
    assert set(lines[0]) == {
        "step",
        "loss",
        "lr",
        "embedding_std",
        "effective_rank",
        "uniformity",
        "alignment",
        "loader_wait_share",
        "samples_per_s",
    }
    assert all(line["embedding_std"] > 0 and line["samples_per_s"] > 0 for line in lines)


def test_the_samples_drawn_are_those_of_the_plan_and_no_others(cube: Cube, finished: Path) -> None:
    with gzip.open(finished / "encoder" / "samples.jsonl.gz", "rt") as file:
        lines = [json.loads(line) for line in file]
    pool = open_pool(cube, PRODUCT, cube.snapshot())
    plan = BatchPlan(pool, 8, 2, 0, chunk_rows=8)
    expected = {str(pool.ids[at]) for index in range(8) for view in plan.draw(index).views for at in view}
    assert {line["sample"] for line in lines} == expected
    assert len(lines) == len(expected) == json.loads((finished / "result.json").read_text())["samples_drawn"]
    known = cube.columns(PRODUCT).set_index("sample")
    for line in lines:
        assert line["sha256"] == known.loc[line["sample"], "sha256"]
        assert line["scene"] == known.loc[line["sample"], "scene"]
        assert line["location"] == known.loc[line["sample"], "location"]


def test_a_resumed_run_repeats_the_losses_and_the_weights_bit_for_bit(
    cube: Cube, finished: Path, tmp_path: Path
) -> None:
    (tmp_path / "checkpoints").mkdir()
    shutil.copy(finished / "checkpoints" / "last.ckpt", tmp_path / "checkpoints" / "last.ckpt")
    lines = (finished / "metrics.jsonl").read_text().splitlines(keepends=True)
    # The killed run had come past its checkpoint at step 4, and died in the middle of a line.
    (tmp_path / "metrics.jsonl").write_text("".join(lines[:6]) + lines[6][:20])
    resumed = spec(cube, tmp_path)
    assert train.train(resumed) == 0
    assert losses(tmp_path) == losses(finished)
    ours, theirs = (load_file(folder / "encoder" / "model.safetensors") for folder in (tmp_path, finished))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_same_run_again_is_the_same_and_another_seed_is_not(
    cube: Cube, finished: Path, tmp_path: Path
) -> None:
    assert train.train(spec(cube, tmp_path / "again", steps=8)) == 0
    assert losses(tmp_path / "again") == losses(finished)
    assert train.train(spec(cube, tmp_path / "other", seed=1, steps=2)) == 0
    assert losses(tmp_path / "other")[0] != losses(finished)[0]


def test_a_finished_run_is_not_trained_again(cube: Cube, finished: Path) -> None:
    before = (finished / "encoder" / "model.safetensors").stat().st_mtime_ns
    assert train.train(spec(cube, finished)) == 0
    assert (finished / "encoder" / "model.safetensors").stat().st_mtime_ns == before


def test_a_checkpoint_of_another_recipe_is_not_resumed(cube: Cube, finished: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    shutil.copy(finished / "checkpoints" / "last.ckpt", tmp_path / "checkpoints" / "last.ckpt")
    with pytest.raises(TrainingError) as refusal:
        train.train(spec(cube, tmp_path, seed=5))
    assert refusal.value.code == "foreign-checkpoint"


def test_accumulated_batches_make_one_step(cube: Cube, tmp_path: Path) -> None:
    assert train.train(spec(cube, tmp_path, steps=3, accumulate=2, batch_size=4)) == 0
    assert [step for step, _ in losses(tmp_path)] == [1, 2, 3]
    pool = open_pool(cube, PRODUCT, cube.snapshot())
    plan = BatchPlan(pool, 4, 2, 0, chunk_rows=8)
    assert json.loads((tmp_path / "result.json").read_text())["samples_drawn"] == len(plan.drawn(6))


def test_a_refresh_starts_from_older_weights_with_their_normalisation(
    cube: Cube, finished: Path, tmp_path: Path
) -> None:
    older = finished / "encoder"
    warm = spec(cube, tmp_path, start_from=older, steps=2)
    assert train.train(warm) == 0
    assert read_config(tmp_path / "encoder")["normalisation"] == read_config(older)["normalisation"]
    initial, theirs = load_file(tmp_path / "initial.safetensors"), load_file(older / "model.safetensors")
    assert all(torch.equal(initial[name], theirs[name]) for name in theirs)
    with pytest.raises(TrainingError) as refusal:
        train.train(spec(cube, tmp_path / "narrow", start_from=older, bands=["B02", "B03"]))
    assert refusal.value.code == "cannot-start-from"
    assert "bands" in refusal.value.message


def test_a_loss_that_is_no_number_stops_with_one_clear_line(
    cube: Cube, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = spec(
        cube,
        tmp_path,
        optimiser={"name": "sgd", "learning_rate": 1e30, "warmup_share": 0},
        checkpoint_every=1,
    )
    assert train.main([str(wild.write())]) == 1
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["status"], result["code"]) == ("failed", "loss-not-finite")
    line = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(line) == 1
    assert "learning_rate" in line[0]
    assert not (tmp_path / "encoder").exists()


def test_a_batch_that_does_not_fit_says_what_to_make_smaller_and_keeps_the_checkpoint(
    cube: Cube, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Pretrainer.training_step

    def greedy(self: Pretrainer, batch: Any, number: int) -> torch.Tensor:
        if self.trainer.global_step == 3:
            torch.empty(2**50)  # a petabyte and more: no allocator gives it
        return step(self, batch, number)

    monkeypatch.setattr(Pretrainer, "training_step", greedy)
    asked = spec(cube, tmp_path, checkpoint_every=2)
    assert train.main([str(asked.write())]) == 1
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["status"], result["code"]) == ("failed", "out-of-memory")
    assert "batch_size to 4 and accumulate to 2" in result["next_step"]
    assert len([line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]) == 1
    monkeypatch.undo()
    monkeypatch.setenv("SWATH_HOME", str(Path(cube.place.url).parents[2]))
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 2
    assert train.main([str(asked.write())]) == 0
    assert [number for number, _ in losses(tmp_path)] == list(range(1, 9))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"options": {"queue": 5}}, "invalid-method-option"),
        ({"method": "dyno"}, "unknown-method"),
        ({"bands": ["B99"]}, "unknown-band"),
        ({"products": [PRODUCT, "sentinel-1-rtc"]}, "invalid-pretraining"),
    ],
)
def test_what_cannot_be_trained_is_said_before_training(
    cube: Cube, tmp_path: Path, changes: dict[str, Any], code: str
) -> None:
    with pytest.raises(UsageError) as refusal:
        train.train(spec(cube, tmp_path, **changes))
    assert refusal.value.code == code
    assert refusal.value.next_step


def test_hyperspectral_pixels_train_an_adapter_and_give_features(shared_home: Path, tmp_path: Path) -> None:
    cube = make_cube("spectra", "enmap-l2a", places=6, dates=2)
    assert train.train(spec(cube, tmp_path, MAE)) == 0
    initial = load_file(tmp_path / "initial.safetensors")
    weights = load_file(tmp_path / "encoder" / "model.safetensors")
    assert not torch.equal(initial["front_end.0.weight"], weights["front_end.0.weight"])
    model = load_encoder(tmp_path / "encoder")
    choice = band_choice(model)
    rows = [3, 0, 5]
    batches = list(physical_batches(cube, cube.snapshot(), choice, rows, batch_size=2))
    assert [len(values) for values, _ in batches] == [2, 1]
    features = embeddings(model, batches)
    assert features.shape == (3, 32)
    dense = list(dense_features(model, batches))
    assert dense[0][0].shape == (2, 32, 4, 4)
    assert dense[0][1].shape == (2, 4, 4)
    one_by_one = embeddings(model, physical_batches(cube, cube.snapshot(), choice, rows, batch_size=1))
    torch.testing.assert_close(torch.tensor(features), torch.tensor(one_by_one), rtol=1e-4, atol=1e-5)


def test_seeds_of_steps_and_processes_are_all_different() -> None:
    seeds = {step_seed(seed, batch, rank) for seed in range(5) for batch in range(200) for rank in range(4)}
    assert len(seeds) == 5 * 200 * 4
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_metrics_beyond_the_checkpoint_are_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    forget_after(path, 3)
    path.write_text('{"step": 2}\n{"step": 3}\n{"step": 4}\n{"st')
    forget_after(path, 3)
    assert path.read_text() == '{"step": 2}\n{"step": 3}\n'


@pytest.mark.long
def test_a_compiled_training_takes_the_same_steps(cube: Cube, tmp_path: Path) -> None:
    shape = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    vit = {"backbone": "vit_tiny_patch16_224", "backbone_options": shape, "steps": 3}
    assert train.train(spec(cube, tmp_path / "plain", **vit)) == 0
    assert train.train(spec(cube, tmp_path / "compiled", compile=True, **vit)) == 0
    plain, compiled = (dict(losses(tmp_path / name)) for name in ("plain", "compiled"))
    assert compiled == pytest.approx(plain, rel=1e-4)
    weights = load_file(tmp_path / "compiled" / "encoder" / "model.safetensors")
    assert weights.keys() == load_file(tmp_path / "plain" / "encoder" / "model.safetensors").keys()
