"""One installation for the tests of the flows: the sandbox archive, a Prefect server, one finished run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from deployments.sandbox import SandboxInfo, make_sandbox
from deployments.stac_server import serve_archive
from flows.archives import port_of
from flows.environment import QUIET
from flows.prefect_server import prefect_server
from tests.flows.installation import Installation

LIMIT_S = 900
"""The test that comes first waits for the fixtures below, on a busy machine for some minutes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(LIMIT_S))


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A ``SWATH_HOME`` with the sandbox archive, served, and a Prefect server; about half a minute."""
    folder = tmp_path_factory.mktemp("home")
    archive = make_sandbox(folder / "archives" / "sandbox").folder
    places = {name: tmp_path_factory.mktemp(name) for name in ("elsewhere", "temporary")}
    with ExitStack() as stack:
        server = stack.enter_context(serve_archive(archive, port=port_of("sandbox")))
        nowhere = Installation(folder, "", server, **places)
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("PREFECT_API_URL", raising=False)
            for name, value in (QUIET | {"PREFECT_HOME": str(folder / "prefect")}).items():
                patch.setenv(name, value)
            api_url = stack.enter_context(prefect_server(nowhere.settings))
            os.environ.pop("PREFECT_API_URL")
        yield Installation(folder, api_url, server, **places)


@pytest.fixture(scope="session")
def sandbox(home: Installation) -> SandboxInfo:
    """What the archive holds."""
    return make_sandbox(home.home / "archives" / "sandbox")


@pytest.fixture(scope="session")
def made(home: Installation) -> dict[str, Any]:
    """Summary of the first ``data_to_model``; about a minute."""
    summary: dict[str, Any] = home.run("data-to-model")
    return summary
