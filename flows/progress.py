"""Progress bars on stderr; where stderr is no terminal, one line at the start and end of each job."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

Progress = Callable[[str, int, int], None]
"""``progress(what, done, total)``"""


@contextlib.contextmanager
def bars() -> Iterator[Progress]:
    """Yield a function ``progress(what, done, total)`` that draws one bar per ``what``."""
    if sys.stderr.isatty():
        with _terminal_bars() as progress:
            yield progress
    else:
        yield _line_progress()


@contextlib.contextmanager
def _terminal_bars() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    with Progress(
        TextColumn("{task.description:<42}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as drawn:
        tasks: dict[str, int] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = drawn.add_task(what, total=total)
            drawn.update(tasks[what], completed=done, total=total)  # type: ignore[arg-type]

        yield progress


def _line_progress() -> Progress:
    started: dict[str, float] = {}
    spoken: dict[str, float] = {}

    def progress(what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if what not in started:
            started[what] = spoken[what] = now
            sys.stderr.write(f"{what}: 0/{total}\n")
        if done >= total and started[what] != float("inf"):
            sys.stderr.write(f"{what}: {done}/{total} in {now - started[what]:.1f} s\n")
            started[what] = float("inf")
        elif now - spoken[what] > 10:
            spoken[what] = now
            sys.stderr.write(f"{what}: {done}/{total}\n")
        sys.stderr.flush()

    return progress
