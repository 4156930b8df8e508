"""Samples per second from a cube, shuffled, beside decoding alone and beside other ways to store samples.

One process; every contender in turn within each run, on the same samples, page cache warm, at 1 and at 2
threads, handing out batches of 32. The limit decodes the cube's own lz4 chunks (quality flags included) from
memory into buffers that it uses again. Pairs: two dates of one place, or both products of one place; a pair
is two samples, so pairs at half the single rate would be the same bytes per second.
"""

from __future__ import annotations

import itertools
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.joined_pool import JoinedPlan, open_joined
from models.physical_pixels import choose_bands, physical_pixels
from models.sample_batches import BatchStream, RawBatch, SampleReader
from models.sample_pool import BatchPlan, open_pool
from tests.benchmarks import loader_contenders as others
from tests.benchmarks.loader_contenders import BATCH, ChunksInMemory, Contender
from tests.benchmarks.loader_scenes import DATES, OPTICAL, RADAR, cut, make_cube, scenery
from tests.benchmarks.table import arguments, show, spread

PLACES = 400
PASSES = 5
PACKAGES = ("zarr", "icechunk", "numcodecs", "numpy", "rasterio", "webdataset", "litdata")


def main(argv: Sequence[str] | None = None, *, places: int = PLACES) -> list[dict[str, Any]]:
    options = arguments(__doc__, argv)
    random.seed(0)
    ground, kind = scenery()
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(SWATH_HOME=home)
        for name in ("SWATH_STORE", "SWATH_DATABASE_URL"):
            os.environ.pop(name, None)
        cube = make_cube(places, ground)
        loading = Loading(cube)
        contenders, failed = prepare(Path(home), cube, loading, ground, places)
        rows = measure(contenders, failed, places * DATES, options.runs or 5)
        checks = loading.checks()
    size = loading.readers[OPTICAL].sample_bytes
    title = f"loader: {places * DATES} samples of {size / 1e3:.0f} kB with flags, {kind}; {checks}"
    show(title, rows, PACKAGES, as_json=options.json)
    return rows


