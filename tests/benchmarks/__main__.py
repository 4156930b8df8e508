"""Runs every benchmark, one table each: ``python -m tests.benchmarks``."""

from __future__ import annotations

import importlib
import pkgutil

import tests.benchmarks as package


def main() -> None:
    for module in sorted(info.name for info in pkgutil.iter_modules(package.__path__)):
        if module not in ("__main__", "table"):
            importlib.import_module(f"tests.benchmarks.{module}").main([])


if __name__ == "__main__":
    main()
