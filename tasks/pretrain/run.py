"""Pretrains an encoder in processes of its own: starts torchrun, watches the run folder, reads the result."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catalog.errors import TrainingError, UsageError
from models import training_spec as files
from models.training_spec import TrainingSpec

Progress = Callable[[dict[str, Any]], None]
"""Called with each line of ``metrics.jsonl`` as it is written."""

RENDEZVOUS_VARIABLE = "SWATH_RENDEZVOUS"
"""``HOST:PORT`` at which the nodes of a training meet."""

GRACE_S = 90.0
"""How long a training may take to reach its next step, write a checkpoint and go."""
_POLL_S = 0.1
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class PretrainResult:
    """A finished training."""

    folder: Path
    """The run folder."""
    encoder: Path
    """The encoder folder: weights, config, samples drawn."""
    initial_weights: Path
    """Weights the run began with, under the same names as the encoder's."""
    result: dict[str, Any]
    """``result.json``."""


def run_pretraining(spec: TrainingSpec, *, progress: Progress | None = None) -> PretrainResult:
    """Train as ``spec`` says, from the last checkpoint in its folder if there is one.

    SIGTERM to this process is passed on: the training writes a checkpoint and stops. An exception in this
    thread (a cancelled flow, Ctrl-C) does the same, and kills what has not gone after ``GRACE_S``.

    Raises
    ------
    TrainingError: ``training-stopped`` (run again to continue), or what the training itself reported.
    """
    path = spec.write()
    if _is_unfinished(spec):
        (spec.folder / files.RESULT).unlink(missing_ok=True)
    with (spec.folder / files.LOG).open("ab") as log:
        start = log.tell()
        process = subprocess.Popen(
            _command(spec, path),
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env=_environment(spec.pretraining.devices),
        )
    with _stopped_in_the_end(process), _sigterm_passed_on(process):
        tail = _MetricsTail(spec.folder / files.METRICS, progress)
        while process.poll() is None:
            tail.read()
            time.sleep(_POLL_S)
        tail.read()
    return read_result(spec, process.returncode, start)


def _command(spec: TrainingSpec, path: Path) -> list[str]:
    request = spec.pretraining
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(request.devices)]
    torchrun += _meeting(spec) if request.nodes > 1 else ["--standalone"]
    torchrun += ["--log-dir", str(spec.folder / "torchrun")]
    return [*torchrun, "--shutdown-timeout", str(int(GRACE_S) - 10), "-m", "models.train", str(path)]


def _meeting(spec: TrainingSpec) -> list[str]:
    """How the nodes of one training find each other."""
    endpoint = os.environ.get(RENDEZVOUS_VARIABLE)
    if not endpoint:
        raise UsageError(
            "no-rendezvous",
            f"{spec.pretraining.nodes} nodes must meet somewhere",
            subject=spec.pretraining.encoder,
            next_step=f"set {RENDEZVOUS_VARIABLE} to HOST:PORT of this node, and start the others as "
            "docs/training.md says",
        )
    where = ["--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint, "--rdzv-id", spec.run_id]
    return ["--nnodes", str(spec.pretraining.nodes), *where]


def _environment(devices: int) -> dict[str, str]:
    threads = max(1, len(os.sched_getaffinity(0)) // devices)
    search = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    return {
        "OMP_NUM_THREADS": str(threads),
        # Threads that wait by spinning stop each other where the cores are shared: with four trainings on two
        # cores a ResNet-18 made 0.1 to 0.5 steps/s so, and 6 to 9 passively.
        "OMP_WAIT_POLICY": "PASSIVE",
        **os.environ,
        "PYTHONPATH": search,
        files.LAUNCHER_VARIABLE: str(os.getpid()),
    }


def _is_unfinished(spec: TrainingSpec) -> bool:
    try:
        result = json.loads((spec.folder / files.RESULT).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return True
    return bool(result.get("status") != "finished" or result.get("identity") != spec.identity)


def read_result(spec: TrainingSpec, status: int, log_start: int) -> PretrainResult:
    """What a training that ended with exit ``status`` made, or the error it left.

    ``log_start`` is the size of the log before it began.
    """
    try:
        result = json.loads((spec.folder / files.RESULT).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        result = {}
    if result.get("status") == "finished" and status == 0:
        return PretrainResult(
            spec.folder, spec.folder / result["encoder"], spec.folder / result["initial_weights"], result
        )
    name = spec.pretraining.encoder
    if result.get("status") == "stopped":
        raise TrainingError(
            "training-stopped",
            f"stopped at step {result['step']} of {spec.pretraining.steps}; its checkpoint is kept",
            subject=name,
            next_step="run the same recipe again to continue",
        )
    if result.get("status") == "failed":
        raise TrainingError(
            result["code"],
            result["message"],
            subject=result["subject"] or name,
            next_step=result["next_step"],
        )
    raise TrainingError(
        "training-crashed",
        f"exit status {status}: {_last_telling_line(spec.folder / files.LOG, log_start)}",
        subject=name,
        next_step=f"see {spec.folder / files.LOG}; run again to continue from the last checkpoint",
    )


def _last_telling_line(log: Path, start: int) -> str:
    """The last line of this start that is neither empty nor torchrun's report of its own exit."""
    text = log.read_bytes()[start:].decode(errors="replace")
    lines = [line.strip() for line in text.splitlines()]
    noise = (
        "=",
        "-",
        "torch.distributed.elastic",
        "raise ",
        "File ",
        "[",
        "time ",
        "host ",
        "rank ",
        "exitcode",
    )
    telling = [line for line in lines if line and not line.startswith(noise)]
    errors = [line for line in telling if "Error" in line or line.startswith("error:")]
    foreign = [line for line in errors if "ChildFailedError" not in line and "SignalException" not in line]
    return (foreign or telling or ["it left no message"])[-1][:300]


class _MetricsTail:
    """Passes on each line that is added to ``metrics.jsonl`` from now on."""

    def __init__(self, path: Path, progress: Progress | None) -> None:
        self.path, self.progress = path, progress
        self._at = path.stat().st_size if path.is_file() else 0

    def read(self) -> None:
        if self.progress is None or not self.path.is_file():
            return
        with self.path.open("rb") as file:
            # A resumed training drops the lines beyond its checkpoint.
            self._at = min(self._at, self.path.stat().st_size)
            file.seek(self._at)
            lines = file.read()
        whole = lines[: lines.rfind(b"\n") + 1]
        self._at += len(whole)
        for line in whole.splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                self.progress(json.loads(line))


@contextlib.contextmanager
def _stopped_in_the_end(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Whatever happens in the block, the training does not outlive it."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                # Its workers, in sessions of their own, see that it is gone and stop themselves.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextlib.contextmanager
def _sigterm_passed_on(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """While the block runs, SIGTERM goes to torchrun (signals reach the main thread only)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
