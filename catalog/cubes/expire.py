"""Lets old snapshots go, and the bytes that only they need; what somebody needs stays."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import icechunk

from catalog.cubes.history import ancestors
from catalog.cubes.place import Place, open_repository
from catalog.cubes.publish import MAIN, sweep

logger = logging.getLogger(__name__)

SAFE_AGE = timedelta(days=1)
"""In S3, where no lock keeps writers out: objects that nothing leads to and that are younger are left alone,
for a writer may be about to publish them."""

KEPT = "kept-"
"""Branches of this prefix hold what the last expiry was asked to keep."""

LINKED = ("chunks", "manifests")
"""Folders of a repository that its trial copy only points to."""


@dataclass(frozen=True)
class Expired:
    """What an expiry did, or would do."""

    snapshots: tuple[str, ...]
    """Snapshots that are gone, oldest first."""
    kept: Mapping[str, str]
    """Snapshots that are as old and stay: id → why."""
    bytes_freed: int
    """With what killed writers had left; on a dry run in S3 that alone, as the rest shows afterwards only."""


def expire(
    place: Place,
    repository: icechunk.Repository,
    older_than: datetime,
    *,
    keep: Collection[str] = (),
    dry_run: bool = False,
    scratch: Path,
) -> Expired:
    """Let go the snapshots that were written before ``older_than``.

    The newest stays, and so does what a tag or another branch names. ``keep`` are further ids to be kept; as
    a mapping it says why. Whoever reads a snapshot that goes meets ``unknown-snapshot`` or a missing chunk.

    Killed at any moment, it leaves every snapshot that is to stay whole; the next expiry ends its work.

    Raises
    ------
    ValueError: ``older_than`` has no time zone.
    CubeError: ``cube-busy``.
    """
    if older_than.tzinfo is None:
        raise ValueError("older_than needs a time zone")
    with place.locked():
        reasons = _reasons(repository, keep)
        old = {
            info.id: info.written_at
            for info in ancestors(repository).values()
            if info.parent_id is not None and info.written_at < older_than
        }
        gone = tuple(sorted(old.keys() - reasons.keys(), key=lambda snapshot: (old[snapshot], snapshot)))
        kept = {snapshot: reasons[snapshot] for snapshot in sorted(old.keys() & reasons.keys(), key=old.get)}  # type: ignore[arg-type]
        if dry_run:
            return Expired(gone, kept, _would_free(place, repository, older_than, reasons, scratch))
        if place.is_local:
            place.journal_file.touch()  # killed from here on, the next writer sweeps
        _hold(repository, {snapshot for snapshot in keep if snapshot in old})
        repository.expire_snapshots(older_than)
        freed = sweep(place, repository, _objects_before(place))
        if place.is_local:
            place.journal_file.unlink(missing_ok=True)
    logger.info("%s: %d snapshots expired, %d bytes freed", place.name, len(gone), freed)
    return Expired(gone, kept, freed)


def _reasons(repository: icechunk.Repository, keep: Collection[str]) -> dict[str, str]:
    """Snapshots that stay whatever their age → why."""
    why = {snapshot: keep[snapshot] if isinstance(keep, Mapping) else "asked to be kept" for snapshot in keep}
    for branch in sorted(repository.list_branches() - {MAIN}):
        if not branch.startswith(KEPT):
            why[repository.lookup_branch(branch)] = f"branch {branch}"
    for tag in sorted(repository.list_tags(), reverse=True):
        why[repository.lookup_tag(tag)] = f"tag {tag}"
    return why | {repository.lookup_branch(MAIN): "the newest"}


def _hold(repository: icechunk.Repository, snapshots: Collection[str]) -> None:
    """Icechunk keeps what a branch points to: give each a branch, and drop those of earlier expiries."""
    wanted = {f"{KEPT}{snapshot.lower()}": snapshot for snapshot in snapshots}
    held = {branch for branch in repository.list_branches() if branch.startswith(KEPT)}
    for branch in sorted(wanted.keys() - held):
        repository.create_branch(branch, wanted[branch])
    for branch in sorted(held - wanted.keys()):
        repository.delete_branch(branch)


def _objects_before(place: Place) -> datetime:
    return datetime.now(UTC) - (timedelta() if place.is_local else SAFE_AGE)


def _would_free(
    place: Place, repository: icechunk.Repository, older_than: datetime, keep: Collection[str], scratch: Path
) -> int:
    """Bytes that an expiry would free: tried on a copy of what says which snapshot needs what."""
    if not place.is_local:
        summary = repository.garbage_collect(_objects_before(place), dry_run=True)
        return int(summary.bytes_deleted)
    scratch.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=scratch) as folder:
        copy = Place(place.name, f"{folder}/{place.name}")
        copy.folder.mkdir()
        for item in place.folder.iterdir():
            if item.name in LINKED:
                (copy.folder / item.name).symlink_to(item)
            elif item.is_dir():
                shutil.copytree(item, copy.folder / item.name)
            else:
                shutil.copyfile(item, copy.folder / item.name)
        trial = open_repository(copy)
        _hold(trial, {snapshot for snapshot in keep if snapshot in ancestors(trial)})
        trial.expire_snapshots(older_than)
        # Never anything but a dry run here: the linked folders are the cube's own.
        return int(trial.garbage_collect(datetime.now(UTC), dry_run=True).bytes_deleted)
