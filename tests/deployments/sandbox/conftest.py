"""The small archive that the sandbox tests share."""

from __future__ import annotations

import time

import pytest

from deployments.sandbox import SandboxInfo, make_sandbox
from tests.deployments.sandbox.small_archive import DATES, SIZE_M


@pytest.fixture(scope="session")
def timed_archive(tmp_path_factory: pytest.TempPathFactory) -> tuple[SandboxInfo, float]:
    started = time.process_time()
    info = make_sandbox(tmp_path_factory.mktemp("sandbox") / "archive", size_m=SIZE_M, dates=DATES)
    return info, time.process_time() - started


@pytest.fixture(scope="session")
def archive(timed_archive: tuple[SandboxInfo, float]) -> SandboxInfo:
    return timed_archive[0]
