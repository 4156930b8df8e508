"""How many samples a chunk should hold: rate of reading against bytes written for one new sample.

``python -m tests.benchmarks.chunk_length``: 64 places × 4 dates of Sentinel-2 L2A in patches of 264 pixels
(778 kB each), one cube per chunk length. Read are all four arrays; *whole chunks* in random order, as the
loader does; *pairs*: two dates of one place, places in random order, once as four refreshes appended them
(each date a run of its own) and once compacted. *Written* is what one commit of one new sample stores, for
each state of the last chunk, over the sample's own raw size.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from catalog.cubes import Cube, open_cube
from tests.benchmarks.commit import DATES, PRODUCT, location, measure, sample, scene, varied
from tests.benchmarks.table import arguments, show, spread

SIDE_PX = 264
PLACES = 64
LENGTHS = (1, 4, 8, 16, 32)


def build(cube: Cube) -> None:
    """One commit per date, as refreshes do."""
    places = [location(number, SIDE_PX) for number in range(PLACES)]
    pixels = [varied(number, SIDE_PX) for number in range(PLACES)]
    for date in range(DATES):
        with cube.write(f"date {date}") as writer:
            writer.add_locations(places)
            of = scene(date, 0)
            made = (sample(of, place, pixels[number]) for number, place in enumerate(places))
            writer.append(PRODUCT, made, [of])


def read(cube: Cube, groups: Sequence[np.ndarray[Any, Any]]) -> float:
    """Groups of rows per second."""
    reader = cube.reader()
    began = time.perf_counter()
    for rows in groups:
        for gsd in PRODUCT.resolutions_m:
            reader.pixels(PRODUCT.id, gsd, rows)
        reader.rows_of(PRODUCT.id, "quality", rows)
    return len(groups) / (time.perf_counter() - began)


def pairs(cube: Cube, rng: np.random.Generator) -> list[np.ndarray[Any, Any]]:
    """Rows of two dates of each place, places shuffled."""
    columns = cube.columns(PRODUCT.id)
    chosen = [
        np.sort(rng.choice(rows, 2, replace=False)) for rows in columns.groupby("location").indices.values()
    ]
    rng.shuffle(chosen)
    return chosen


def row(length: int, runs: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    cube = open_cube(f"chunks-of-{length}", create=True, chunk_samples=length)
    build(cube)
    rows = PLACES * DATES
    whole = [np.arange(start, min(start + length, rows)) for start in range(0, rows, length)]
    singles = [length * read(cube, rng.permutation(np.array(whole))) for _ in range(runs)]
    appended = [read(cube, pairs(cube, rng)) for _ in range(runs)]
    cube.compact()
    compacted = [read(cube, pairs(cube, rng)) for _ in range(runs)]
    new = []
    for number in range(min(length, 32)):
        place, of = location(PLACES + number, SIDE_PX), scene(DATES + number, 1)
        new.append(("new place", place, of, sample(of, place, varied(1000 + number, SIDE_PX))))
    told = [sum(result["bytes"].values()) / result["raw"] for result in measure(cube, new)]
    return {
        "samples per chunk": length,
        "whole chunks: samples/s": spread(singles),
        "pairs/s, as appended": spread(appended),
        "pairs/s, compacted": spread(compacted),
        "written / own size": spread(told),
    }


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(__doc__, argv)
    with tempfile.TemporaryDirectory() as home:
        os.environ["SWATH_HOME"] = str(Path(home))
        os.environ.pop("SWATH_STORE", None)
        rows = [row(length, options.runs or 3) for length in LENGTHS]
    show(
        "Samples per chunk, Sentinel-2 in patches of 778 kB", rows, ("zarr", "icechunk"), as_json=options.json
    )


if __name__ == "__main__":
    main()
