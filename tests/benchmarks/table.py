"""How a benchmark prints: one Markdown table with median and spread, the machine named; or JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any


def arguments(description: str | None, argv: Sequence[str] | None) -> argparse.Namespace:
    """``--json`` and ``--runs N``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--runs", type=int, default=None, help="counted runs")
    return parser.parse_args(argv)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, minimum and maximum."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def show(title: str, rows: Sequence[dict[str, Any]], packages: Sequence[str], *, as_json: bool) -> None:
    """Print rows of equal keys."""
    machine = f"{len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}"
    versions = {name: version(name) for name in packages}
    if as_json:
        json.dump({"title": title, "machine": machine, "versions": versions, "rows": list(rows)}, sys.stdout)
        sys.stdout.write("\n")
        return
    columns = list(rows[0])
    named = ", ".join(f"{name} {number}" for name, number in versions.items())
    print(f"\n### {title}\n\n{machine}; {named}\n")
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(_text(row[column]) for column in columns) + " |")


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return f"{_text(value['median'])} ({_text(value['min'])}–{_text(value['max'])})"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
