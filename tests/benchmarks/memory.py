"""Peak memory of cubing 10, 100 and 1,000 scenes in one process: what is in flight counts, not what is done.

Scenes are made up: Sentinel-2 files that all scenes share, served over loopback, with the same number of
windows in each. Every count is cubed in a process of its own.
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
from pathlib import Path
from typing import Any

from tests.benchmarks.made_up_scenes import PRODUCT, WINDOW_M, made_up, served_scene
from tests.benchmarks.table import show, spread

COUNTS = (10, 100, 1000)
WINDOWS = 16
"""In each scene; ten scenes already fill what the writer keeps in memory."""
CHILD = "--cube"


def main(argv: Sequence[str] | None = None, *, counts: Sequence[int] = COUNTS) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--runs", type=int, default=1, help="counted runs")
    parser.add_argument("--scenes", type=int, nargs="+", default=list(counts), help="scenes of each case")
    parser.add_argument("--windows", type=int, default=WINDOWS, help="windows in each scene")
    options = parser.parse_args(argv)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, served_scene(Path(folder)) as url:
        for count in options.scenes:
            runs = [cubed(folder, url, count, options.windows) for _ in range(options.runs)]
            rows.append(
                {
                    "scenes": count,
                    "samples": runs[0]["samples"],
                    "raw MB": runs[0]["raw_bytes"] / 1e6,
                    "s": spread([run["seconds"] for run in runs]),
                    "peak memory, MB": spread([run["peak_bytes"] / 1e6 for run in runs]),
                }
            )
    least = rows[0]["peak memory, MB"]["median"]
    for row in rows:
        row["against the first"] = row["peak memory, MB"]["median"] / least
    show(
        f"peak memory of cubing, {options.windows} windows of {WINDOW_M} m in each scene",
        rows,
        ("rasterio", "zarr", "icechunk", "numpy"),
        as_json=options.json,
    )
    return rows


def cubed(folder: str, url: str, scenes: int, windows: int) -> dict[str, Any]:
    """What a process of its own says that has cubed so many scenes."""
    with tempfile.TemporaryDirectory() as home:
        arguments = (CHILD, folder, url, str(scenes), str(windows), home)
        command = [sys.executable, "-m", "tests.benchmarks.memory", *arguments]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found["samples"] == scenes * windows, found
    return found


def cube_here(folder: str, url: str, count: int, windows: int, home: str) -> dict[str, Any]:
    """Cube so many scenes in this process, and say what it took."""
    os.environ["SWATH_HOME"] = home
    from catalog.cubes import open_cube
    from flows.environment import prepare_environment
    from tasks.cube.scenes import cube_scenes
    from tasks.readers.registry import load_reader
    from tests.tasks.scene_files import archive_at, built_in

    prepare_environment()  # as every flow begins
    work = made_up(Path(folder), url, count, windows)
    cube = open_cube("made-up", create=True, products=[built_in(PRODUCT)])
    began = time.perf_counter()
    done = cube_scenes(
        work.recipe, built_in(PRODUCT), work.scenes, work.locations, cube, load_reader(), archive_at(url)
    )
    seconds = time.perf_counter() - began
    assert not done.failures, next(iter(done.failures.values()))
    sample = sum(math.prod(cube.read(PRODUCT, gsd, [0]).shape) * 2 for gsd in built_in(PRODUCT).resolutions_m)
    return {
        "samples": done.samples_written,
        "raw_bytes": sample * done.samples_written,
        "seconds": seconds,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


if __name__ == "__main__":
    if sys.argv[1:2] == [CHILD]:
        print(json.dumps(cube_here(*sys.argv[2:4], *map(int, sys.argv[4:6]), sys.argv[6])))
    else:
        main()
