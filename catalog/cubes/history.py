"""Versions of a cube: what was committed when, and which name means which snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import icechunk

from catalog.errors import CubeError


@dataclass(frozen=True)
class Version:
    """One commit of a cube."""

    id: str
    """Snapshot id."""
    written: datetime
    message: str
    appended: Mapping[str, int]
    """Samples this commit added, by product."""
    superseded: Mapping[str, str]
    """Scenes this commit marked: old id → new id."""


def history(repository: icechunk.Repository, snapshot: str) -> list[Version]:
    """The versions that led to a snapshot, newest first, without the empty one at the root."""
    return [
        Version(
            id=info.id,
            written=info.written_at,
            message=info.message,
            appended=dict(_part(info.metadata, "appended")),
            superseded=dict(_part(info.metadata, "superseded")),
        )
        for info in repository.ancestry(snapshot_id=snapshot)
        if info.parent_id is not None
    ]


def ancestors(repository: icechunk.Repository) -> dict[str, icechunk.SnapshotInfo]:
    """Every snapshot that a branch or a tag leads to, by id."""
    found: dict[str, icechunk.SnapshotInfo] = {}
    tips = {repository.lookup_branch(name) for name in repository.list_branches()}
    tips |= {repository.lookup_tag(name) for name in repository.list_tags()}
    for tip in tips:
        for info in repository.ancestry(snapshot_id=tip):
            if info.id in found:
                break
            found[info.id] = info
    return found


def resolve(repository: icechunk.Repository, ref: str, *, cube: str) -> str:
    """The snapshot id that a branch, a tag or an id means.

    Raises
    ------
    CubeError: ``unknown-snapshot``.
    """
    for look_up in (repository.lookup_branch, repository.lookup_tag):
        try:
            return look_up(ref)
        except icechunk.NotFoundError:
            continue
    try:
        return repository.lookup_snapshot(ref).id
    except (icechunk.NotFoundError, icechunk.InvalidInputError) as error:
        raise CubeError(
            "unknown-snapshot",
            f"there is no branch, tag or snapshot {ref!r}",
            subject=cube,
            next_step=f"see `swath cubes history {cube}`",
        ) from error


def tag(repository: icechunk.Repository, name: str, snapshot: str, *, cube: str) -> None:
    """Name a snapshot for good; the same name for the same snapshot again changes nothing.

    Raises
    ------
    CubeError: ``tag-taken``.
    """
    try:
        repository.create_tag(name, snapshot)
    except icechunk.AlreadyExistsError as error:
        if name in repository.list_tags() and repository.lookup_tag(name) == snapshot:
            return
        raise CubeError(
            "tag-taken",
            f"the tag {name!r} names another snapshot, or did once; tags never move",
            subject=cube,
            next_step="choose another tag",
        ) from error


def _part(metadata: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = metadata.get(key)
    return part if isinstance(part, Mapping) else {}
