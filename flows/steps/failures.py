"""Failures of scenes as rows of the ledger."""

from __future__ import annotations

from catalog.scenes import Scene
from flows.session import Session


def may_pass(error: Exception) -> bool:
    """Whether the cause lies outside the scene: a server that is down says nothing about its files."""
    return bool(getattr(error, "may_pass", False))


def record_failure(session: Session, scene: Scene, error: Exception) -> None:
    """One row per scene and file, with the unsigned address, status and attempts."""
    session.ledger.record_failure(
        scene,
        getattr(error, "band", ""),
        getattr(error, "href", ""),
        getattr(error, "status", None),
        getattr(error, "attempts", 1),
        getattr(error, "message", str(error)),
        cube=session.recipe.cube_name,
    )
