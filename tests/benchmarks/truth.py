"""Radiometric truth: verdict against truth, for every right and wrong case of every scene there is.

Real scenes are those of ``SWATH_REALDATA`` (or ``shared/data`` beside the repository), simulated ones
those of the sandbox.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.table import arguments, show
from tests.conftest import REPOSITORY
from tests.real_scenes import RealScene, all_scenes
from tests.truth_cases import CALIBRATION, HELD_OUT, Case, cases_of, simulated_scenes

VERDICTS = ("agrees", "contradicts", "undecidable")


def confusion(cases: Iterable[Case], kind: str) -> list[dict[str, Any]]:
    """One row per product and case, and one of all."""
    counted: dict[tuple[str, str, str], Counter[str]] = {}
    for case in cases:
        row = counted.setdefault((case.family, case.case, case.truth), Counter())
        row[case.judgement.verdict] += 1
    rows = [_row(kind, *key, counts) for key, counts in sorted(counted.items())]
    total: dict[str, Counter[str]] = {}
    for (_, _, truth), counts in counted.items():
        total.setdefault(truth, Counter()).update(counts)
    return rows + [_row(kind, "all", "all", truth, counts) for truth, counts in sorted(total.items())]


def _row(kind: str, family: str, case: str, truth: str, counts: Counter[str]) -> dict[str, Any]:
    every = sum(counts.values())
    wrong = every - counts[truth] - counts["undecidable"]
    share = f"{100 * counts['undecidable'] / every:.1f} %"
    verdicts = {verdict: counts[verdict] for verdict in VERDICTS}
    return {
        "scenes": kind,
        "product": family,
        "case": case,
        "should be": truth,
        **verdicts,
        "wrong": wrong,
        "undecided": share,
    }


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(__doc__, argv)
    folder = Path(os.environ.get("SWATH_REALDATA") or REPOSITORY.parent / "shared" / "data")
    real: tuple[RealScene, ...] = all_scenes(folder) if folder.is_dir() else ()
    rows: list[dict[str, Any]] = []
    for kind, places in (("real, held out", HELD_OUT), ("real, thresholds set on", CALIBRATION)):
        cases = [case for scene in real if scene.place in places for case in cases_of(scene)]
        rows += confusion((case for case in cases if case.large_enough), kind)
        rows += confusion((case for case in cases if not case.large_enough), f"{kind}, too small")[-2:]
    with tempfile.TemporaryDirectory() as home:
        simulated = [case for scene in simulated_scenes(Path(home) / "sandbox") for case in cases_of(scene)]
    rows += confusion((case for case in simulated if case.large_enough), "simulated")
    rows += confusion((case for case in simulated if not case.large_enough), "simulated, too small")[-2:]
    show("Radiometric truth", rows, ("numpy", "rasterio"), as_json=options.json)


if __name__ == "__main__":
    main()
