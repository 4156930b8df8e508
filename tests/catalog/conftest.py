"""The settings that catalog tests run with: a fresh home, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from sqlalchemy import Engine, delete

from catalog.database import open_database, write
from catalog.settings import Settings, load_settings
from catalog.tables import metadata
from tests.catalog.postgresql_server import new_postgresql_database


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_settings(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """Settings of an installation with nothing in it, not even tables."""
    return _settings(
        new_postgresql_database() if request.param == "postgresql" else "", tmp_path, monkeypatch
    )


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of an installation with empty tables; what makes them is done once."""
    if request.param == "postgresql":
        url, opened = _migrated_postgresql()
        with write(opened) as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(delete(table))
        return _settings(url, tmp_path, monkeypatch)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "swath.db").write_bytes(_migrated_sqlite())
    return _settings("", tmp_path, monkeypatch)


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    """Their database."""
    opened = open_database(settings)
    yield opened
    opened.dispose()


def _settings(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("SWATH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SWATH_DATABASE_URL", database_url)
    monkeypatch.delenv("SWATH_STORE", raising=False)
    return load_settings()


@cache
def _migrated_sqlite() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "swath.db"
        open_database(Settings(Path(folder), f"sqlite:///{path}", folder)).dispose()
        return path.read_bytes()


@cache
def _migrated_postgresql() -> tuple[str, Engine]:
    url = new_postgresql_database()
    return url, open_database(Settings(Path(), url, ""))
