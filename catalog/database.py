"""Opens the one database of this installation, migrated to its newest revision.

SQLite runs in WAL mode: readers never wait for a writer, and writers queue (``BEGIN IMMEDIATE`` with a busy
timeout) instead of failing half-way. PostgreSQL works the same through the same functions. Alembic is
imported only when the stored revision differs from ``HEAD``, because importing it costs 0.8 s.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import batched
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from catalog.errors import LedgerError
from catalog.settings import Settings, load_settings

HEAD = "0002"
"""The newest revision in ``catalog/migrations/versions``."""

BUSY_TIMEOUT_S = 60.0
"""How long an SQLite writer waits for another one."""

CHUNK = 5_000
"""Keys per statement: below the parameter limits of SQLite (32,766) and PostgreSQL (65,535)."""


def open_database(settings: Settings | None = None) -> Engine:
    """The database of these settings (of the environment by default), migrated to ``HEAD``.

    Raises
    ------
    LedgerError: ``database-unreachable``, ``database-newer`` (made by a newer Swath).
    """
    settings = settings or load_settings()
    engine = _engine(settings.database_url)
    shown = engine.url.render_as_string(hide_password=True)
    try:
        with engine.connect() as connection:
            revision = _revision(connection)
    except (DBAPIError, OSError) as error:
        raise LedgerError(
            "database-unreachable",
            _first_line(error),
            subject=shown,
            next_step="check SWATH_DATABASE_URL, or that its server runs and its folder can be written",
        ) from error
    if revision != HEAD:
        _migrate(engine, shown)
    return engine


@contextmanager
def write(engine: Engine, lock: str = "") -> Iterator[Connection]:
    """A transaction that writes; committed at the end of the block, rolled back on an exception.

    On SQLite it is the only writer from its first statement on. On PostgreSQL it is the only one among those
    that name the same ``lock``; an empty one locks nothing but the rows it touches.
    """
    with engine.connect().execution_options(swath_writes=True) as connection, connection.begin():
        if lock and connection.dialect.name == "postgresql":
            connection.execute(
                text("SELECT pg_advisory_xact_lock(:high, :low)"),
                {"high": 0x5357, "low": zlib.crc32(lock.encode()) - 2**31},
            )
        yield connection


def chunks[T](values: Iterable[T], size: int = CHUNK) -> Iterator[tuple[T, ...]]:
    """Values in tuples of at most ``size``, so that no statement outgrows a database's limits."""
    return batched(values, size)


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise LedgerError(
            "database-unreachable",
            "SWATH_DATABASE_URL is no database address",
            next_step="write sqlite:////absolute/path.db or postgresql://user@host/name",
        ) from error
    arguments: dict[str, Any] = {}
    if parsed.get_backend_name() == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    elif parsed.get_backend_name() == "sqlite":
        arguments["connect_args"] = {"timeout": BUSY_TIMEOUT_S}
        if parsed.database:
            try:
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise LedgerError(
                    "database-unreachable",
                    f"its folder cannot be made: {error.strerror}",
                    subject=parsed.database,
                    next_step="set SWATH_HOME or SWATH_DATABASE_URL to a place that can be written",
                ) from error
    else:
        raise LedgerError(
            "database-unreachable",
            f"{parsed.get_backend_name()} is not supported",
            next_step="use SQLite or PostgreSQL",
        )
    engine = create_engine(parsed, json_serializer=to_json, pool_pre_ping=bool(not arguments), **arguments)
    if parsed.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: Any, _: Any) -> None:
    # The driver's own transaction handling is off: it knows no BEGIN IMMEDIATE and commits before DDL.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}")
    cursor.execute("PRAGMA page_size = 16384")  # of a new file: a scene's document is 2 to 10 kB
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # One that reads first and writes later would fail at once, timeout or not, if another one wrote between.
    writes = connection.get_execution_options().get("swath_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


class Json(str):
    """A document that is JSON text already; stored as it is."""


def to_json(value: Any) -> Json:
    """A document as it is stored; NaN and infinities are refused, because JSON knows none."""
    return value if isinstance(value, Json) else Json(_ENCODER.encode(value))


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


def _migrate(engine: Engine, shown: str) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    # One transaction around it all: two processes that start together migrate once, a kill leaves nothing.
    with write(engine, lock="migrate") as connection:
        if _revision(connection) == HEAD:
            return
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise LedgerError(
                "database-newer",
                f"its revision {_revision(connection)} is unknown to this version of Swath",
                subject=shown,
                next_step="upgrade Swath, or point SWATH_DATABASE_URL at another database",
            ) from error


def _first_line(error: Exception) -> str:
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
