"""What the ledger answers with: rows, and what a change did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from catalog.ledger.supersession import State
from catalog.scenes import Scene


@dataclass(frozen=True)
class LedgerRow:
    """One scene in one cube's ledger."""

    cube: str
    product: str
    scene_id: str
    key: str
    state: State
    reasons: tuple[str, ...]
    """Why it was quarantined, one line each."""
    snapshot: str | None
    """The first that holds it, or the last of the refresh that cubed it, if that committed in portions."""
    superseded_by: str | None
    """The better version; on a scene that is still ``cubed``, the one that will supersede it once cubed."""
    sensed: datetime
    seen_at: datetime
    changed_at: datetime
    document: Mapping[str, Any]
    """``Scene.to_dict()``."""
    passed_over: str | None = None
    """Why an accepted scene had nothing to give when it was last looked at."""

    def scene(self) -> Scene:
        """The scene itself."""
        return Scene.from_dict(self.document)

    def summary(self) -> dict[str, Any]:
        """The row without the scene's document, ready for JSON."""
        return {
            "cube": self.cube,
            "product": self.product,
            "scene": self.scene_id,
            "sensed": self.sensed.isoformat(),
            "state": str(self.state),
            "reasons": list(self.reasons),
            "snapshot": self.snapshot,
            "superseded_by": self.superseded_by,
            "passed_over": self.passed_over,
            "seen_at": self.seen_at.isoformat(),
            "changed_at": self.changed_at.isoformat(),
        }


@dataclass(frozen=True)
class UpsertResult:
    """What a list of found scenes changed."""

    new: tuple[str, ...] = ()
    """Ids never seen before in this cube."""
    known: int = 0
    """How many were there already, at this version or a better one."""
    superseded: tuple[tuple[str, str], ...] = ()
    """(old id, new id): the old one is superseded, now or as soon as the new one is cubed."""
    renewed: tuple[str, ...] = ()
    """Ids whose better version came under the same id before they were cubed; they are ``seen`` again."""
    changed: tuple[str, ...] = ()
    """Ids whose better version came under the same id after they were cubed; that version is among ``new``,
    under an id of its own (see ``versioned_id``)."""
    touched: tuple[str, ...] = ()
    """Ids whose item changed without becoming another version; the record of one not cubed is renewed."""


def merged(results: Iterable[UpsertResult]) -> UpsertResult:
    """Several results as one."""
    results = list(results)
    return UpsertResult(
        **{
            name: tuple(value for result in results for value in getattr(result, name))
            for name in ("new", "superseded", "renewed", "changed", "touched")
        },
        known=sum(result.known for result in results),
    )


@dataclass(frozen=True)
class Reconciliation:
    """What the ledger learnt from the cube's own scene list; (product, scene id) each."""

    cubed: tuple[tuple[str, str], ...] = ()
    """In the cube, though the ledger did not know."""
    returned: tuple[tuple[str, str], ...] = ()
    """``cubed`` in the ledger, but not in the cube: accepted again."""
    unknown: tuple[tuple[str, str], ...] = ()
    """In the cube, never seen by this ledger, and given without their scene."""


@dataclass(frozen=True)
class Failure:
    """An asset that could not be read."""

    cube: str
    product: str
    scene_id: str
    band: str
    href: str
    """Unsigned."""
    status: int | None
    attempts: int
    message: str
    failed_at: datetime
