"""Pretraining in processes of its own: it is stopped with a checkpoint, resumed, shared, and never left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from catalog.cubes import Cube
from catalog.errors import TrainingError
from catalog.recipes import Pretraining
from models import load_encoder
from models.training_spec import TrainingSpec
from tasks.pretrain import run_pretraining
from tests.models.learnable_cube import make_cube

TINY: dict[str, Any] = {
    "encoder": "tiny",
    "method": "moco-v2",
    "products": ["sentinel-2-l2a"],
    "backbone": "resnet18",
    "backbone_options": {"channels": [8, 16, 24, 32], "stem_width": 8},
    "input_size_px": 32,
    "steps": 30,
    "batch_size": 8,
    "optimiser": {"name": "sgd", "learning_rate": 0.05},
    "options": {"queue_size": 32, "head_hidden": 32, "head_out": 16, "momentum": 0.9},
}


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWATH_HOME", str(tmp_path_factory.mktemp("home")))
        patch.delenv("SWATH_STORE", raising=False)
        yield make_cube(places=12, dates=2)


def spec(cube: Cube, folder: Path, **changes: Any) -> TrainingSpec:
    return TrainingSpec(
        run_id="run",
        pretraining=Pretraining.model_validate(TINY | changes),
        cube=cube.name,
        snapshot=cube.snapshot(),
        folder=folder,
        log_every=1,
        checkpoint_every=1000,
    )


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def workers(folder: Path) -> list[int]:
    """Processes that train in ``folder``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(folder / "spec.json").encode() in command:
                found.append(int(entry.name))
    return found


def wait_until(condition: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Cancelled(Exception):
    """What a workflow engine raises into the waiting thread."""


def test_a_cancelled_training_leaves_a_checkpoint_and_continues_where_it_was(
    cube: Cube, tmp_path: Path
) -> None:
    asked = spec(cube, tmp_path)

    def cancel(line: dict[str, Any]) -> None:
        if line["step"] >= 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        run_pretraining(asked, progress=cancel)
    assert workers(tmp_path) == []
    stopped = json.loads((tmp_path / "result.json").read_text())
    assert stopped["status"] == "stopped"
    checkpoint = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert 3 <= stopped["step"] == checkpoint["global_step"] < 30
    before = lines(tmp_path)

    seen: list[int] = []
    result = run_pretraining(asked, progress=lambda line: seen.append(line["step"]))
    assert seen == list(range(stopped["step"] + 1, 31))
    after = lines(tmp_path)
    assert [line["step"] for line in after] == list(range(1, 31))
    assert after[: len(before)] == before
    assert load_encoder(result.encoder).feature_dim == 32
    assert result.initial_weights.is_file()
    assert result.result["steps"] == 30


def test_sigterm_stops_training_with_an_exit_that_says_so_and_a_dead_launcher_leaves_no_orphan(
    cube: Cube, tmp_path: Path
) -> None:
    """One launcher gets SIGTERM, the other SIGKILL; both trainings write a checkpoint and go."""
    launchers = {}
    code = (
        "import sys; from pathlib import Path; from tasks.pretrain import run_pretraining;"
        "from models.training_spec import TrainingSpec;"
        "run_pretraining(TrainingSpec.model_validate_json(Path(sys.argv[1]).read_text()))"
    )
    for kind in (signal.SIGTERM, signal.SIGKILL):
        folder = tmp_path / kind.name
        path = spec(cube, folder, steps=100_000).write()
        launchers[kind] = subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stderr=subprocess.PIPE, text=True
        )
    for kind, launcher in launchers.items():
        metrics = tmp_path / kind.name / "metrics.jsonl"
        wait_until(lambda metrics=metrics: metrics.is_file() and metrics.stat().st_size, 90)
        launcher.send_signal(kind)
    _, errors = launchers[signal.SIGTERM].communicate(timeout=60)
    assert launchers[signal.SIGTERM].returncode == 1
    assert "training-stopped" in errors.strip().splitlines()[-1]
    launchers[signal.SIGKILL].communicate(timeout=60)
    for kind in launchers:
        folder = tmp_path / kind.name
        wait_until(lambda folder=folder: not workers(folder), 60)
        assert (folder / "checkpoints" / "last.ckpt").is_file()
        assert json.loads((folder / "result.json").read_text())["status"] == "stopped"


def test_two_processes_train_one_encoder_on_shares_of_each_batch(cube: Cube, tmp_path: Path) -> None:
    asked = spec(cube, tmp_path, devices=2, steps=3)
    result = run_pretraining(asked)
    assert result.result["devices"] == 2
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3]
    assert result.result["weight_distance"] > 0
    assert load_encoder(result.encoder)(torch.rand(2, 12, 32, 32)).shape == (2, 32)


def test_what_the_training_reports_reaches_the_caller(cube: Cube, tmp_path: Path) -> None:
    asked = spec(cube, tmp_path, backbone="resnet19")
    with pytest.raises(TrainingError) as refusal:
        run_pretraining(asked)
    assert refusal.value.code == "no-such-backbone"
    assert refusal.value.subject == "resnet19"
    assert refusal.value.next_step


def test_a_training_that_dies_without_a_word_is_reported_with_its_last_line(
    cube: Cube, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed for memory, for example: no result, only a log."""
    import tasks.pretrain as pretrain

    dying = "import os, sys; print('RuntimeError: the accelerator fell off the bus'); sys.stdout.flush(); os._exit(9)"
    monkeypatch.setattr(pretrain, "_command", lambda *_: [sys.executable, "-c", dying])
    with pytest.raises(
        TrainingError, match="exit status 9: RuntimeError: the accelerator fell off"
    ) as failure:
        run_pretraining(spec(cube, tmp_path))
    assert failure.value.code == "training-crashed"
    assert str(os.getpid()) not in failure.value.message
