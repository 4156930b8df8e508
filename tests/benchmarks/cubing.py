"""Samples from COGs behind a slow server: ``direct``, stackstac, odc-stac, and decoding the blocks alone.

Four made-up Sentinel-2 scenes of twelve bands each over loopback HTTP, with a stated latency before each
answer. Each contender is a process of its own, and so is the server; all read the same windows, and must find
the same pixels. Every reader runs in several ways, each with one scene and with two at a time; the fastest of
the first run counts.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.cubing_contenders import CONTENDERS, LIMIT, TWO
from tests.benchmarks.cubing_scenes import SCENES, write_tile
from tests.benchmarks.table import show, spread

LATENCY_MS = (30,)
WINDOWS = (1, 8, 64)
RUNS = 3


def main(argv: Sequence[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--runs", type=int, default=RUNS, help="counted runs")
    parser.add_argument("--latency", type=int, nargs="+", default=LATENCY_MS, help="milliseconds")
    parser.add_argument("--windows", type=int, nargs="+", default=WINDOWS, help="per scene")
    parser.add_argument(
        "--only", nargs="+", default=list(CONTENDERS), help="contenders, by the start of a name"
    )
    parser.add_argument("--tile", type=Path, default=None, help="folder to keep the made-up files in")
    options = parser.parse_args(argv)
    chosen = [name for name in CONTENDERS if name.startswith(tuple(options.only))]
    names = [f"{name}{way}" for name in chosen for way in ("", TWO)]
    rows: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        folder = options.tile or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="swath-cubing-"))
        )
        if not any(folder.glob("*.tif")):
            folder.mkdir(parents=True, exist_ok=True)
            write_tile(folder)
        workers = {name: stack.enter_context(worker(name, folder)) for name in (LIMIT, *names)}
        for latency in options.latency:
            with serving(folder, latency) as url:
                for each in workers.values():
                    each.ask(url, 1)  # imports, pools and first-time set-up are no part of what is measured
                for count in options.windows:
                    rows += measure(workers, url, latency, count, options.runs)
    show(
        f"cubing: {SCENES} scenes of 12 bands over HTTP",
        rows,
        ("rasterio", "stackstac", "odc-stac", "dask", "numpy"),
        as_json=options.json,
    )
    return rows


class Worker:
    """A contender's process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    _labels = itertools.count(1)

    def ask(self, url: str, windows: int) -> dict[str, Any]:
        """Read so many windows of scenes that nobody has read before."""
        assert self._process.stdin is not None and self._process.stdout is not None
        task = {"url": url, "label": f"tile-{next(self._labels)}", "windows": windows}
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


@contextlib.contextmanager
def worker(name: str, folder: Path) -> Iterator[Worker]:
    with _process("tests.benchmarks.cubing_contenders", name, str(folder)) as process:
        yield Worker(process)


@contextlib.contextmanager
def serving(folder: Path, latency_ms: float) -> Iterator[str]:
    """Address of a server of the tile's files."""
    with _process("tests.benchmarks.cubing_server", str(folder), str(latency_ms)) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()


@contextlib.contextmanager
def _process(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A module of this package, running; told to end by the end of its input."""
    command = [sys.executable, "-m", module, *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def measure(
    workers: dict[str, Worker], url: str, latency: int, count: int, runs: int
) -> list[dict[str, Any]]:
    """Rows of one latency and window count; from the second run on, each library in its best way alone."""
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in workers}
    chosen = list(workers)
    for _ in range(runs):
        for name in chosen:
            answers[name].append(workers[name].ask(url, count))
        chosen = [name for name in chosen if name in fastest(answers)]
    pixels = {answer["pixels"] for name in workers if name != LIMIT for answer in answers[name]}
    assert len(pixels) <= 1, "the contenders found different pixels"
    samples = SCENES * count
    decode = spread([answer["cpu_s"] for answer in answers[LIMIT]])["median"]
    return [
        {
            "latency, ms": latency,
            "windows per scene": count,
            "reader": name,
            "samples/s": spread([samples / answer["wall_s"] for answer in answers[name]]),
            "CPU, ms per sample": spread([1000 * answer["cpu_s"] / samples for answer in answers[name]]),
            "CPU against local decode": spread([answer["cpu_s"] for answer in answers[name]])["median"]
            / decode,
        }
        for name in chosen
    ]


def fastest(answers: dict[str, list[dict[str, Any]]]) -> set[str]:
    """Of each library, the way that took the least time in the first run."""
    libraries: dict[str, str] = {}
    for name in sorted(answers, key=lambda name: answers[name][0]["wall_s"]):
        libraries.setdefault(name.split(",")[0], name)
    return set(libraries.values())


if __name__ == "__main__":
    main()
