"""Puts a session's time steps into order: new ones are written at the end, then chunks are renamed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import icechunk
import numpy as np
import zarr


def grow(group: zarr.Group, count: int) -> None:
    """Give every array of a group along ``time`` this length; the new entries hold the fill value."""
    for member in _along_time(group):
        member.resize((count, *member.shape[1:]))


def arrange(session: icechunk.Session, group: zarr.Group, order: Sequence[int]) -> None:
    """Keep the time steps ``order`` of a group, in that order; the others go.

    No pixel is copied: chunks hold one time each, and get another place in the manifest.
    """
    arrays = _along_time(group)
    total = arrays[0].shape[0] if arrays else 0
    rest = [index for index in range(total) if index not in set(order)]
    source = [*order, *rest]
    if source != list(range(total)):
        target = {old: new for new, old in enumerate(source)}
        for member in arrays:
            if member.ndim > 2:

                def forward(index: Iterable[int]) -> list[int]:
                    first, *others = index
                    return [target[first], *others]

                def backward(index: Iterable[int]) -> list[int]:
                    first, *others = index
                    return [source[first], *others]

                session.reindex_array(f"/{member.path}", forward, backward)
            else:
                member[:] = np.asarray(member[:])[source]
    grow(group, len(order))


def _along_time(group: zarr.Group) -> list[zarr.Array[Any]]:
    return [
        member
        for _, member in group.arrays()
        if member.metadata.dimension_names and member.metadata.dimension_names[0] == "time"  # type: ignore[union-attr]
    ]
