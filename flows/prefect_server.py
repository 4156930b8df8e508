"""Prefect's own server for the length of one command: own session, log file and port, stopped at the end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx

from catalog.errors import SwathError
from catalog.settings import Settings

START_TIMEOUT_S = 120.0
SEND_TIMEOUT_S = 10.0
ENDS_WITH_ITS_PARENT = """
import ctypes, os, runpy, signal, sys
parent = int(sys.argv.pop(1))
if sys.platform == "linux":
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise SystemExit(0)
runpy.run_module("prefect", run_name="__main__", alter_sys=True)
"""
"""``python -m prefect`` that is told to stop when whoever started it is killed (on Linux)."""


@contextlib.contextmanager
def prefect_server(settings: Settings) -> Iterator[str]:
    """Yield the API address of a Prefect server: the user's (``PREFECT_API_URL``), or one started here.

    The ephemeral server that Prefect starts by itself can leave an orphan and prints errors as it shuts down;
    this one is an ordinary server in its own session whose log lies in ``SWATH_HOME/prefect/server.log``.

    Raises
    ------
    SwathError: ``prefect-server-failed`` when it is not healthy within two minutes.
    """
    given = os.environ.get("PREFECT_API_URL")
    if given:
        try:
            yield given
        finally:
            _send_what_waits()
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    log_path = settings.home / "prefect" / "server.log"
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", ENDS_WITH_ITS_PARENT, str(os.getpid())),
                *("server", "start", "--host", "127.0.0.1", "--port", str(port)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait_until_healthy(process, url, str(log_path))
        os.environ["PREFECT_API_URL"] = url
        yield url
    finally:
        os.environ.pop("PREFECT_API_URL", None)
        _send_what_waits()
        _stop(process)


def _wait_until_healthy(process: subprocess.Popen[bytes], url: str, log_path: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health", timeout=2).is_success:
                return
        time.sleep(0.1)
    raise SwathError(
        "prefect-server-failed",
        "Prefect's server did not start",
        subject=log_path,
        next_step="read that log, or set PREFECT_API_URL to a server that runs",
    )


def _send_what_waits() -> None:
    """Send the last logs and events now, before anything else is said and while the server still listens.

    Prefect does it as the interpreter ends, and tries for more than a minute to reach a server that has gone.
    """
    for module, service in (
        ("prefect.logging.handlers", "APILogWorker"),
        ("prefect.events.worker", "EventsWorker"),
    ):
        if module in sys.modules:
            getattr(sys.modules[module], service).drain_all(timeout=SEND_TIMEOUT_S)


def _stop(process: subprocess.Popen[bytes]) -> None:
    for sign, patience_s in ((signal.SIGTERM, 10), (signal.SIGKILL, 5)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
            return
