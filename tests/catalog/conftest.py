"""The settings that catalog tests run with: a fresh home, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from sqlalchemy import Engine

from catalog.database import open_database
from catalog.settings import Settings, load_settings
from tests.catalog.postgresql_server import new_postgresql_database


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_settings(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """Settings of an installation with nothing in it, not even tables."""
    monkeypatch.setenv("SWATH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SWATH_STORE", raising=False)
    if request.param == "postgresql":
        monkeypatch.setenv("SWATH_DATABASE_URL", new_postgresql_database())
    else:
        monkeypatch.delenv("SWATH_DATABASE_URL", raising=False)
    return load_settings()


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of an installation with empty tables, copied from one that was migrated once."""
    monkeypatch.setenv("SWATH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SWATH_STORE", raising=False)
    if request.param == "postgresql":
        monkeypatch.setenv("SWATH_DATABASE_URL", new_postgresql_database(template=_migrated_postgresql()))
    else:
        monkeypatch.delenv("SWATH_DATABASE_URL", raising=False)
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "swath.db").write_bytes(_migrated_sqlite())
    return load_settings()


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    """Their database."""
    opened = open_database(settings)
    yield opened
    opened.dispose()


@cache
def _migrated_sqlite() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "swath.db"
        open_database(Settings(Path(folder), f"sqlite:///{path}", folder)).dispose()
        return path.read_bytes()


@cache
def _migrated_postgresql() -> str:
    url = new_postgresql_database()
    open_database(Settings(Path(), url, "")).dispose()
    return url.partition("@/")[2].partition("?")[0]
