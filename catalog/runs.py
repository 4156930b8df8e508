"""Runs: what was executed, from exactly what, and whether the same was finished before."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, insert, select, update

from catalog import tables
from catalog.database import write
from catalog.errors import LedgerError

PACKAGES = ("catalog", "models", "tasks", "flows", "deployments")
_ROOT = Path(__file__).resolve().parent.parent
_table = tables.runs


@dataclass(frozen=True)
class Run:
    """One execution."""

    run_id: str
    kind: str
    """What the identity is unique for, e.g. ``pretrain``, ``refresh``, ``evaluate``."""
    flow: str
    recipe: str
    """The recipe's name; the whole recipe is in the manifest."""
    identity: str | None
    """``run_identity(…)`` of what it was made from; None for a run that is never looked up again."""
    status: str
    """``running`` (also of a run that was killed), ``finished``, ``failed``, or ``duplicate``."""
    manifest: Mapping[str, Any]
    started: datetime
    ended: datetime | None


class Runs:
    """The runs of this installation. Of one kind and identity, at most one is ever ``finished``."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def start(
        self,
        run_id: str,
        *,
        kind: str,
        flow: str,
        recipe: str,
        identity: str | None = None,
        manifest: Mapping[str, Any] | None = None,
    ) -> Run:
        """Note that a run starts; it may be resumed, or repeated because what it made was lost, under its id.

        Raises
        ------
        LedgerError: ``run-id-taken``: the id belongs to a run of another kind or identity.
        """
        with write(self.engine, lock="runs") as connection:
            old = _get(connection, run_id)
            if old is None:
                connection.execute(
                    insert(_table).values(
                        run_id=run_id,
                        kind=kind,
                        flow=flow,
                        recipe=recipe,
                        identity=identity,
                        status="running",
                        manifest=dict(manifest or {}),
                        started=datetime.now(UTC),
                    )
                )
            elif (old.kind, old.identity) != (kind, identity):
                raise LedgerError(
                    "run-id-taken",
                    f"another run ({old.kind}, {old.status}) has this id",
                    subject=run_id,
                    next_step="start the run under an id of its own",
                )
            else:
                values: dict[str, Any] = {"status": "running", "ended": None}
                if manifest is not None:
                    values["manifest"] = dict(manifest)
                connection.execute(update(_table).where(_table.c.run_id == run_id).values(**values))
            return _must_get(connection, run_id)

    def finish(self, run_id: str, manifest: Mapping[str, Any] | None = None) -> Run:
        """Note that a run ended well; returns the one finished run of its kind and identity.

        Where another run was faster, this one becomes a ``duplicate`` and the faster one is returned.
        Finishing twice changes nothing.
        """
        with write(self.engine, lock="runs") as connection:
            run = _must_get(connection, run_id)
            if run.status == "finished":
                return run
            first = _finished(connection, run.identity, run.kind)
            status = "finished" if first is None else "duplicate"
            _end(connection, run_id, status, manifest)
            return first or _must_get(connection, run_id)

    def fail(self, run_id: str, manifest: Mapping[str, Any] | None = None) -> Run:
        """Note that a run ended badly; it can be resumed or repeated.

        Raises
        ------
        LedgerError: ``run-finished``: it had ended well before.
        """
        with write(self.engine, lock="runs") as connection:
            run = _must_get(connection, run_id)
            if run.status in ("finished", "duplicate"):
                raise LedgerError(
                    "run-finished", f"it is {run.status} and cannot fail any more", subject=run_id
                )
            _end(connection, run_id, "failed", manifest)
            return _must_get(connection, run_id)

    def find(self, kind: str, identity: str) -> Run | None:
        """The finished run of this identity."""
        with self.engine.connect() as connection:
            return _finished(connection, identity, kind)

    def find_unfinished(self, kind: str, identity: str) -> Run | None:
        """The newest run of this identity that was killed, failed, or is still running."""
        query = (
            select(_table)
            .where(_table.c.kind == kind, _table.c.identity == identity)
            .where(_table.c.status.in_(("running", "failed")))
            .order_by(_table.c.started.desc(), _table.c.run_id.desc())
            .limit(1)
        )
        with self.engine.connect() as connection:
            found = connection.execute(query).mappings().first()
        return None if found is None else Run(**found)

    def get(self, run_id: str) -> Run:
        """One run by id."""
        with self.engine.connect() as connection:
            return _must_get(connection, run_id)

    def list(
        self,
        *,
        kind: str | None = None,
        recipe: str | None = None,
        status: str | None = None,
        limit: int = 50,
    ) -> list[Run]:
        """Runs, newest first."""
        query = select(_table).order_by(_table.c.started.desc(), _table.c.run_id.desc()).limit(limit)
        for column, value in ((_table.c.kind, kind), (_table.c.recipe, recipe), (_table.c.status, status)):
            if value is not None:
                query = query.where(column == value)
        with self.engine.connect() as connection:
            return [Run(**found) for found in connection.execute(query).mappings()]


def run_identity(**parts: Any) -> str:
    """SHA-256 of named parts, e.g. recipe document, snapshot, ``source_hash()``, ``lock_hash()``, seed.

    Canonical JSON: neither the order of keys nor tuples against lists make a difference. A part that JSON
    cannot hold, NaN included, is refused: it would not be the same on the next run.
    """
    document = json.dumps(parts, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(document.encode()).hexdigest()


@cache
def code_version() -> str:
    """Which code runs: ``git describe`` of a checkout, or the package's version, and ``source_hash``.

    The hash tells edited and untracked files apart, which a commit does not.
    """
    described = f"v{_package_version()}"
    if (_ROOT / ".git").exists():
        try:
            found = subprocess.run(
                ["git", "-C", str(_ROOT), "describe", "--always", "--tags", "--dirty"],
                capture_output=True,
                text=True,
                timeout=30,
                check=True,
            )
            described = found.stdout.strip() or described
        except (OSError, subprocess.SubprocessError):
            pass  # no git here, or a checkout of another user's
    return f"{described}+{source_hash()[:12]}"


@cache
def source_hash(packages: tuple[str, ...] = PACKAGES) -> str:
    """SHA-256 of the code and data files of Swath's packages: which code runs, for identities.

    Unlike a commit it does not change with the documentation or the tests.
    """
    digest = hashlib.sha256()
    for package in packages:
        for path in sorted((_ROOT / package).rglob("*")):
            if path.suffix in (".py", ".yaml", ".json") and path.is_file():
                digest.update(path.relative_to(_ROOT).as_posix().encode() + b"\0")
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


@cache
def lock_hash() -> str:
    """SHA-256 of a checkout's lock file; of the installed distributions' versions where there is none."""
    lock = _ROOT / "requirements.lock"
    if lock.is_file():
        return hashlib.sha256(lock.read_bytes()).hexdigest()
    installed = sorted(f"{found.name.lower()}=={found.version}" for found in metadata.distributions())
    return hashlib.sha256("\n".join(installed).encode()).hexdigest()


def _package_version() -> str:
    try:
        return metadata.version("swath")
    except metadata.PackageNotFoundError:
        return "0"


def _get(connection: Connection, run_id: str) -> Run | None:
    found = connection.execute(select(_table).where(_table.c.run_id == run_id)).mappings().first()
    return None if found is None else Run(**found)


def _must_get(connection: Connection, run_id: str) -> Run:
    run = _get(connection, run_id)
    if run is None:
        raise LedgerError("unknown-run", "there is no such run", subject=run_id, next_step="swath run --help")
    return run


def _finished(connection: Connection, identity: str | None, kind: str) -> Run | None:
    query = select(_table).where(
        _table.c.kind == kind, _table.c.identity == identity, _table.c.status == "finished"
    )
    found = None if identity is None else connection.execute(query).mappings().first()
    return None if found is None else Run(**found)


def _end(connection: Connection, run_id: str, status: str, manifest: Mapping[str, Any] | None) -> None:
    values: dict[str, Any] = {"status": status, "ended": datetime.now(UTC)}
    if manifest is not None:
        values["manifest"] = dict(manifest)
    connection.execute(update(_table).where(_table.c.run_id == run_id).values(**values))
