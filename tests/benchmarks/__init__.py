"""Benchmarks: ``python -m tests.benchmarks.NAME [--json]``, or all of them with ``make bench``."""
