"""Readers by name."""

from __future__ import annotations

from catalog.errors import UsageError
from tasks.readers.contract import Reader

READERS = ("direct",)
"""Names that ``load_reader`` knows."""


def load_reader(name: str = "direct", *, verify_checksums: bool = False) -> Reader:
    """A reader by name.

    Parameters
    ----------
    verify_checksums: fetch each file whole, and compare it with its item's checksum where there is one

    Raises
    ------
    UsageError: ``unknown-reader``.
    """
    if name not in READERS:
        raise UsageError(
            "unknown-reader",
            f"there is no reader {name!r}; known: {', '.join(READERS)}",
            subject=name,
            next_step="choose one of these",
        )
    from tasks.readers.direct import DirectReader

    return DirectReader(verify_checksums=verify_checksums)
