"""Steps of ``refresh``: read what items point to, measure new scenes, and judge them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import batched
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task

from catalog.archives import Archive
from catalog.errors import ArchiveError, SceneError
from catalog.products import Product
from catalog.scenes import Scene
from flows.artifacts import gate_artifact
from flows.progress import Progress
from flows.session import Session
from flows.steps import PLAIN
from flows.steps.failures import may_pass, record_failure

if TYPE_CHECKING:
    from tasks.gate.result import GateResult

PORTION = 500
"""Scenes judged at a time: what a killed run has judged, the next one need not measure again."""


@dataclass
class Judged:
    """What became of a product's new scenes."""

    accepted: int = 0
    quarantined: int = 0
    unreadable: int = 0
    """Could not be read now; they stay ``seen``, and the next refresh tries again."""
    radiometry: dict[str, int] = field(default_factory=dict)
    """Verdict on scale and offset → scenes."""

    @property
    def total(self) -> int:
        return self.accepted + self.quarantined + self.unreadable


@dataclass
class Witnesses:
    """What was measured of other products; beside it, scenes that cannot tell by themselves are judged."""

    measured: list[tuple[Product, list[Scene], list[dict[str, Any]]]] = field(default_factory=list)

    def hear(
        self, product: Product, scenes: list[Scene], rows: tuple[dict[str, Any], ...]
    ) -> tuple[dict[str, Any], ...]:
        """The rows, with what other products of the same place and day could settle."""
        from tasks.gate.cross_check import settle

        for other, other_scenes, other_rows in self.measured:
            if other.id != product.id:
                rows = settle(product, scenes, rows, other, other_scenes, other_rows)
        kept = [{k: v for k, v in row.items() if k not in ("picture", "histograms")} for row in rows]
        self.measured.append((product, scenes, kept))
        return rows


@task(name="gate", task_run_name="gate {product.id}", **PLAIN)
def gate(
    session: Session,
    archive: Archive,
    product: Product,
    scenes: list[Scene],
    witnesses: Witnesses,
    folder: Path,
    progress: Progress,
) -> Judged:
    """Judge new scenes by metadata and pixel statistics; too many refusals stop the run.

    Raises
    ------
    SwathError:   ``too-many-refused``.
    ArchiveError: ``scenes-unreachable``: most of them could not be read now.
    """
    from tasks.gate.judge import refuse_if_too_many
    from tasks.gate.report import write_report
    from tasks.gate.result import merge_results

    limits = session.recipe.products[product.id].gate
    judged = Judged()
    results = [
        _judge(session, archive, product, list(part), witnesses, judged, progress)
        for part in batched(scenes, PORTION)
    ]
    result = merge_results(results, folder / f"gate-{product.id}.html")
    if result.report is not None:
        write_report(result, result.report)
    gate_artifact(result)
    refuse_if_too_many(result, limits)
    if judged.total >= 3 and judged.unreadable / judged.total > limits.max_refused_share:
        raise ArchiveError(
            "scenes-unreachable",
            f"{judged.unreadable} of {judged.total} new scenes of {product.id} cannot be read now",
            subject=archive.name,
            next_step="check the archive, then refresh again; `swath scenes list --failed` names the files",
        )
    return judged


def _judge(
    session: Session,
    archive: Archive,
    product: Product,
    scenes: list[Scene],
    witnesses: Witnesses,
    judged: Judged,
    progress: Progress,
) -> GateResult:
    from tasks.gate.judge import gate_scenes
    from tasks.gate.statistics import measure_scenes
    from tasks.search.side_files import complete_scenes

    cube, limits = session.recipe.cube_name, session.recipe.products[product.id].gate
    completed, incomplete = complete_scenes(scenes, product, archive)
    session.ledger.complete(_changed(scenes, completed), cube)
    readable = [scene for scene in completed if scene.id not in incomplete]
    measured = measure_scenes(readable, product, archive, progress=progress)
    failures: dict[str, SceneError] = {**incomplete, **measured.failures}
    later = {scene_id for scene_id, error in failures.items() if may_pass(error)}
    for scene in completed:
        if scene.id in failures:
            record_failure(session, scene, failures[scene.id])
    result = gate_scenes(
        product,
        [scene for scene in completed if scene.id not in later],
        witnesses.hear(product, readable, measured.rows),
        limits,
        failures={scene_id: error for scene_id, error in failures.items() if scene_id not in later},
    )
    session.ledger.quarantine(result.quarantined, cube=cube, product=product.id)
    session.ledger.accept(result.accepted, cube=cube, product=product.id)
    judged.accepted += len(result.accepted)
    judged.quarantined += len(result.quarantined)
    judged.unreadable += len(later)
    _count(judged.radiometry, result.radiometry)
    return result


def _changed(before: list[Scene], after: list[Scene]) -> list[Scene]:
    known = {scene.id: scene for scene in before}
    return [scene for scene in after if known[scene.id] != scene]


def _count(counts: dict[str, int], verdicts: Mapping[str, str]) -> None:
    for verdict in verdicts.values():
        counts[verdict] = counts.get(verdict, 0) + 1
