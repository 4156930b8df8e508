"""Runs every benchmark, one table each: ``python -m tests.benchmarks``."""

from __future__ import annotations

import importlib
import pkgutil

import tests.benchmarks as package


def main() -> None:
    names = sorted(info.name for info in pkgutil.iter_modules(package.__path__))
    for name in names:
        benchmark = importlib.import_module(f"tests.benchmarks.{name}") if name != "__main__" else None
        if hasattr(benchmark, "main"):
            benchmark.main([])


if __name__ == "__main__":
    main()
