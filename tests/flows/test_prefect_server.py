"""A flow that is called without a Prefect server brings its own, and takes it away again."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.flows.installation import CHEAP, Installation, command, settings_of

FLUSHED_WITHIN_S = 30
"""Prefect itself would try for more than a minute to reach the server that has gone."""


def servers_of(home: Path) -> list[str]:
    """Prefect servers whose files lie in this installation, by the port they were told."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode().split("\0")
            variables = (process / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "server" in words and "--port" in words and f"PREFECT_HOME={home / 'prefect'}" in variables:
            found.append(words[words.index("--port") + 1])
    return found


def test_its_own_server_is_gone_when_the_command_ends_and_nothing_is_lost_or_waited_for(
    home: Installation, made: dict[str, Any]
) -> None:
    before = servers_of(home.home)
    assert [f":{port}/" in home.api_url for port in before] == [True], "the one of the session"
    environment = home.environment
    del environment["PREFECT_API_URL"]
    process = subprocess.Popen(
        command("run", "refresh", "--recipe", "sandbox", *settings_of(CHEAP)),
        env=environment,
        cwd=home.elsewhere,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines: list[str] = []
    spoken = 0.0
    for line in process.stdout:
        lines.append(line.rstrip())
        spoken = time.monotonic() if "Finished in state" in line else spoken
    assert process.wait() == 0
    assert time.monotonic() - spoken < FLUSHED_WITHIN_S
    assert lines[-1] == "refresh: nothing new; no asset read, nothing committed"
    assert not [line for line in lines if "Error" in line or "WARNING" in line]
    assert servers_of(home.home) == before


def test_its_own_server_ends_when_the_command_is_killed(home: Installation, made: dict[str, Any]) -> None:
    before = servers_of(home.home)
    environment = home.environment
    del environment["PREFECT_API_URL"]
    process = subprocess.Popen(
        command("run", "refresh", "--recipe", "sandbox", *settings_of(CHEAP)),
        env=environment,
        cwd=home.elsewhere,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while servers_of(home.home) == before:
        assert time.monotonic() < deadline, "it started no server"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while servers_of(home.home) != before:
        assert time.monotonic() < deadline, "the server outlived the command"
        time.sleep(0.1)
