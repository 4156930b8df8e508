"""What the gate says: one row per scene and check, and what became of each scene."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class GateRow:
    """One scene, one check."""

    scene: str
    check: str
    title: str
    value: str
    limit: str
    passed: bool


@dataclass(frozen=True)
class GateResult:
    """What the gate says of a product's new scenes."""

    product: str
    accepted: tuple[str, ...]
    quarantined: Mapping[str, tuple[str, ...]]
    """Scene id → reasons in plain words, with value and limit."""
    table: tuple[GateRow, ...]
    report: Path | None = None
    """The HTML page, where one was asked for."""

    @property
    def refused_share(self) -> float:
        total = len(self.accepted) + len(self.quarantined)
        return len(self.quarantined) / total if total else 0.0
