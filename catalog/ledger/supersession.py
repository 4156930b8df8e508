"""The states of a scene, the changes that are allowed, and which version of an observation stands.

::

    seen ──accept──▶ accepted ──cubed(snapshot)──▶ cubed
     │ ▲                │
     │ └──replay──┐     │
     └─quarantine─▶ quarantined ◀─┘

    any of them ──a better version stands──▶ superseded(by) ──it is quarantined──▶ back to what it was

Scenes that share a ``Scene.key`` are versions of one observation. The one that *stands* is the highest by
``Scene.version`` among those that are not quarantined; of equal versions, the one seen first.

- A loser that is not cubed is superseded at once: reading it would be work for nothing.
- A loser that is cubed stands in until the winner is cubed itself; until then it is ``cubed`` and only names
  its successor in ``superseded_by``.
- A winner that is quarantined no longer stands: losers get back what they had reached, a cubed one stays
  cubed.

So ``superseded`` is nothing a scene reaches by itself: each scene keeps its *own* state, and what holds is
computed from all versions of the observation. That makes it independent of the order in which they arrive.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache

from catalog.scenes import Scene


class State(StrEnum):
    """Where a scene is."""

    SEEN = "seen"
    ACCEPTED = "accepted"
    QUARANTINED = "quarantined"
    CUBED = "cubed"
    SUPERSEDED = "superseded"


FROM: dict[State, frozenset[State]] = {
    State.ACCEPTED: frozenset({State.SEEN, State.ACCEPTED}),
    State.QUARANTINED: frozenset({State.SEEN, State.ACCEPTED, State.QUARANTINED}),
    State.CUBED: frozenset({State.ACCEPTED, State.CUBED}),
    State.SEEN: frozenset({State.QUARANTINED, State.SEEN}),
}
"""What a scene may be made → what it must be before. Repeating a change is allowed and changes nothing."""


@dataclass(frozen=True)
class Version:
    """One version of an observation, as the ledger holds it."""

    scene_id: str
    order: str
    """``version_order(scene)``."""
    seen_at: datetime
    own_state: State


@dataclass(frozen=True)
class Standing:
    """What holds for one version."""

    state: State
    superseded_by: str | None


def settle(versions: Iterable[Version]) -> dict[str, Standing]:
    """What holds for each version of one observation, by scene id."""
    # Last is best; of equal versions the one seen first, so that an exact copy sets off no work.
    ranked = sorted(versions, key=lambda v: (v.seen_at, v.scene_id), reverse=True)
    ranked.sort(key=lambda v: v.order)
    standings: dict[str, Standing] = {}
    leader: str | None = None
    cubed_above: str | None = None
    for version in reversed(ranked):
        own = version.own_state
        if leader is None:
            standings[version.scene_id] = Standing(own, None)
        elif own is State.CUBED and cubed_above is None:
            standings[version.scene_id] = Standing(own, leader)
        else:
            by = cubed_above if own is State.CUBED and cubed_above else leader
            standings[version.scene_id] = Standing(State.SUPERSEDED, by)
        if leader is None and own is not State.QUARANTINED:
            leader = version.scene_id
        if own is State.CUBED:
            cubed_above = version.scene_id
    return standings


def version_order(scene: Scene) -> str:
    """``Scene.version`` as text that sorts the same way: zero-padded numbers, a blank, generation time."""
    generated = scene.generated
    if generated is None:
        return f"{_padded(scene.baseline)} "
    if generated.tzinfo is not UTC:
        generated = generated.astimezone(UTC)
    return f"{_padded(scene.baseline)} {generated.isoformat()}"


@lru_cache(maxsize=4096)
def _padded(baseline: str | None) -> str:
    return ".".join(part.zfill(20) for part in (baseline or "0").split(".") if part.isdigit())
