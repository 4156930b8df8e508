"""Fixtures shared by the tests of the tasks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tasks.sandbox_archive import Sandbox, small_sandbox


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """The small sandbox archive behind its STAC API."""
    with small_sandbox(tmp_path_factory.mktemp("sandbox") / "archive") as running:
        yield running
