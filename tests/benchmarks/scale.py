"""Cubing against workers on this machine, then the arithmetic to cubes that no machine here holds.

``python -m tests.benchmarks.scale`` measures samples per second of one process, and of Dask clusters of 1, 2
and 4 workers, on made-up Sentinel-2 scenes, and the bytes that one chunk adds to a manifest. ``--arithmetic``
prints, without measuring, the tables of ``docs/scale.md`` that follow from the assumptions below.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.made_up_scenes import PRODUCT, made_up, served_scene
from tests.benchmarks.table import show, spread

SCENES, WINDOWS = 96, 16
WORKERS = (0, 1, 2, 4)
"""0: one process, without Dask."""
CHILD = "--cube"


@dataclass(frozen=True)
class Assumptions:
    """What the arithmetic takes for given; where each figure comes from stands in ``docs/scale.md``."""

    locations: int = 250_000
    seasons: int = 4
    window_m: float = 2640
    products: tuple[str, ...] = ("sentinel-2-l2a", "sentinel-1-rtc", "landsat-oli-sr", "enmap-l2a")
    windows_per_scene: int = 50
    """Places that one scene serves; decides how often files are opened."""
    stored: float = 0.62
    """Bytes on disk over raw bytes."""
    manifest_bytes: float = 20.0
    """For each chunk."""
    column_bytes: float = 150.0
    """For each sample, of everything beside its pixels."""
    block_px: int = 512
    """Side of the blocks of the archive's files."""
    header_requests: int = 2
    """For each file that is opened."""
    block_ms: float = 1.75
    """Of one core, to fetch and decode a block."""
    megabyte_ms: float = 10.0
    """Of one core, to check, stage, compress and write a raw megabyte."""
    coordinator_ms: float = 1.0
    """Of the one process that commits, for each sample."""
    cores: int = 64
    get_usd: float = 0.0004 / 1000
    put_usd: float = 0.005 / 1000
    gigabyte_month_usd: float = 0.023
    core_hour_usd: float = 0.05


