"""``prefect.yaml`` as a team uses it: deployments, a schedule, a worker, and a run that it carries out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.flows.installation import CHEAP, REPOSITORY, Installation, prefect

QUIET = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "GX_ANALYTICS_ENABLED": "False"}
"""What a flow run must find in its environment."""


def call(home: Installation, *arguments: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """``prefect ARGUMENTS`` in the repository, where ``prefect.yaml`` is."""
    done = subprocess.run(
        prefect(*arguments),
        env=home.environment,
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def ask(home: Installation, path: str, **document: Any) -> Any:
    answer = httpx.post(f"{home.api_url}{path}", json=document, timeout=30)
    answer.raise_for_status()
    return answer.json()


@pytest.fixture(scope="module")
def deployments(home: Installation) -> dict[str, dict[str, Any]]:
    """``FLOW/NAME`` → deployment, after the commands of docs/deploying.md."""
    files = sorted(REPOSITORY.iterdir())
    written = (REPOSITORY / "prefect.yaml").read_bytes()
    for pool in ("cpu", "gpu"):
        call(home, "work-pool", "create", pool, "--type", "process")
    call(home, "deploy", "--all")
    assert sorted(REPOSITORY.iterdir()) == files, "deploying leaves nothing in the repository"
    assert (REPOSITORY / "prefect.yaml").read_bytes() == written
    flows = {flow["id"]: flow["name"] for flow in ask(home, "/flows/filter")}
    found = ask(home, "/deployments/filter")
    return {f"{flows[item['flow_id']]}/{item['name']}": item for item in found}


def test_deploying_registers_every_flow(deployments: dict[str, dict[str, Any]]) -> None:
    pools = {name: item["work_pool_name"] for name, item in deployments.items()}
    assert pools == {
        "refresh/sandbox": "cpu",
        "pretrain/sandbox": "cpu",
        "pretrain/sandbox-gpu": "gpu",
        "evaluate/sandbox": "cpu",
        "data-to-model/sandbox": "cpu",
        "area/sandbox-area": "cpu",
        "embed/sandbox-area": "cpu",
    }
    for name, item in deployments.items():
        _, recipe = name.split("/")
        asked = {"recipe": recipe.removesuffix("-gpu")}
        on_a_cluster = {"workers": None, "scheduler": None} if name.startswith("refresh/") else {}
        assert item["parameters"] == asked | on_a_cluster


def test_deploying_again_changes_nothing(home: Installation, deployments: dict[str, dict[str, Any]]) -> None:
    call(home, "deploy", "--all")
    again = {item["id"] for item in ask(home, "/deployments/filter")}
    assert again == {item["id"] for item in deployments.values()}
    schedules = ask(home, "/deployments/filter")
    assert sum(len(item["schedules"]) for item in schedules) == 1


def test_the_nightly_refresh_is_on_the_calendar(
    home: Installation, deployments: dict[str, dict[str, Any]]
) -> None:
    nightly = deployments["refresh/sandbox"]
    wanted = {"deployments": {"id": {"any_": [nightly["id"]]}}}
    wanted["flow_runs"] = {"state": {"type": {"any_": ["SCHEDULED"]}}}
    deadline = time.monotonic() + 90
    while not (runs := ask(home, "/flow_runs/filter", sort="EXPECTED_START_TIME_ASC", **wanted)):
        assert time.monotonic() < deadline, "the server scheduled nothing"
        time.sleep(0.5)
    assert len(runs) >= 3
    assert all(run["expected_start_time"][11:16] == "03:17" for run in runs)
    others = [item["id"] for name, item in deployments.items() if name != "refresh/sandbox"]
    assert ask(home, "/flow_runs/filter", deployments={"id": {"any_": others}}) == []


@contextmanager
def worker(home: Installation, elsewhere: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process worker of the cpu pool, started in another folder; it and its children end with the block."""
    with (home.home / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            prefect("worker", "start", "--pool", "cpu", "--type", "process", "--name", "test"),
            env=home.environment,
            cwd=elsewhere,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


class FlowRunEnvironment(threading.Thread):
    """Reads the environment of the process in which a worker runs a flow, while it runs."""

    def __init__(self, home: Installation) -> None:
        super().__init__(daemon=True)
        self.home, self.found, self.done = str(home.home), {}, threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.2):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    text = (process / "environ").read_bytes().decode(errors="replace")
                except OSError:
                    continue
                variables = dict(part.split("=", 1) for part in text.split("\0") if "=" in part)
                if variables.get("SWATH_HOME") == self.home and "PREFECT__FLOW_RUN_ID" in variables:
                    self.found = variables
                    return


def test_a_worker_carries_out_a_run_of_the_deployment_without_telemetry(
    home: Installation, made: dict[str, Any], deployments: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    before = home.what_is_there()
    assert not QUIET.keys() & home.environment.keys(), "the deployment itself brings the switches"
    with worker(home, tmp_path) as process:
        environment = FlowRunEnvironment(home)
        environment.start()
        ran = call(
            home,
            *("deployment", "run", "data-to-model/sandbox", "--watch"),
            *("--param", f"overrides={json.dumps(CHEAP)}"),
        )
        environment.done.set()
        environment.join()
        assert process.poll() is None, "the worker goes on waiting for runs"
    assert "Flow run finished successfully in 'Completed'" in ran.stdout + ran.stderr
    assert {name: environment.found.get(name) for name in QUIET} == QUIET
    after = home.what_is_there()
    for name in ("cubes", "encoders", "encoder folders", "ledger", "called from"):
        assert after[name] == before[name], "everything was made before; it was returned"
    runs = ask(
        home,
        "/flow_runs/filter",
        deployments={"id": {"any_": [deployments["data-to-model/sandbox"]["id"]]}},
    )
    assert [run["state_type"] for run in runs] == ["COMPLETED"]
    assert runs[0]["parameters"]["overrides"] == list(CHEAP)
    assert list(tmp_path.iterdir()) == [], "nothing appears where the worker was started"
