"""The settings that catalog tests run with: a fresh home, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from catalog.database import open_database
from catalog.settings import Settings, load_settings
from tests.catalog.postgresql_server import new_postgresql_database


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of an installation with nothing in it."""
    monkeypatch.setenv("SWATH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SWATH_STORE", raising=False)
    if request.param == "postgresql":
        monkeypatch.setenv("SWATH_DATABASE_URL", new_postgresql_database())
    else:
        monkeypatch.delenv("SWATH_DATABASE_URL", raising=False)
    return load_settings()


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    """Its database, migrated."""
    opened = open_database(settings)
    yield opened
    opened.dispose()
