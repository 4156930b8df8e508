"""Which scenes go into an area cube: those the archive has, the cube lacks, and the gate lets through."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from catalog.area_cubes import Step
from catalog.errors import SceneError
from catalog.products import Product
from catalog.recipes import GateLimits
from catalog.scenes import Scene
from tasks.area.passes import newest_versions

if TYPE_CHECKING:
    from catalog.archives import Archive

Progress = Callable[[str, int, int], None]


@dataclass
class Chosen:
    """What became of the scenes that a search found."""

    scenes: list[Scene] = field(default_factory=list)
    """Those the cube holds and those accepted now, newest versions only."""
    accepted: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    """Scene id → why, of those judged now."""
    later: dict[str, SceneError] = field(default_factory=dict)
    """Scene id → why it could not be read now; the next run tries again."""


def choose_scenes(
    product: Product,
    found: Sequence[Scene],
    held: Sequence[Step],
    refused: Mapping[str, str],
    limits: GateLimits,
    archive: Archive,
    *,
    report: Path | None = None,
    progress: Progress | None = None,
) -> Chosen:
    """Judge what is new by the same gate as ``refresh``; nothing new reads nothing.

    Parameters
    ----------
    refused: scenes that an earlier run turned away

    Raises
    ------
    SwathError: ``too-many-refused``.
    """
    have = {scene.id: scene for step in held for scene in step.scenes}
    known = [have.get(scene.id, scene) for scene in found if scene.id not in refused]
    new = [scene for scene in newest_versions([*have.values(), *known]) if scene.id not in have]
    chosen = Chosen()
    accepted = _judge(product, new, limits, archive, chosen, report, progress) if new else []
    chosen.accepted = len(accepted)
    chosen.scenes = newest_versions([*have.values(), *accepted])
    return chosen


def _judge(
    product: Product,
    scenes: Sequence[Scene],
    limits: GateLimits,
    archive: Archive,
    chosen: Chosen,
    report: Path | None,
    progress: Progress | None,
) -> list[Scene]:
    from tasks.gate.judge import gate_scenes, refuse_if_too_many
    from tasks.gate.statistics import measure_scenes
    from tasks.search.side_files import complete_scenes

    completed, failures = complete_scenes(scenes, product, archive)
    readable = [scene for scene in completed if scene.id not in failures]
    measured = measure_scenes(readable, product, archive, progress=progress)
    failures = {**failures, **measured.failures}
    chosen.later = {name: error for name, error in failures.items() if getattr(error, "may_pass", False)}
    result = gate_scenes(
        product,
        [scene for scene in completed if scene.id not in chosen.later],
        measured.rows,
        limits,
        failures={name: error for name, error in failures.items() if name not in chosen.later},
        report=report,
    )
    refuse_if_too_many(result, limits)
    chosen.refused = {name: "; ".join(reasons) for name, reasons in result.quarantined.items()}
    return [scene for scene in completed if scene.id in set(result.accepted)]
