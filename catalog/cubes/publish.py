"""The publish rule: commits reach ``main`` only if it has not moved, and dead writers leave nothing."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import icechunk

from catalog.cubes import object_storage
from catalog.cubes.place import LOCK_TIMEOUT_S, Place
from catalog.errors import CubeError

logger = logging.getLogger(__name__)

MAIN = "main"


@contextmanager
def commit_session(
    place: Place, repository: icechunk.Repository, *, lock_timeout_s: float = LOCK_TIMEOUT_S
) -> Iterator[icechunk.Session]:
    """A writable session on ``main`` for one commit.

    On a local disk Icechunk's check that ``main`` has not moved is not atomic across processes, so one file
    lock covers looking up the base, writing, committing and publishing. In S3 the check is a conditional
    request, and the loser of a race gets ``main-moved``.
    """
    with object_storage.told(place.url), place.locked(lock_timeout_s):
        if place.is_local:
            if place.journal_file.exists():
                sweep(place, repository, datetime.now(UTC))
            place.journal_file.touch()
        yield repository.writable_session(MAIN)
        # Not reached by an error: what it left behind is swept before the next commit.
        if place.is_local:
            place.journal_file.unlink(missing_ok=True)


def publish(place: Place, session: icechunk.Session, message: str, metadata: Mapping[str, Any]) -> str:
    """Commit the session to ``main``; returns the snapshot id.

    Raises
    ------
    CubeError: ``main-moved``; nothing of the session is visible.
    """
    try:
        return session.commit(message, metadata=dict(metadata))
    except icechunk.ConflictError as error:
        raise CubeError(
            "main-moved",
            "another writer published first; nothing of this commit is visible",
            subject=place.name,
            next_step="rerun: samples that are in the cube by then are skipped",
        ) from error


def sweep(place: Place, repository: icechunk.Repository, before: datetime) -> int:
    """Remove what dead writers left and what expired snapshots alone needed; returns the bytes it freed.

    ``before``: objects written later stay. On a local disk, where nobody else writes while the lock is held,
    that is now. Whatever ``main``, another branch or a tag leads to stays.
    """
    if place.is_local:
        for path in place.folder.rglob("*#*"):
            # Staging files: an object is written beside its place and then renamed.
            if re.search(r"#\d+$", path.name) and path.is_file():
                path.unlink(missing_ok=True)
    summary = repository.garbage_collect(before)
    logger.info(
        "%s: removed %d objects that nothing leads to (%d bytes)",
        place.name,
        summary.chunks_deleted + summary.manifests_deleted + summary.snapshots_deleted,
        summary.bytes_deleted,
    )
    return int(summary.bytes_deleted)
