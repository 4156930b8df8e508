"""Which split a place belongs to: spatial blocks drawn by hash, or named tiles, with a buffer between them.

The split of a block is a pure function of the seed and the block: it never depends on which other blocks are
in use, so old places keep theirs when new ones appear. Sixteen neighbouring blocks form a cell in which the
hashes are ranked, and the rank gives the split: shares hold within every full cell to one sixteenth.

A window belongs to the block that holds its centre. Where a buffer is asked for, it is kept only if nothing
within half the buffer of it belongs to another split: any way from one split to another crosses such a margin
twice, so windows of different splits are a whole buffer apart. Without one, windows of different splits may
touch; that they never overlap is seen to where they are laid out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from catalog.errors import UsageError
from catalog.recipes import SplitRule
from catalog.scenes import Scene
from catalog.windows import Windows, equator_m, from_degrees, zones_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SPLITS = ("pretrain", "probe", "test")
CELL = 4
"""Blocks along the side of a cell."""
SCALE_MARGIN = 1.002
"""UTM lengths exceed true ones by up to 0.1 % at a zone's edge (0.13 % in Norway's wide zone), 0.2 % where
scenes reach beyond it."""
EARTH_RADIUS_M = 6_371_000.0
DROPPED = -1


@dataclass(frozen=True)
class Assignment:
    """Split (index into ``SPLITS``, -1 where the window is dropped) and block id of every window."""

    split: NDArray[np.int8]
    block: list[str]


def assign(
    windows: Windows, rule: SplitRule, seed: int, scenes: Sequence[Scene], shift_m: float
) -> Assignment:
    """Split and block of every window.

    ``shift_m`` is how far a product's own grid can move a window; it widens the buffer where there is one.
    """
    if rule.by == "tile":
        return _by_tile(windows, rule, scenes, shift_m)
    return _by_block(windows, rule, seed, shift_m)


def block_split(rule: SplitRule, seed: int, epsg: int, i: int, j: int) -> str:
    """The split of block (i, j) of a UTM zone: easting from i·block_m, from the equator j·block_m."""
    return SPLITS[_drawn(_shares(rule), seed, rule.block_m, epsg, i, j)]


def block_id(rule: SplitRule, epsg: int, i: int, j: int) -> str:
    """``32n-b1440-480-3698``: zone, side in metres, column, row."""
    return f"{epsg % 100:02d}{'n' if epsg < 32700 else 's'}-b{rule.block_m:g}-{i}-{j}"


def _by_block(windows: Windows, rule: SplitRule, seed: int, shift_m: float) -> Assignment:
    import numpy as np

    split, blocks = _of_centres(windows, rule, seed)
    if rule.buffer_m == 0:
        return Assignment(split, blocks)
    margin = rule.buffer_m / 2 * SCALE_MARGIN + shift_m
    # Borders of zones are curved on the plane, steepest at 72° N, and may bulge in between two corners.
    margin += (windows.size_m + 2 * margin) ** 2 / (2 * EARTH_RADIUS_M)
    mixed = np.zeros(len(windows), bool)
    longitude, latitude = windows.corners_degrees(margin)
    zones = zones_of(longitude, latitude)
    for epsg in (int(code) for code in np.unique(zones)):
        rows = np.flatnonzero((zones == epsg).any(axis=1))
        if epsg == windows.epsg:
            x, y = windows.corners(margin)
            x, y = x[rows], y[rows]
        else:
            x, y = from_degrees(epsg, longitude[rows], latitude[rows])
        low_i, high_i = _touched(x, rule.block_m)
        low_j, high_j = _touched(y - equator_m(epsg), rule.block_m)
        for di in range(int((high_i - low_i).max()) + 1):
            for dj in range(int((high_j - low_j).max()) + 1):
                i, j = np.minimum(low_i + di, high_i), np.minimum(low_j + dj, high_j)
                mixed[rows] |= _draw(rule, seed, epsg, i, j) != split[rows]
    return Assignment(np.where(mixed, DROPPED, split).astype(np.int8), blocks)


def _of_centres(windows: Windows, rule: SplitRule, seed: int) -> tuple[NDArray[np.int8], list[str]]:
    """Split and id of the block that holds each window's centre."""
    import numpy as np

    split = np.full(len(windows), DROPPED, np.int8)
    blocks = [""] * len(windows)
    centre_longitude, centre_latitude = windows.centres_degrees()
    own = zones_of(centre_longitude, centre_latitude)
    for epsg in (int(code) for code in np.unique(own)):
        rows = np.flatnonzero(own == epsg)
        if epsg == windows.epsg:
            x, y = windows.centres()
            x, y = x[rows], y[rows]
        else:
            x, y = from_degrees(epsg, centre_longitude[rows], centre_latitude[rows])
        columns = np.floor(x / rule.block_m).astype(np.int64)
        lines = np.floor((y - equator_m(epsg)) / rule.block_m).astype(np.int64)
        split[rows] = _draw(rule, seed, epsg, columns, lines)
        for row, i, j in zip(rows.tolist(), columns.tolist(), lines.tolist(), strict=True):
            blocks[row] = block_id(rule, epsg, i, j)
    return split, blocks


