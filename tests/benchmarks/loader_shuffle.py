"""How far the loader's order is from a full shuffle: one epoch over 20,000 samples, 16 per chunk.

Displacement: mean distance between a sample's place in the epoch and in the cube, as a share of the epoch
(one third for a full shuffle). Correlation: of both places, by rank. Chunks per batch: of 1,250, how many the
256 samples of a batch come from. Seen again: how many samples pass before a chunk is done with, as a share of
the epoch, which is what has to be held in memory.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from models.sample_pool import BatchPlan, SamplePool
from tests.benchmarks.table import arguments, show, spread

PLACES, DATES, CHUNK, BATCH = 10_000, 2, 16, 256


def main(argv: Sequence[str] | None = None) -> list[dict[str, Any]]:
    options = arguments(__doc__, argv)
    rows = []
    for window in (1, 4, 16, 64, PLACES * DATES // CHUNK):
        measured = [measure(window, seed) for seed in range(options.runs or 5)]
        rows.append(
            {"window, chunks": window} | {key: spread([one[key] for one in measured]) for key in measured[0]}
        )
    show("order of the loader", rows, ("numpy",), as_json=options.json)
    return rows


def measure(window: int, seed: int) -> dict[str, float]:
    """One epoch's order, in figures."""
    count = PLACES * DATES
    pool = _pool()
    plan = BatchPlan(pool, BATCH, 1, seed, chunk_rows=CHUNK, window_chunks=window)
    (order,), _ = plan.cube_rows(0, count)
    at = np.arange(count)
    batches = order[: count // BATCH * BATCH].reshape(-1, BATCH) // CHUNK
    first, last = np.full(count // CHUNK, count), np.zeros(count // CHUNK, np.int64)
    np.minimum.at(first, order // CHUNK, at)
    np.maximum.at(last, order // CHUNK, at)
    return {
        "displacement": float(np.abs(order - at).mean() / count),
        "correlation": float(np.corrcoef(order, at)[0, 1]),
        "chunks per batch": float(np.mean([len(np.unique(batch)) for batch in batches])),
        "seen again": float((last - first).mean() / count),
    }


def _pool() -> SamplePool:
    rows = np.arange(PLACES * DATES)
    names = rows.astype(str)
    return SamplePool(
        product="made-up",
        snapshot="made-up",
        rows=rows,
        ids=names,
        scenes=names,
        sha256=names,
        places=rows // DATES,
        place_ids=tuple(map(str, range(PLACES))),
        starts=np.arange(PLACES + 1) * DATES,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
