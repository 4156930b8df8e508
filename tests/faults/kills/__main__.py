"""``python -m tests.faults.kills``: trials by the hundred, one line each that goes wrong, and a table."""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.faults.kills.forked import BEFORE_IMPORTS, PR_SET_PDEATHSIG, import_everything

TOKEN = struct.Struct("i")
SPEAK_EVERY_S = 20.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.kills", description=__doc__)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trial", type=int, help="only this one of the seed, and keep its folder")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1), help="trials at a time")
    parser.add_argument("--folder", type=Path, help="where to work; what a violation left stays there")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    options = parser.parse_args()
    os.environ |= BEFORE_IMPORTS
    folder = (options.folder or Path(tempfile.mkdtemp(prefix="kills-"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    numbers = range(options.trials) if options.trial is None else [options.trial]
    report = trials(numbers, options.seed, options.workers, folder)
    if options.json:
        json.dump(report, sys.stdout, indent=1)
    else:
        print(table(report))
    raise SystemExit(1 if report["violations"] else 0)


def trials(numbers: Sequence[int], seed: int, workers: int, folder: Path) -> dict[str, Any]:
    """Prepare once, run every trial, and report."""
    began = time.monotonic()
    os.environ["PREFECT_HOME"] = str(folder / "prefect")
    import_everything()
    from tests.faults.kills.scenarios import prepared

    with prepared(folder) as scenarios:
        say(f"prepared in {time.monotonic() - began:.0f} s: {len(scenarios)} scenarios in {folder}")
        done: list[dict[str, Any]] = []
        spoken = time.monotonic()
        for result in _side_by_side(numbers, seed, workers, scenarios, folder):
            done.append(result)
            for violation in result["violations"]:
                planned = ", then ".join(result["planned"])
                say(f"trial {result['number']} of seed {seed} ({result['scenario']}, {planned}): {violation}")
            if time.monotonic() - spoken > SPEAK_EVERY_S:
                spoken = time.monotonic()
                broken = sum(bool(item["violations"]) for item in done)
                say(f"{len(done)} of {len(numbers)} trials, {broken} violated")
    return _report(done, seed, time.monotonic() - began)


def _side_by_side(
    numbers: Sequence[int], seed: int, workers: int, scenarios: Sequence[Any], folder: Path
) -> Iterator[dict[str, Any]]:
    """Runners that take a number each, as they are free."""
    wanted, wanted_in = os.pipe()
    results, results_in = os.pipe()
    runners = []
    for _ in range(workers):
        runner = os.fork()
        if runner == 0:
            os.close(wanted_in)
            os.close(results)
            _run_trials(wanted, results_in, seed, scenarios, folder)
        runners.append(runner)
    os.close(wanted)
    os.close(results_in)
    left = list(numbers)[::-1]
    for _ in range(min(len(left), 2 * workers)):
        os.write(wanted_in, TOKEN.pack(left.pop()))
    if not left:
        os.close(wanted_in)
    said = b""
    try:
        while part := os.read(results, 1 << 16):
            *whole, said = (said + part).split(b"\n")
            for line in whole:
                if left:
                    os.write(wanted_in, TOKEN.pack(left.pop()))
                    if not left:
                        os.close(wanted_in)
                yield json.loads(line)
    finally:
        for runner in runners:
            os.kill(runner, signal.SIGTERM)
        ends = [os.waitpid(runner, 0)[1] for runner in runners]
    assert not any(ends) and not left, "a runner died"


def _run_trials(wanted: int, results: int, seed: int, scenarios: Sequence[Any], folder: Path) -> None:
    """A runner; never returns."""
    from tests.faults.kills.trials import trial

    status = 1
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while token := os.read(wanted, TOKEN.size):
            (number,) = TOKEN.unpack(token)
            line = json.dumps(trial(number, seed, scenarios, folder).to_dict()).encode() + b"\n"
            while line:
                line = line[os.write(results, line) :]
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _report(done: list[dict[str, Any]], seed: int, seconds: float) -> dict[str, Any]:
    kills: Counter[str] = Counter()
    violated: Counter[str] = Counter()
    scenarios: Counter[str] = Counter(item["scenario"] for item in done)
    for item in done:
        kills.update(item["phases"])
        if item["violations"]:
            violated.update(item["phases"][:1])
    return {
        "seed": seed,
        "trials": len(done),
        "kills": sum(kills.values()),
        "killed_twice": sum(len(item["phases"]) > 1 for item in done),
        "not_killed": [item["number"] for item in done if not item["phases"]],
        "violations": [item for item in done if item["violations"]],
        "phases": {name: [kills[name], violated[name]] for name in kills},
        "scenarios": dict(scenarios),
        "seconds": round(seconds, 1),
        "median_trial_s": round(sorted(item["seconds"] for item in done)[len(done) // 2], 2),
    }


def table(report: dict[str, Any]) -> str:
    """Phase → kills, violations."""
    from tests.faults.kills.phases import PHASES

    lines = [f"{'phase':<12}{'kills':>8}{'violations':>12}"]
    for name in PHASES:
        if name in report["phases"]:
            kills, violated = report["phases"][name]
            lines.append(f"{name:<12}{kills:>8}{violated:>12}")
    lines.append(f"{'in all':<12}{report['kills']:>8}{len(report['violations']):>12}")
    lines.append(
        f"{report['trials']} trials of seed {report['seed']} in {report['seconds']:.0f} s, "
        f"{report['median_trial_s']} s each; killed twice in {report['killed_twice']}; "
        + ", ".join(f"{name} {count}" for name, count in report["scenarios"].items())
    )
    return "\n".join(lines)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
