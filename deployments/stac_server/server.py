"""Starts and stops an archive server as a process of its own."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catalog.errors import ArchiveError, UsageError
from deployments.stac_server.faults import Fault

START_LIMIT_S = 60.0
STOP_LIMIT_S = 5.0


@dataclass(frozen=True)
class ArchiveServer:
    """A running archive."""

    url: str
    """``http://127.0.0.1:PORT``, without a slash at the end."""
    folder: Path
    log: Path
    pid: int

    def requests(self) -> dict[str, Any]:
        """What was asked for since the start or the last reset; the keys are in ``request_log``."""
        counts: dict[str, Any] = json.loads(_ask(self.url, "GET", "/_requests"))
        return counts

    def reset_requests(self) -> None:
        """Start the counts anew."""
        _ask(self.url, "DELETE", "/_requests")

    def set_faults(self, faults: Sequence[Fault]) -> None:
        """What goes wrong from now on, instead of what did before; nothing for an empty list."""
        _ask(self.url, "PUT", "/_faults", body=json.dumps([fault.to_dict() for fault in faults]).encode())

    def faults(self) -> list[dict[str, Any]]:
        """The faults with how many requests fitted (``seen``) and were spoiled (``applied``)."""
        answer: list[dict[str, Any]] = json.loads(_ask(self.url, "GET", "/_faults"))
        return answer


@contextmanager
def serve_archive(
    folder: Path, port: int = 0, *, log: Path | None = None, host: str = "127.0.0.1"
) -> Iterator[ArchiveServer]:
    """Serve an archive folder for the length of the ``with`` block.

    The server runs in a session of its own (a Ctrl-C meant for the caller does not reach it), is stopped at
    the end, and stops by itself within a second when this process dies. ``log`` is ``server.log`` in the
    folder unless given.

    Raises
    ------
    UsageError:   the port is taken, or the folder is no archive folder.
    ArchiveError: the server ended before it answered; the message ends with its last line.
    """
    folder = folder.expanduser().resolve()
    if not (folder / "items").is_dir():
        raise UsageError(
            "not-an-archive-folder",
            f"{folder} has no items/ folder",
            subject=str(folder),
            next_step="prepare a folder of scenes first, or make the sandbox",
        )
    log = log or folder / "server.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    # The socket is made here and handed over: the port is known at once and no other process can take it.
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
        except OSError as error:
            raise UsageError(
                "port-taken",
                f"cannot listen on {host}:{port}: {error.strerror}",
                subject=str(port),
                next_step="name another port, or 0 for a free one",
            ) from error
        listening.listen(512)
        url = f"http://{host}:{listening.getsockname()[1]}"
        process = _start(folder, listening, log)
    try:
        _wait_until_it_answers(process, url, log)
        yield ArchiveServer(url=url, folder=folder, log=log, pid=process.pid)
    finally:
        _stop(process)


def serves(url: str, folder: Path) -> bool:
    """Whether a server at ``url`` is one of ours over ``folder``."""
    try:
        title: object = json.loads(_ask(url, "GET", "/", timeout=2)).get("title")
        return title == title_of(folder)
    except (OSError, ValueError):
        return False


def title_of(folder: Path) -> str:
    """Title of the landing page: the folder's name and a digest of its path."""
    path = folder.expanduser().resolve()
    return f"Swath archive {path.name} {hashlib.sha256(str(path).encode()).hexdigest()[:12]}"


def _start(folder: Path, listening: socket.socket, log: Path) -> subprocess.Popen[bytes]:
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [
        *(sys.executable, "-m", "deployments.stac_server", "--folder", str(folder)),
        *("--fd", str(listening.fileno()), "--parent", str(os.getpid())),
        *("--title", title_of(folder)),
    ]
    with log.open("ab") as sink:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            pass_fds=(listening.fileno(),),
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )


def _wait_until_it_answers(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        try:
            _ask(url, "GET", "/_mgmt/ping", timeout=2)
            return
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.05)
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["no output"]
    raise ArchiveError(
        "archive-server-failed",
        f"the server did not come up: {lines[-1]}",
        subject=str(log.parent),
        next_step=f"read {log}",
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask, wait, insist."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ask(url: str, method: str, path: str, timeout: float = 10, body: bytes | None = None) -> bytes:
    """One request straight to the server; proxies named in the environment are not for it."""
    host, _, port = url.removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        content = answer.read()
    except http.client.HTTPException as error:
        raise ConnectionError(str(error)) from error
    finally:
        connection.close()
    if answer.status >= 400:
        raise ConnectionError(f"{method} {path}: {answer.status}")
    return content
