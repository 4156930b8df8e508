"""Says in one line that a disk is full, whichever library met it first."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from catalog.errors import SwathError

SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
SAID = ("no space left on device", "os error 28", "database or disk is full", "disk quota exceeded")
"""Icechunk, SQLAlchemy and GDAL pass the system's error on as text only."""


@contextmanager
def told_when_full(folder: Path) -> Iterator[None]:
    """Tell what failed for want of space below ``folder`` as that, not as what it looked like to a library.

    Raises
    ------
    SwathError: ``disk-full``.
    """
    try:
        yield
    except Exception as error:
        if not is_for_want_of_space(error):
            raise
        raise SwathError(
            "disk-full",
            "there is no space left to write to; nothing of what was being written is visible",
            subject=str(folder),
            next_step="free space there and in the folder for temporary files, then rerun: "
            "what was committed is not done again",
        ) from error


def is_for_want_of_space(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, is about a full disk."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in SPACE:
            return True
        if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
            return True
        if any(words in str(error).lower() for words in SAID):
            return True
        error = error.__cause__ or error.__context__
    return False
