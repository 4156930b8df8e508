"""Readers by name."""

from __future__ import annotations

from catalog.errors import UsageError
from catalog.recipes import READERS
from tasks.readers.contract import Reader


def load_reader(name: str = "direct", *, verify_checksums: bool = False) -> Reader:
    """A reader by name.

    Parameters
    ----------
    verify_checksums: fetch each file whole, and compare it with its item's checksum where there is one

    Raises
    ------
    UsageError: ``unknown-reader``.
    """
    if name == "direct":
        from tasks.readers.direct import DirectReader

        return DirectReader(verify_checksums=verify_checksums)
    if name == "stackstac":
        from tasks.readers.stackstac import stackstac_reader

        return stackstac_reader(verify_checksums=verify_checksums)
    if name == "odc-stac":
        from tasks.readers.odc_stac import odc_stac_reader

        return odc_stac_reader(verify_checksums=verify_checksums)
    raise UsageError(
        "unknown-reader",
        f"there is no reader {name!r}; known: {', '.join(READERS)}",
        subject=name,
        next_step="choose one of these",
    )


__all__ = ["READERS", "load_reader"]
