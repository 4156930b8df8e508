"""Runs work in children of a process that runs one thread only, watches where they are, and kills them."""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BEFORE_IMPORTS = {
    # Each of them is a thread that would run before the first fork.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
IMPORTED = (
    *("prefect", "flows.session", "flows.artifacts", "flows.steps.gate", "deployments.sandbox"),
    *("tasks.cube.choose_scenes", "tasks.cube.held_scenes", "tasks.search.scenes"),
    *("deployments.stac_server.folder_changes", "tasks.gate.judge", "tasks.gate.statistics"),
    *("tasks.gate.report", "tasks.gate.cross_check", "tasks.search.side_files", "tasks.readers.registry"),
    *("tasks.readers.direct", "catalog.locations", "catalog.ledger", "catalog.radiometric_cross_check"),
    *("catalog.database", "sqlalchemy.dialects.sqlite", "alembic.command", "alembic.config", "zarr"),
    *("great_expectations", "pandas", "rasterio", "httpx", "filelock", "pystac", "shapely"),
)
"""Not among them: what starts threads when it is imported (``icechunk``), hence neither ``catalog.cubes`` nor
``flows.refresh``. A child imports those in a few hundredths of a second."""

LIMIT_S = 120.0
"""No child may take longer: one that hangs is a violation too."""

PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Kill:
    """When to send SIGKILL."""

    after_s: float
    phase: str | None = None
    """Counted from when the child enters this phase; from its start for None."""
    nth: int = 1
    """Of the times it enters it."""

    def __str__(self) -> str:
        return f"{1000 * self.after_s:.1f} ms into {self.phase or 'the run'}" + (
            f" (no. {self.nth})" if self.nth > 1 else ""
        )


@dataclass(frozen=True)
class Ended:
    """How a child ended."""

    status: int
    """Exit status; negative: the signal that ended it."""
    seconds: float
    entered: tuple[tuple[str, float], ...]
    """Phases in order, each with the second it was entered."""
    answer: Any
    """What the work returned."""
    log: str

    @property
    def killed(self) -> bool:
        return self.status == -signal.SIGKILL

    @property
    def phase(self) -> str:
        """Where it was last."""
        return self.entered[-1][0] if self.entered else "start"


def import_everything() -> None:
    """Make this process one whose children begin to work at once."""
    from flows.environment import QUIET

    os.environ.update(QUIET | BEFORE_IMPORTS)
    for name in IMPORTED:
        importlib.import_module(name)
    # What is here now stays: a child's garbage collector need not look at it, and copies none of its pages.
    gc.collect()
    gc.freeze()
    assert_one_thread()


def assert_one_thread() -> None:
    """No other thread runs, of Python or of a library: after a fork its locks would stay locked for ever."""
    threads = [Path(f"/proc/self/task/{thread}/comm").read_text().strip() for thread in threads_of_this()]
    assert len(threads) == 1, f"forking is unsafe: threads {', '.join(threads)} run"
    opened = [name for name in ("icechunk", "torch") if name in sys.modules]
    assert not opened, f"{opened} must not be imported before the fork"


def threads_of_this() -> list[str]:
    """Threads of this process, of whatever language."""
    return sorted(path.name for path in Path("/proc/self/task").iterdir())


def run(work: Callable[[Callable[[str], None]], Any], log: Path, kill: Kill | None = None) -> Ended:
    """Do ``work`` in a child, and kill that if told so.

    ``work`` is called with a function that says which phase begins; what it returns must be JSON.
    """
    assert_one_thread()
    phases, phases_in = os.pipe()
    answers, answers_in = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(phases)
        os.close(answers)
        _work(work, log, phases_in, answers_in)
    os.close(phases_in)
    os.close(answers_in)
    try:
        entered, answer = _watch(child, began, phases, answers, kill)
    finally:
        os.close(phases)
        os.close(answers)
    _, status = os.waitpid(child, 0)
    seconds = time.monotonic() - began
    said = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    return Ended(os.waitstatus_to_exitcode(status), seconds, tuple(entered), answer, said)


def _work(work: Callable[[Callable[[str], None]], Any], log: Path, phases: int, answers: int) -> None:
    """The child; never returns."""
    status = 1
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)

        def mark(phase: str) -> None:
            os.write(phases, f"{phase}\n".encode())

        answer = work(mark)
        document = json.dumps(answer).encode()
        while document:
            document = document[os.write(answers, document) :]
        status = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _watch(
    child: int, began: float, phases: int, answers: int, kill: Kill | None
) -> tuple[list[tuple[str, float]], Any]:
    """Read what the child says until it ends, and kill it when it is time."""
    entered: list[tuple[str, float]] = []
    said, answered = b"", b""
    at = began + kill.after_s if kill is not None and kill.phase is None else None
    last = began + LIMIT_S
    open_ends = {phases, answers}
    while open_ends:
        now = time.monotonic()
        if now >= min(at or last, last):
            os.kill(child, signal.SIGKILL)
            at, last = None, now + LIMIT_S
            kill = None
        ready, _, _ = select.select(list(open_ends), [], [], max(0.0, min(at or last, last) - now))
        for end in ready:
            part = os.read(end, 1 << 16)
            if not part:
                open_ends.discard(end)
            elif end == answers:
                answered += part
            else:
                moment = time.monotonic()
                *whole, said = (said + part).split(b"\n")
                entered += [(line.decode(), moment - began) for line in whole]
                if kill is not None and kill.phase is not None and at is None:
                    times = [when for name, when in entered if name == kill.phase]
                    if len(times) >= kill.nth:
                        at = began + times[kill.nth - 1] + kill.after_s
    try:
        return entered, json.loads(answered)
    except ValueError:
        return entered, None  # it was killed before it had said all