class Loading:
    """Our own loader over the cube."""

    def __init__(self, cube: Any) -> None:
        self.snapshot = cube.snapshot()
        self.joined = open_joined(cube, (OPTICAL, RADAR), self.snapshot)
        self.pool = open_pool(cube, OPTICAL, self.snapshot)
        self.readers = {
            name: SampleReader(
                cube, self.snapshot, choose_bands(cube.products()[name]), self.joined.pools[name].rows
            )
            for name in (OPTICAL, RADAR)
        }
        self.chunk_rows = self.readers[OPTICAL].chunk_rows

    def samples(self, count: int, threads: int) -> int:
        return self._run(self._single(), count, threads)

    def seasons(self, count: int, threads: int) -> int:
        plan = BatchPlan(self.pool, BATCH, 2, random.randrange(1000), chunk_rows=self.chunk_rows)
        return self._run(plan, count // 2, threads)

    def products(self, count: int, threads: int) -> int:
        views = (OPTICAL, RADAR)
        plan = JoinedPlan(
            self.joined, BATCH, views, random.randrange(1000), dates="nearest", chunk_rows=self.chunk_rows
        )
        return self._run(plan, count // 2, threads)

    def checks(self) -> str:
        """Resume, reuse of chunks, and the wait share beside the first step of a training."""
        plan = self._single(seed=7)
        middle = plan.epoch_length // BATCH // 2
        # Arrays are compared while both streams run: their memory is used again afterwards.
        whole = itertools.islice(self._stream(plan, 2), middle, middle + 4)
        resumed = itertools.islice(self._stream(plan, 2, start=middle), 4)
        equal = all(same(*pair) for pair in zip(whole, resumed, strict=True))
        reader = self.readers[OPTICAL]
        before = reader.chunks_read
        batches = plan.epoch_length // BATCH
        for _ in itertools.islice(self._stream(plan, 2, ahead=0), batches):
            pass
        reads = (reader.chunks_read - before) / reader.chunks_wanted
        stream = self._stream(plan, 2)
        for batch in itertools.islice(stream, 8):
            physical_pixels(batch.views[0], reader.choice, mask_cloud=False)
        return (
            f"resumed in mid-epoch: {'equal' if equal else 'DIFFERENT'}; each chunk read {reads:.2f} times "
            f"per epoch; wait share {stream.wait_share:.2f} beside radiometry on the CPU"
        )

    def _single(self, seed: int | None = None) -> BatchPlan:
        seed = random.randrange(1000) if seed is None else seed
        return BatchPlan(self.pool, BATCH, 1, seed, chunk_rows=self.chunk_rows)

    def _stream(self, plan: Any, threads: int, **options: int) -> BatchStream:
        return BatchStream(plan, self.readers, threads=threads, **options)

    def _run(self, plan: Any, count: int, threads: int) -> int:
        done = 0
        batches = iter(self._stream(plan, threads))
        while done < count:
            done += len(next(batches).views[0].rows)
        return done


def same(ours: RawBatch, theirs: RawBatch) -> bool:
    return ours.index == theirs.index and all(
        np.array_equal(mine.rows, yours.rows)
        and all(np.array_equal(mine.pixels[gsd], yours.pixels[gsd]) for gsd in mine.pixels)
        for mine, yours in zip(ours.views, theirs.views, strict=True)
    )


def prepare(
    home: Path, cube: Any, loading: Loading, ground: Any, places: int
) -> tuple[list[Contender], dict[str, str]]:
    """All contenders that can run here, and why the others cannot."""
    memory = ChunksInMemory(cube, OPTICAL)
    stored = memory.disk_bytes
    product = cube.products()[OPTICAL]
    samples = [cut(ground, place, date) for place in range(places) for date in range(DATES)]
    names = {gsd: [band.name for band in product.bands_at(gsd)] for gsd in product.resolutions_m}
    contenders = [
        Contender(
            "limit: lz4 from memory", lambda n, t: memory.decode_all(n, t, checksum=False), stored, PASSES
        ),
        Contender(
            "lz4 and CRC-32C from memory", lambda n, t: memory.decode_all(n, t, checksum=True), stored, PASSES
        ),
        Contender("this loader, samples", loading.samples, stored, PASSES),
        Contender("this loader, two-season pairs", loading.seasons, stored, PASSES),
        Contender("this loader, S2 + S1 pairs", loading.products, disk_of(cube, stored), PASSES),
        Contender("zarr-python, whole chunks", through_zarr(cube), stored),
    ]
    failed: dict[str, str] = {}
    makers: dict[str, Callable[[], Contender]] = {
        "GeoTIFF per band (rasterio)": lambda: others.geotiffs(home / "geotiff", samples, names),
        "WebDataset of .npy": lambda: others.webdataset(home / "webdataset", samples),
        "litdata": lambda: others.litdata(home / "litdata", samples),
    }
    for name, make in makers.items():
        try:
            contender = make()
            contender.load(BATCH, 1)
            contenders.append(contender)
        except Exception as error:
            failed[name] = f"cannot run: {type(error).__name__}: {str(error).splitlines()[0]}"
    return contenders, failed


def through_zarr(cube: Any) -> Callable[[int, int], int]:
    """Whole chunks through zarr-python, in random order, as a loader without a decoder of its own would."""
    from concurrent.futures import ThreadPoolExecutor

    from catalog.products.model import array_name

    reader = cube.reader()
    names = [*(array_name(gsd) for gsd in cube.products()[OPTICAL].resolutions_m), "quality"]
    arrays = [reader.array(OPTICAL, name) for name in names]
    rows, length = arrays[0].chunks[0], arrays[0].shape[0]

    def load(count: int, threads: int) -> int:
        starts = [random.randrange(length // rows) * rows for _ in range(-(-count // rows))]
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(lambda start: [array[start : start + rows] for array in arrays], starts):
                pass
        return len(starts) * rows

    return load


def disk_of(cube: Any, optical: int) -> int:
    return optical + ChunksInMemory(cube, RADAR).disk_bytes


def measure(
    contenders: list[Contender], failed: dict[str, str], samples: int, runs: int
) -> list[dict[str, Any]]:
    """Samples (or pairs) per second of wall time and of CPU time, every contender in turn."""
    rows = []
    for threads in (1, 2):
        walls: dict[str, list[float]] = {one.name: [] for one in contenders}
        cpus: dict[str, list[float]] = {one.name: [] for one in contenders}
        for run in range(runs + 1):
            for one in contenders:
                began, cpu = time.perf_counter(), time.process_time()
                count = one.load(samples * one.passes, threads)
                if run:  # the first one fills buffers and caches
                    walls[one.name].append(count / (time.perf_counter() - began))
                    cpus[one.name].append(count / (time.process_time() - cpu))
        limit, single = (walls[contenders[at].name] for at in (0, 2))
        for one in contenders:
            share = [mine / whole for mine, whole in zip(walls[one.name], limit, strict=True)]
            beside = [mine / whole for mine, whole in zip(walls[one.name], single, strict=True)]
            rows.append(
                {
                    "contender": one.name,
                    "threads": threads,
                    "per second": spread(walls[one.name]),
                    "per CPU second": spread(cpus[one.name]),
                    "of the limit": spread(share),
                    "of this loader's samples/s": spread(beside),
                    "MB on disk": one.disk_bytes / 1e6,
                }
            )
        for name, why in failed.items():
            rows.append(dict.fromkeys(rows[0], "—") | {"contender": f"{name}: {why}", "threads": threads})
    return rows


if __name__ == "__main__":
    main(sys.argv[1:])
