"""A flow that is killed is called again and finishes what it had begun."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.flows.installation import CHEAP, Installation, command, settings_of

LONGER = (*CHEAP, "pretrain.1.encoder=interrupted", "pretrain.1.steps=400", "pretrain.1.batch_size=8")


def wait_for(what: Any, seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)
    return found


def steps(metrics: Path) -> list[int]:
    return [json.loads(line)["step"] for line in metrics.read_text(encoding="utf-8").splitlines()]


def processes_of(folder: Path) -> list[str]:
    """Processes whose command line names a run folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if any(word.startswith(str(folder)) for word in words):
            found.append(process.name)
    return found


@pytest.mark.long
def test_a_flow_killed_in_mid_training_goes_on_from_where_it_was(
    home: Installation, made: dict[str, Any]
) -> None:
    before = home.what_is_there()
    flow = subprocess.Popen(
        command("run", "data-to-model", "--recipe", "sandbox", *settings_of(LONGER)),
        env=home.environment,
        cwd=home.elsewhere,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        metrics = wait_for(
            lambda: next((home.home / "runs").glob("pretrain-interrupted-*/metrics.jsonl"), None), 120
        )
        wait_for(lambda: metrics.stat().st_size, 60)
    finally:
        os.kill(flow.pid, signal.SIGKILL)
        flow.wait()
    folder = metrics.parent
    wait_for(lambda: not processes_of(folder), 60)
    written = metrics.read_text(encoding="utf-8").splitlines()
    assert 0 < steps(metrics)[-1] < 400, "it was killed before its end"
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    assert not (folder / "encoder" / "model.safetensors").exists()
    there = home.what_is_there()
    assert (there["cubes"], there["encoders"], there["encoder folders"]) == (
        before["cubes"],
        before["encoders"],
        before["encoder folders"],
    )

    again = home.json("run", "data-to-model", "--recipe", "sandbox", *settings_of(LONGER))

    assert again["snapshot"] == made["snapshot"]
    assert [item["action"] for item in again["encoders"]] == ["returned", "registered"]
    assert again["encoders"][1]["reference"] == "interrupted@1"
    assert Path(again["trained"][1]["run"]).name == folder.name
    resumed = metrics.read_text(encoding="utf-8").splitlines()
    assert resumed[: len(written)] == written, "what was trained before the kill was not trained again"
    assert steps(metrics) == sorted(set(steps(metrics)))
    assert steps(metrics)[-1] == 400