def _touched(values: NDArray[np.float64], side: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last block that ``(window, corner)`` coordinates reach into; touching an edge is no reach."""
    import numpy as np

    low = np.floor(values.min(axis=1) / side + 1e-9).astype(np.int64)
    high = np.ceil(values.max(axis=1) / side - 1e-9).astype(np.int64) - 1
    return low, np.maximum(low, high)


def _draw(
    rule: SplitRule, seed: int, epsg: int, i: NDArray[np.int64], j: NDArray[np.int64]
) -> NDArray[np.int8]:
    import numpy as np

    pairs, index = np.unique(np.stack([i, j], axis=1), axis=0, return_inverse=True)
    shares = _shares(rule)
    drawn = [_drawn(shares, seed, rule.block_m, epsg, int(a), int(b)) for a, b in pairs]
    return np.asarray(drawn, np.int8)[index.reshape(-1)]


def _shares(rule: SplitRule) -> tuple[float, ...]:
    return tuple(float(rule.shares.get(name, 0.0)) for name in SPLITS)  # type: ignore[call-overload]


def _drawn(shares: tuple[float, ...], seed: int, side: float, epsg: int, i: int, j: int) -> int:
    rank = _ranks(seed, side, epsg, i // CELL, j // CELL)[(i % CELL, j % CELL)]
    reached = 0.0
    for index, share in enumerate(shares):
        reached += share
        if rank < reached:
            return index
    return max(index for index, share in enumerate(shares) if share > 0)


@lru_cache(maxsize=65536)
def _ranks(seed: int, side: float, epsg: int, column: int, row: int) -> dict[tuple[int, int], float]:
    """Position in a cell → its rank as a share of 1, evenly spaced from an offset that is the cell's own."""
    places = [(a, b) for a in range(CELL) for b in range(CELL)]
    ranked = sorted(
        places,
        key=lambda place: _digest(seed, side, epsg, column * CELL + place[0], row * CELL + place[1]),
    )
    offset = int.from_bytes(_digest("cell", seed, side, epsg, column, row)[:8], "big") / 2**64
    return {place: (position + offset) / len(places) for position, place in enumerate(ranked)}


def _digest(*parts: object) -> bytes:
    return hashlib.sha256("|".join(map(str, parts)).encode()).digest()


def _by_tile(windows: Windows, rule: SplitRule, scenes: Sequence[Scene], shift_m: float) -> Assignment:
    """By the tile that covers a window's centre; within a buffer of another split's tiles it is dropped."""
    import numpy as np
    import shapely

    if not scenes:
        raise UsageError(
            "tiles-need-scenes",
            "`by: tile` takes splits from the scenes' tiles, and there are no scenes",
            subject="locations.split.by",
            next_step="use `by: block`, or choose an area and period with scenes",
        )
    split_of = {tile: SPLITS.index(name) for name, tiles in rule.tiles.items() for tile in tiles}
    outlines: dict[str, Any] = {}
    for tile in sorted(split_of):
        shapes = {
            str(scene.geometry): shapely.make_valid(shapely.geometry.shape(dict(scene.geometry)))
            for scene in scenes
            if scene.tile == tile
        }
        if shapes:
            outlines[tile] = shapely.unary_union(list(shapes.values()))
    if not outlines:
        raise UsageError(
            "no-such-tiles",
            f"no scene lies in the tiles of `locations.split.tiles`; there are: "
            f"{', '.join(sorted({scene.tile for scene in scenes}))}",
            subject="locations.split.tiles",
            next_step="name some of these",
        )
    margin = rule.buffer_m * SCALE_MARGIN + shift_m if rule.buffer_m > 0 else 0.0
    neighbourhoods = windows.polygons_degrees(margin)
    centres = shapely.points(*windows.centres_degrees())
    split = np.full(len(windows), DROPPED, np.int8)
    mixed = np.zeros(len(windows), bool)
    blocks = [""] * len(windows)
    for tile, outline in outlines.items():
        shapely.prepare(outline)
        inside = shapely.contains(outline, centres)
        # Without a buffer the centre's tile decides, as it does for blocks: tiles that touch are no conflict.
        near = shapely.intersects(neighbourhoods, outline) if margin else inside
        mixed |= near & (split != DROPPED) & (split != split_of[tile])
        split[near & (split == DROPPED)] = split_of[tile]
        for row in np.flatnonzero(inside):
            blocks[row] = blocks[row] or tile
    split[mixed | np.asarray([not block for block in blocks], bool)] = DROPPED
    return Assignment(split, blocks)
