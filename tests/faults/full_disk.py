"""Refreshes on a file system that fills up: ``python -m tests.faults.full_disk [--trials N] [--json]``.

The file system is a small one in memory, mounted in namespaces of this process alone, where that is allowed.
Leaving so and so many bytes free is filling it at a moment of the run: the run goes as far as they reach.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.faults.kills.forked import BEFORE_IMPORTS, import_everything, run

MS_REMOUNT = 32
ROOMY_BYTES = 256 << 20
NAMES = ("first", "grow", "places")
TRIALS = 24


def mount(folder: Path, size_bytes: int, flags: int = 0) -> None:
    """A file system in memory at ``folder``, or another size for the one that is there."""
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"size={size_bytes}".encode()
    if libc.mount(b"swath-test", str(folder).encode(), b"tmpfs", ctypes.c_ulong(flags), options):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), str(folder))


def enter_namespaces() -> None:
    """Mounts of this process from now on are its own."""
    uid, gid = os.getuid(), os.getgid()
    os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWNS)
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1", encoding="ascii")


def used_bytes(folder: Path) -> int:
    """What lies on a file system."""
    space = os.statvfs(folder)
    return (space.f_blocks - space.f_bfree) * space.f_frsize


def told(work: Callable[..., Any], home: Path, mark: Callable[[str], None]) -> Any:
    """The run's own error, as its command would print it; any other one ends the child."""
    from catalog.errors import SwathError

    try:
        work(home, mark)
    except SwathError as error:
        return {"code": error.code, "next_step": error.next_step, "line": str(error)}
    return {"code": None}


def trial(number: int, seed: int, scenarios: list[Any], needs: dict[str, int], disk: Path, log: Path) -> Any:
    """One run into a full disk, and one more after space was freed."""
    from tests.faults.kills.scenarios import copied
    from tests.faults.kills.trials import compare

    chance = random.Random(f"full disk {seed}/{number}")
    scenario = scenarios[number % len(scenarios)]
    log.unlink(missing_ok=True)
    mount(disk, ROOMY_BYTES, MS_REMOUNT)
    home = copied(scenario.base, disk / "trial")
    (home.parent / "tmp").mkdir()
    # Fewer bytes are worth more trials: most of what a run writes are pixels.
    free = int(needs[scenario.name] * chance.random() ** 2)
    mount(disk, used_bytes(disk) + free, MS_REMOUNT)
    ended = run(partial(told, scenario.work, home), log)
    mount(disk, ROOMY_BYTES, MS_REMOUNT)
    wrong = []
    if ended.status != 0:
        wrong.append(f"not one clear error: {ended.log.strip().splitlines()[-1:]}")
    elif ended.answer["code"] not in (None, "disk-full"):
        wrong.append(f"another error: {ended.answer['line']}")
    again = run(partial(scenario.rerun, home), log)
    if again.status != 0:
        wrong.append(f"rerun: {again.log.strip().splitlines()[-1:]}")
    looked = run(partial(scenario.look, home), log)
    if looked.status != 0:
        wrong.append(f"look: {looked.log.strip().splitlines()[-1:]}")
    else:
        wrong += compare(scenario, looked.answer)
    return {
        "number": number,
        "scenario": scenario.name,
        "free_bytes": free,
        "phase": ended.phase,
        "told": ended.answer and ended.answer["code"],
        "violations": wrong[:8],
    }


def trials(count: int, seed: int, folder: Path) -> dict[str, Any]:
    """Prepare, find out what each scenario needs, and run."""
    os.environ["PREFECT_HOME"] = str(folder / "prefect")
    import_everything()
    enter_namespaces()
    disk = folder / "disk"
    disk.mkdir()
    mount(disk, ROOMY_BYTES)
    from tests.faults.kills.scenarios import copied, prepared

    with prepared(folder / "work", only=NAMES) as scenarios:
        needs = {}
        for scenario in scenarios:
            home = copied(scenario.base, disk / "trial")
            before = used_bytes(disk)
            ended = run(partial(scenario.work, home), folder / "log")
            assert ended.status == 0, ended.log
            needs[scenario.name] = used_bytes(disk) - before
            shutil.rmtree(disk / "trial")
        done = [trial(n, seed, list(scenarios), needs, disk, folder / f"log-{n}") for n in range(count)]
    return {
        "trials": count,
        "seed": seed,
        "needs_bytes": needs,
        "told": dict(Counter(str(item["told"]) for item in done)),
        "phases": dict(Counter(item["phase"] for item in done if item["told"])),
        "violations": [item for item in done if item["violations"]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.full_disk", description=__doc__)
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.environ |= BEFORE_IMPORTS
    folder = (options.folder or Path(tempfile.mkdtemp(prefix="full-disk-"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    report = trials(options.trials, options.seed, folder)
    json.dump(report, sys.stdout, indent=1)
    print()
    raise SystemExit(1 if report["violations"] else 0)


if __name__ == "__main__":
    main()
