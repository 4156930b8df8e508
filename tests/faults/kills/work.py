"""What children do: refresh, compact, expire; with chunks and spools so small that a commit writes many."""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.faults.kills.phases import Mark, mark_phases

CUBE = "kills"
CHUNK_BYTES = 36_000
"""Two samples per chunk or so."""
SPOOL_BYTES = 4_000


_settled: list[Path] = []


def settle_in(home: Path, mark: Mark) -> None:
    """Make this child one of an installation of its own, once."""
    if _settled:
        return
    _settled.append(home)
    temporary = home.parent / "tmp"
    temporary.mkdir(exist_ok=True)
    os.environ |= {"SWATH_HOME": str(home), "TMPDIR": str(temporary), "PREFECT_HOME": str(home / "prefect")}
    os.environ.pop("SWATH_STORE", None)
    os.environ.pop("SWATH_DATABASE_URL", None)
    tempfile.tempdir = str(temporary)
    mark_phases(mark)
    from catalog.cubes import layout, spool
    from tasks.cube.spool import SceneSpool

    layout.CHUNK_BYTES = CHUNK_BYTES
    spool.IN_MEMORY_BYTES = SPOOL_BYTES
    SceneSpool.__init__.__defaults__ = (SPOOL_BYTES,)  # type: ignore[misc]


def refresh(home: Path, recipe: Path, overrides: tuple[str, ...], mark: Mark) -> Any:
    """The flow itself, to its end."""
    settle_in(home, mark)
    from flows.refresh import refresh as flow

    return flow.fn(str(recipe), list(overrides))["lines"]


def refresh_in_portions(home: Path, recipe: Path, overrides: tuple[str, ...], mark: Mark) -> Any:
    """The same with a commit after each scene, as a refresh of very many has one now and then."""
    settle_in(home, mark)
    from catalog.cubes.writer import CubeWriter

    made = CubeWriter.__init__

    def make(writer: CubeWriter, *given: Any, **named: Any) -> None:
        made(writer, *given, **named)
        writer._commit_every_bytes = 1

    CubeWriter.__init__ = make  # type: ignore[method-assign]
    return refresh(home, recipe, overrides, mark)


def compact(home: Path, mark: Mark) -> Any:
    settle_in(home, mark)
    from catalog.cubes import open_cube

    return bool(open_cube(CUBE).compact().committed)


def expire(home: Path, mark: Mark) -> Any:
    """Let every snapshot go but the newest and what a tag names."""
    settle_in(home, mark)
    from catalog.cubes import open_cube

    return len(open_cube(CUBE).expire(datetime.now(UTC)).snapshots)


def tag_oldest(home: Path, mark: Mark) -> Any:
    """What an encoder would point to."""
    settle_in(home, mark)
    from catalog.cubes import open_cube

    cube = open_cube(CUBE)
    cube.tag("an-encoder", cube.history()[-1].id)
