"""A store of its own for every test of an area cube."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def swath_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SWATH_HOME", str(tmp_path))
    monkeypatch.delenv("SWATH_STORE", raising=False)
    return tmp_path
