"""Fixtures shared by the tests of the tasks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tasks.all_products import every_product
from tests.tasks.sandbox_archive import Sandbox, small_sandbox


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """The small sandbox archive behind its STAC API."""
    with small_sandbox(tmp_path_factory.mktemp("sandbox") / "archive") as running:
        yield running


@pytest.fixture(scope="session")
def all_products(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """The same with every product that lies on a grid."""
    with every_product(tmp_path_factory.mktemp("all-products") / "archive") as running:
        yield running
