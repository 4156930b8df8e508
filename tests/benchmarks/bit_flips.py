"""How many single flipped bits of a raster file go unnoticed when its pixels are read, per compression.

``python -m tests.benchmarks.bit_flips``: one bit at a time is flipped behind the first tenth of a simulated
Cloud-Optimized GeoTIFF, and all its full-resolution pixels are read. A flip is *noticed* where GDAL reports
an error, *silent* where pixels differ and nothing was reported, *without effect* where every pixel is right
(it lies in an overview, or in bytes that nobody reads).
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from tests.benchmarks.table import show

COMPRESSIONS: dict[str, dict[str, str]] = {
    "none": {"compress": "NONE"},
    "LZW, predictor": {"compress": "LZW", "predictor": "YES"},
    "DEFLATE": {"compress": "DEFLATE"},
    "DEFLATE, predictor": {"compress": "DEFLATE", "predictor": "YES"},
    "ZSTD, predictor": {"compress": "ZSTD", "predictor": "YES"},
}


@dataclass(frozen=True)
class Counts:
    """What became of the flips of one compression."""

    noticed: int
    silent: int
    without_effect: int

    @property
    def silent_share(self) -> float:
        """Of the flips that changed pixels or were reported."""
        told = self.noticed + self.silent
        return self.silent / told if told else float("nan")


def ground(seed: int, side: int) -> NDArray[np.uint16]:
    """Something like reflectance: smooth fields with noise, 16 bits."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side
    fields = 2500 + 800 * np.sin(9 * x) * np.cos(7 * y)
    return np.round(fields + rng.normal(0, 60, (side, side))).astype(np.uint16)


def write(values: NDArray[np.uint16], options: dict[str, str]) -> bytes:
    with rasterio.MemoryFile() as memory:
        with memory.open(
            driver="COG", width=values.shape[1], height=values.shape[0], count=1, dtype="uint16",
            crs="EPSG:32632", transform=rasterio.Affine(10, 0, 600_000, 0, -10, 5_400_000), nodata=0,
            blocksize=256, **options,
        ) as file:  # fmt: skip
            file.write(values, 1)
        return bytes(memory.read())


def measure(options: dict[str, str], trials: int, seed: int, side: int = 1024) -> Counts:
    """Flip ``trials`` bits, one at a time."""
    values = ground(seed, side)
    content = write(values, options)
    rng = random.Random(seed)
    noticed = silent = without_effect = 0
    for _ in range(trials):
        flipped = bytearray(content)
        flipped[rng.randrange(len(content) // 10, len(content))] ^= 1 << rng.randrange(8)
        try:
            with rasterio.MemoryFile(bytes(flipped)) as memory, memory.open() as file:
                read = file.read(1)
        except RasterioError:
            noticed += 1
            continue
        if np.array_equal(read, values):
            without_effect += 1
        else:
            silent += 1
    return Counts(noticed, silent, without_effect)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args(argv)
    rows = []
    for name, how in COMPRESSIONS.items():
        counts = measure(how, options.trials, options.seed)
        rows.append(
            {
                "compression": name,
                "noticed": counts.noticed,
                "silent": counts.silent,
                "without effect": counts.without_effect,
                "silent share": f"{counts.silent_share:.0%}",
            }
        )
    show(f"{options.trials} flipped bits", rows, ("rasterio",), as_json=options.json)


if __name__ == "__main__":
    main()
