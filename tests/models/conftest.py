"""A store of its own for every test that makes a cube; one torch thread, for the networks are tiny."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def swath_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SWATH_HOME", str(tmp_path))
    for name in ("SWATH_STORE", "SWATH_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One store for all tests of a module that only read it."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        patch.setenv("SWATH_HOME", str(home))
        for name in ("SWATH_STORE", "SWATH_DATABASE_URL"):
            patch.delenv(name, raising=False)
        yield home
