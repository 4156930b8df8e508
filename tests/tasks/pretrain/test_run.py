"""Pretraining in processes of its own: stopped with a checkpoint, resumed, shared, never left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from catalog.cubes import Cube
from catalog.errors import TrainingError, UsageError
from catalog.recipes import Pretraining
from models import load_encoder
from models.train import main
from models.training_spec import TrainingSpec
from tasks.pretrain.run import read_result, run_pretraining
from tests.models.learnable_cube import make_cube

TINY: dict[str, Any] = {
    "encoder": "tiny",
    "method": "moco-v2",
    "products": ["sentinel-2-l2a"],
    "backbone": "resnet18",
    "backbone_options": {"channels": [8, 16, 24, 32], "stem_width": 8},
    "input_size_px": 32,
    "steps": 3,
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


def test_a_training_that_is_told_to_stop_leaves_a_checkpoint_and_continues_from_it(
    cube: Cube, tmp_path: Path
) -> None:
    """First by SIGTERM to the process that waits for it, then by an exception in that process."""
    asked = spec(cube, tmp_path, steps=100_000)

    def stop(line: dict[str, Any]) -> None:
        if line["step"] == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(TrainingError, match="its checkpoint is kept") as stopped:
        run_pretraining(asked, progress=stop)
    assert stopped.value.code == "training-stopped"
    assert signal.getsignal(signal.SIGTERM) == before
    assert workers(tmp_path) == []
    result = json.loads((tmp_path / "result.json").read_text())
    checkpoint = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert result["step"] == checkpoint["global_step"] >= 3
    first = lines(tmp_path)

    seen: list[int] = []

    def cancel(line: dict[str, Any]) -> None:
        seen.append(line["step"])
        if len(seen) == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        run_pretraining(asked, progress=cancel)
    assert workers(tmp_path) == []
    assert seen == [result["step"] + 1, result["step"] + 2]
    later = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert later["global_step"] >= seen[-1]
    both = lines(tmp_path)
    assert both[: len(first)] == first
    assert [line["step"] for line in both] == list(range(1, later["global_step"] + 1))


def test_a_training_whose_launcher_was_killed_stops_itself(cube: Cube, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tasks.pretrain.run import run_pretraining;"
        "from models.training_spec import TrainingSpec;"
        "run_pretraining(TrainingSpec.model_validate_json(Path(sys.argv[1]).read_text()))"
    )
    path = spec(cube, tmp_path, steps=100_000).write()
    launcher = subprocess.Popen([sys.executable, "-c", code, str(path)])
    metrics = tmp_path / "metrics.jsonl"
    wait_until(lambda: metrics.is_file() and metrics.stat().st_size, 120)
    launcher.kill()
    launcher.wait()
    wait_until(lambda: not workers(tmp_path), 60)
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()
    assert json.loads((tmp_path / "result.json").read_text())["status"] == "stopped"


def test_two_processes_train_one_encoder_on_shares_of_each_batch(cube: Cube, tmp_path: Path) -> None:
    asked = spec(cube, tmp_path, devices=2)
    result = run_pretraining(asked)
    assert result.result["devices"] == 2
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3]
    assert result.result["weight_distance"] > 0
    assert load_encoder(result.encoder)(torch.rand(2, 12, 32, 32)).shape == (2, 32)


def test_what_the_training_reports_reaches_the_caller(cube: Cube, tmp_path: Path) -> None:
    """In this process, as the launched one would: the report is a file."""
    asked = spec(cube, tmp_path, backbone="resnet19")
    assert main([str(asked.write())]) == 1
    with pytest.raises(TrainingError) as refusal:
        read_result(asked, 1, 0)
    assert refusal.value.code == "no-such-backbone"
    assert refusal.value.subject == "resnet19"
    assert refusal.value.next_step


def test_a_training_that_dies_without_a_word_is_reported_with_its_last_line(
    cube: Cube, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed for memory, for example: no result, only a log."""
    import tasks.pretrain.run as pretrain

    dying = "import os; print('RuntimeError: the accelerator fell off the bus', flush=True); os._exit(9)"
    monkeypatch.setattr(pretrain, "_command", lambda *_: [sys.executable, "-c", dying])
    with pytest.raises(
        TrainingError, match="exit status 9: RuntimeError: the accelerator fell off"
    ) as failure:
        run_pretraining(spec(cube, tmp_path))
    assert failure.value.code == "training-crashed"
    assert str(os.getpid()) not in failure.value.message


def test_a_worker_that_is_killed_ends_the_training_with_one_line_and_the_next_run_goes_on(
    cube: Cube, tmp_path: Path
) -> None:
    asked = spec(cube, tmp_path, devices=2, steps=2000)
    asked = asked.model_copy(update={"checkpoint_every": 2})
    seen: list[int] = []

    def kill_one(line: dict[str, Any]) -> None:
        if line["step"] >= 4 and not seen:
            (victim, *_) = [process for process in workers(tmp_path) if trains(process)]
            seen.append(victim)
            os.kill(victim, signal.SIGKILL)

    with pytest.raises(TrainingError) as failure:
        run_pretraining(asked, progress=kill_one)
    assert failure.value.code == "training-crashed"
    assert "\n" not in failure.value.message
    assert "continue" in failure.value.next_step
    wait_until(lambda: not workers(tmp_path), 60)
    checkpoint = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] >= 2


def trains(process: int) -> bool:
    """Whether a process is one of torchrun's workers."""
    return b"models.train" in Path(f"/proc/{process}/cmdline").read_bytes() and (
        b"torch.distributed.run" not in Path(f"/proc/{process}/cmdline").read_bytes()
    )


@pytest.mark.long
def test_two_nodes_meet_and_train_one_encoder(
    cube: Cube, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = spec(cube, tmp_path, nodes=2)
    with pytest.raises(UsageError, match="no-rendezvous"):
        run_pretraining(asked)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("SWATH_RENDEZVOUS", endpoint)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    other = subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "1", "--nnodes", "2"),
            *("--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint, "--rdzv-id", asked.run_id),
            *("-m", "models.train", str(asked.write())),
        ],
        cwd=Path(__file__).resolve().parents[3],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        result = run_pretraining(asked)
        assert result.result["devices"] == 2
        assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3]
        assert other.wait(60) == 0
    finally:
        other.kill()
        other.wait()
