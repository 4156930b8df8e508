"""What the gate says: one row per scene and check, and what became of each scene."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


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
class Exhibit:
    """What the report shows of a quarantined scene."""

    picture: Any = None
    """uint8 ``(y, x, 3)``."""
    histograms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Band → ``low``, ``high`` and ``counts``, in physical units; of a scene whose radiometry is in doubt."""


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
    radiometry: Mapping[str, str] = field(default_factory=dict)
    """Scene id → ``agrees``, ``contradicts`` or ``undecidable``, of every scene that could be read."""
    exhibits: Mapping[str, Exhibit] = field(default_factory=dict)
    """Scene id → what to show of it, of the quarantined."""

    @property
    def refused_share(self) -> float:
        total = len(self.accepted) + len(self.quarantined)
        return len(self.quarantined) / total if total else 0.0


def merge_results(results: Sequence[GateResult], report: Path | None = None) -> GateResult:
    """What was judged in portions, as one result."""
    first = results[0]
    return GateResult(
        first.product,
        tuple(scene for result in results for scene in result.accepted),
        {scene: why for result in results for scene, why in result.quarantined.items()},
        tuple(row for result in results for row in result.table),
        report,
        radiometry={scene: said for result in results for scene, said in result.radiometry.items()},
        exhibits={scene: shown for result in results for scene, shown in result.exhibits.items()},
    )
