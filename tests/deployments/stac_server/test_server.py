"""The server's process: how it starts, follows its folder and ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from catalog.errors import ArchiveError, UsageError
from deployments.stac_server import serve_archive
from tests.deployments.stac_server.conftest import SCENES, make_item, write_archive_folder

PARENT = """
import sys, time
from pathlib import Path
from deployments.stac_server import serve_archive
with serve_archive(Path(sys.argv[1])) as server:
    print(server.pid, server.url, flush=True)
    time.sleep(60)
"""


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that ended and waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_until(condition: object, limit_s: float = 15) -> bool:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.05)
    return False


def test_the_server_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    folder = write_archive_folder(tmp_path / "archive")
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert parent.stdout is not None
    pid, url = parent.stdout.readline().split()
    assert httpx.get(f"{url}/_mgmt/ping").status_code == 200
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert wait_until(lambda: not is_alive(int(pid)))


def test_the_server_has_a_session_of_its_own_and_ends_with_the_block(tmp_path: Path) -> None:
    folder = write_archive_folder(tmp_path / "archive")
    with serve_archive(folder) as server:
        assert os.getsid(server.pid) == server.pid
        assert server.log.is_file()
    assert not is_alive(server.pid)
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url)


def test_new_scenes_are_served_without_a_restart(tmp_path: Path) -> None:
    folder = write_archive_folder(tmp_path / "archive")
    with serve_archive(folder) as server:
        assert httpx.get(f"{server.url}/search").json()["numberMatched"] == SCENES + 1
        listing = folder / "items" / "optical.ndjson"
        written = folder / "items" / "optical.new"
        written.write_text(
            listing.read_text(encoding="utf-8") + json.dumps(make_item(25)) + "\n", encoding="utf-8"
        )
        written.replace(listing)
        assert httpx.get(f"{server.url}/search").json()["numberMatched"] == SCENES + 2


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    folder = write_archive_folder(tmp_path / "archive")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UsageError) as caught, serve_archive(folder, port=port):
            pass
    assert caught.value.code == "port-taken"


def test_a_folder_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught, serve_archive(tmp_path):
        pass
    assert caught.value.code == "not-an-archive-folder"


def test_a_broken_line_is_named_with_its_file(tmp_path: Path) -> None:
    folder = write_archive_folder(tmp_path / "archive")
    with (folder / "items" / "radar.ndjson").open("a", encoding="utf-8") as lines:
        lines.write("{not json\n")
    with pytest.raises(ArchiveError) as caught, serve_archive(folder):
        pass
    assert caught.value.code == "archive-server-failed"
    assert "radar.ndjson: line 2" in caught.value.message
