"""Which places show the same ground: windows that overlap, directly or through others between them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from catalog.locations.apart import Table, too_close
from catalog.samples import Location


def same_ground(places: Sequence[Location]) -> NDArray[np.int64]:
    """A number per place, equal where windows overlap; a place that overlaps none has its own position.

    Equality must hold through others: if A overlaps B and B overlaps C, all three are one ground. Windows of
    several sizes are judged by the largest. In a grid whose windows all overlap everything is one ground, and
    nothing is left to tell apart: sample places without overlap for methods that need negatives.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(places)
    size_m = max((place.size_m for place in places), default=0.0)
    table = Table(
        np.array([place.epsg for place in places], np.int64),
        np.array([place.x - size_m / 2 for place in places], np.float64),
        np.array([place.y + size_m / 2 for place in places], np.float64),
        np.array([place.longitude for place in places], np.float64),
        np.array([place.latitude for place in places], np.float64),
        size_m,
    )
    pairs = list(too_close(table, None)) if count > 1 else []
    if not sum(len(later) for later, _ in pairs):
        return np.arange(count)
    later, earlier = (np.concatenate(rows) for rows in zip(*pairs, strict=True))
    graph = coo_array((np.ones(len(later), bool), (later, earlier)), shape=(count, count))
    _, member = connected_components(graph, directed=False)
    # The first place of each group names it, so that places alone keep their own number.
    _, first = np.unique(member, return_index=True)
    return np.asarray(first[member], np.int64)
