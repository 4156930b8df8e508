"""The demo, twice in a new ``SWATH_HOME``: wall time and peak memory of all its processes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.table import arguments, show

SAMPLE_EVERY_S = 0.2


def tree_memory_bytes(root: int) -> int:
    """Proportional set size of a process and everything that descends from it."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2]
            except OSError:
                continue
            parents.setdefault(int(fields.split()[1]), []).append(int(entry.name))
    total, waiting = 0, [root]
    while waiting:
        process = waiting.pop()
        waiting += parents.get(process, [])
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def run_demo(home: Path) -> dict[str, float]:
    """Wall seconds and peak memory in GB of one ``swath demo``."""
    environment = {**os.environ, "SWATH_HOME": str(home)}
    environment.pop("PREFECT_API_URL", None)
    began = time.monotonic()
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("swath")), "demo"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    peak = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(SAMPLE_EVERY_S):
            peak = max(peak, tree_memory_bytes(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    status = process.wait()
    done.set()
    watcher.join()
    return {"seconds": time.monotonic() - began, "peak_gb": peak / 1e9, "exit_status": status}


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(__doc__, argv)
    rows = []
    with tempfile.TemporaryDirectory() as home:
        for what in ("first run, scenes simulated", "second run, nothing changed"):
            figures = run_demo(Path(home))
            rows.append(
                {
                    "what": what,
                    "wall, s": figures["seconds"],
                    "peak memory, GB": figures["peak_gb"],
                    "exit status": int(figures["exit_status"]),
                }
            )
    show("`swath demo`", rows, ("torch", "prefect", "icechunk", "zarr"), as_json=options.json)


if __name__ == "__main__":
    main()