def main(argv: Sequence[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document for each table")
    parser.add_argument("--runs", type=int, default=3, help="counted runs")
    parser.add_argument("--scenes", type=int, default=SCENES, help="scenes of each run")
    parser.add_argument("--arithmetic", action="store_true", help="measure nothing, print the arithmetic")
    options = parser.parse_args(argv)
    rows: list[dict[str, Any]] = []
    if not options.arithmetic:
        rows = measured(options.scenes, options.runs)
        packages = ("dask", "distributed", "rasterio", "zarr", "icechunk")
        show("cubing against workers", rows, packages, as_json=options.json)
        found = [{"chunks": 8192, "bytes per chunk": manifest_bytes_per_chunk(8192)}]
        show("manifests", found, ("icechunk",), as_json=options.json)
    for title, table in arithmetic(Assumptions()).items():
        show(title, table, (), as_json=options.json)
    return rows


def measured(scenes: int, runs: int) -> list[dict[str, Any]]:
    """One row for each number of workers; contenders take turns, each run is a process of its own."""
    found: dict[int, list[dict[str, float]]] = {workers: [] for workers in WORKERS}
    with tempfile.TemporaryDirectory() as folder, served_scene(Path(folder)) as url:
        for _ in range(runs):
            for workers in WORKERS:
                found[workers].append(cubed(folder, url, scenes, workers))
    sums = {run["digest"] for each in found.values() for run in each}
    assert len(sums) == 1, "clusters of different sizes made different cubes"
    return [
        {
            "workers": workers or "no cluster",
            "samples": scenes * WINDOWS,
            "samples/s": spread([scenes * WINDOWS / run["seconds"] for run in each]),
            "CPU ms per sample": spread([1000 * run["cpu_seconds"] / scenes / WINDOWS for run in each]),
            "start of the cluster, s": spread([run["start_seconds"] for run in each]),
            "committing process, CPU ms per sample": spread(
                [1000 * run["own_cpu_seconds"] / scenes / WINDOWS for run in each]
            ),
        }
        for workers, each in found.items()
    ]


def cubed(folder: str, url: str, scenes: int, workers: int) -> dict[str, Any]:
    """What a process of its own says that has cubed so many scenes."""
    with tempfile.TemporaryDirectory() as home:
        arguments = (CHILD, folder, url, str(scenes), str(workers), home)
        command = [sys.executable, "-m", "tests.benchmarks.scale", *arguments]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found["samples"] == scenes * WINDOWS, found
    return found


def cube_here(folder: str, url: str, scenes: int, workers: int, home: str) -> dict[str, Any]:
    """Cube so many scenes with so many workers, and say what it took, the cluster's start apart."""
    os.environ["SWATH_HOME"] = home
    import hashlib
    from contextlib import ExitStack

    import distributed

    from catalog.cubes import open_cube
    from tasks.cube.on_dask import cubing_on
    from tasks.cube.scenes import cube_scenes
    from tasks.readers.registry import load_reader
    from tests.tasks.scene_files import archive_at, built_in

    work, product = made_up(Path(folder), url, scenes, WINDOWS), built_in(PRODUCT)
    cube = open_cube("made-up", create=True, products=[product])
    with ExitStack() as stack:
        dask, began = None, time.perf_counter()
        if workers:
            cluster = stack.enter_context(
                distributed.LocalCluster(
                    n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None
                )
            )
            dask = stack.enter_context(
                cubing_on(stack.enter_context(distributed.Client(cluster)), cube.place)
            )
        ready, working = time.perf_counter(), time.process_time()
        with cube.write("measured", pixels=dask.writing if dask else None) as writer:
            done = cube_scenes(
                work.recipe,
                product,
                work.scenes,
                work.locations,
                cube,
                load_reader(),
                archive_at(url),
                writer=writer,
                reading=dask.reading if dask else None,
            )
        ended, working = time.perf_counter(), time.process_time() - working
    assert not done.failures, next(iter(done.failures.values()))
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    digest = hashlib.sha256("".join(cube.columns(PRODUCT)["sha256"]).encode()).hexdigest()
    return {
        "samples": done.samples_written,
        "seconds": ended - ready,
        "start_seconds": ready - began,
        "cpu_seconds": sum(one.ru_utime + one.ru_stime for one in used),
        "own_cpu_seconds": working,
        "digest": digest,
    }


def arithmetic(given: Assumptions) -> dict[str, list[dict[str, Any]]]:
    """Title → rows: each product at all places and seasons, and one product to ten million samples."""
    million = [one_cube(given, name, given.locations * given.seasons) for name in given.products]
    together = {name: sum(row[name] for row in million) for name in million[0] if name != "product"}
    ten = one_cube(given, given.products[0], 10_000_000)
    title = f"{given.locations:,} locations × {given.seasons} seasons × {len(million)} products"
    return {
        title: _turned([*million, {"product": "together", **together}]),
        "10 million samples of one product": _turned([ten]),
    }


def one_cube(given: Assumptions, name: str, samples: int) -> dict[str, Any]:
    """What the samples of one product cost to read, to write and to keep."""
    from catalog.cubes.layout import default_chunk_samples
    from catalog.cubes.writer import COMMIT_EVERY_BYTES
    from catalog.products import load_product

    product = load_product(name)
    shapes = {gsd: (int(given.window_m // gsd),) * 2 for gsd in product.resolutions_m}
    quality_gsd = product.qa.gsd_m if product.qa else product.resolutions_m[0]
    itemsize = np.dtype(product.dtype).itemsize
    raw = sum(len(product.bands_at(gsd)) * math.prod(shapes[gsd]) * itemsize for gsd in shapes)
    raw += int(given.window_m // quality_gsd) ** 2
    # A window touches 1 + (its side - 1) / (a block's side) blocks in each direction, on average.
    layers = [band.gsd_m for band in product.bands] + ([quality_gsd] if product.qa else [])
    blocks = sum((1 + (given.window_m / gsd - 1) / given.block_px) ** 2 for gsd in layers)
    files = 1 if product.multiband_asset else len(layers)
    scenes = math.ceil(samples / given.windows_per_scene)
    gets = samples * blocks + scenes * files * given.header_requests
    length = default_chunk_samples(product, shapes)
    chunks = (len(shapes) + 1) * math.ceil(samples / length)
    # Staging: an object for each scene, in parts of 10 MB, and one range back for each sample.
    puts = chunks + scenes * math.ceil(raw * given.windows_per_scene / 10e6)
    core_hours = samples * (blocks * given.block_ms + raw / 1e6 * given.megabyte_ms) / 3.6e6
    return {
        "product": name,
        "samples, M": samples / 1e6,
        "raw kB per sample": raw / 1e3,
        "raw TB": samples * raw / 1e12,
        "stored TB": samples * (raw * given.stored + given.column_bytes) / 1e12,
        "samples per chunk": length,
        "chunk objects, M": chunks / 1e6,
        "manifests, MB": chunks * given.manifest_bytes / 1e6,
        "commits": math.ceil(samples * raw / COMMIT_EVERY_BYTES),
        "GETs of the archive, M": gets / 1e6,
        "GETs of staged samples, M": samples / 1e6,
        "PUTs, M": puts / 1e6,
        "core hours": core_hours,
        f"hours on {given.cores} cores": core_hours / given.cores,
        "hours of the committing process": samples * given.coordinator_ms / 3.6e6,
        "requests to the own store, USD": samples * given.get_usd + puts * given.put_usd,
        "cores, USD": core_hours * given.core_hour_usd,
        "storage, USD a month": samples * raw * given.stored / 1e9 * given.gigabyte_month_usd,
    }


def _turned(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each quantity, one column for each product."""
    quantities = [name for name in rows[0] if name != "product"]
    return [
        {"": name, **{row["product"]: "" if name == "samples per chunk" and row["product"] == "together"
                      else row[name] for row in rows}}
        for name in quantities
    ]  # fmt: skip


def manifest_bytes_per_chunk(chunks: int = 8192) -> float:
    """Bytes that Icechunk's manifests take for each chunk, of an array with many."""
    import icechunk
    import zarr

    from catalog.cubes.place import Place, open_repository

    with tempfile.TemporaryDirectory() as folder:
        repository = open_repository(Place("many", f"{folder}/many"), create=True)
        session: icechunk.Session = repository.writable_session("main")
        target = zarr.create_array(
            session.store, shape=(chunks, 1024), chunks=(1, 1024), dtype="uint8", compressors=None
        )
        rng = np.random.default_rng(0)
        for start in range(0, chunks, 1024):
            target[start : start + 1024] = rng.integers(0, 256, (1024, 1024), np.uint8)
        session.commit("many chunks")
        return sum(path.stat().st_size for path in Path(folder, "many", "manifests").iterdir()) / chunks


if __name__ == "__main__":
    if sys.argv[1:2] == [CHILD]:
        print(json.dumps(cube_here(*sys.argv[2:4], *map(int, sys.argv[4:6]), sys.argv[6])))
    else:
        main()
