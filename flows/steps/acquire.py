"""Steps of ``refresh``: search, note, gate, sample places, cube."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prefect import task

from catalog.archives import Archive
from catalog.products import Product
from catalog.samples import Location
from catalog.scenes import Scene
from flows.artifacts import gate_artifact
from flows.progress import Progress
from flows.session import Session
from flows.steps import PLAIN
from tasks.cube import CubeResult, cube_scenes
from tasks.search import SearchResult, clearest_first, search_scenes


@dataclass(frozen=True)
class Noted:
    """What the ledger makes of one product's search."""

    product: Product
    new: int
    known: int
    to_judge: tuple[Scene, ...]
    """Seen and not judged yet."""


@task(name="search", task_run_name="search {product.id}", **PLAIN)
def search(session: Session, archive: Archive, product: Product) -> SearchResult:
    """Ask the archive for scenes of one product."""
    request = session.recipe.products[product.id]
    found = search_scenes(
        archive,
        product,
        session.recipe.area,
        session.recipe.period,
        max_cloud_percent=request.gate.max_cloud_percent,
    )
    return clearest_first(found, request.max_scenes)


@task(name="note", task_run_name="note {product.id}", **PLAIN)
def note(session: Session, product: Product, found: SearchResult) -> Noted:
    """Take note of found scenes in the ledger, after it has been made to agree with the cube."""
    cube = session.recipe.cube_name
    result = session.ledger.upsert(found.scenes, cube)
    seen = session.ledger.rows(state="seen", product=product.id, cube=cube)
    return Noted(product, len(result.new), result.known, tuple(row.scene() for row in seen))


@task(name="reconcile", **PLAIN)
def reconcile(session: Session) -> None:
    """The cube is the authority: what a killed run committed but did not note is noted now."""
    cube = session.cube
    snapshot = cube.snapshot()
    held = cube.products(snapshot)
    scenes = {product: cube.scenes(product, snapshot) for product in held}
    session.ledger.reconcile(session.recipe.cube_name, scenes, snapshot)


@task(name="gate", task_run_name="gate {noted.product.id}", **PLAIN)
def gate(session: Session, archive: Archive, noted: Noted, folder: Path, progress: Progress) -> int:
    """Judge new scenes; returns how many were quarantined. Too many stop the run."""
    from tasks.gate import gate_scenes, refuse_if_too_many
    from tasks.statistics import measure_scenes

    product, cube = noted.product, session.recipe.cube_name
    measured = measure_scenes(noted.to_judge, product, archive, progress=progress)
    limits = session.recipe.products[product.id].gate
    report = folder / f"gate-{product.id}.html"
    result = gate_scenes(
        product, noted.to_judge, measured.rows, limits, failures=measured.failures, report=report
    )
    for scene in noted.to_judge:
        error = measured.failures.get(scene.id)
        if error is not None:
            _record_failure(session, scene, error)
    session.ledger.quarantine(result.quarantined, cube=cube, product=product.id)
    session.ledger.accept(result.accepted, cube=cube, product=product.id)
    gate_artifact(result)
    refuse_if_too_many(result, limits)
    return len(result.quarantined)


@task(name="sample-places", **PLAIN)
def sample_places(session: Session, scenes: Sequence[Scene]) -> list[Location]:
    """Where samples are taken; places that the ledger knows keep their split."""
    from catalog.locations import sample_locations

    wanted = sample_locations(
        session.recipe.locations, session.recipe.area, list(session.products.values()), list(scenes)
    )
    return session.ledger.save_locations(session.recipe.cube_name, wanted)


@task(name="cube", **PLAIN)
def cube(
    session: Session, archive: Archive, pending: dict[str, list[Scene]], progress: Progress
) -> dict[str, CubeResult]:
    """Read every pending scene and add its samples in one commit for all products; then tell the ledger."""
    from tasks.readers import load_reader

    locations = session.ledger.locations(session.recipe.cube_name)
    reader = load_reader()
    count = sum(map(len, pending.values()))
    results = {}
    with session.cube.write(f"{session.recipe.name}: {count} scenes") as writer:
        for product_id, scenes in pending.items():
            results[product_id] = cube_scenes(
                session.recipe,
                session.products[product_id],
                scenes,
                locations,
                session.cube,
                reader,
                archive,
                progress,
                writer=writer,
            )
    for product_id, result in results.items():
        _note_cubed(session, product_id, pending[product_id], result, writer.result.snapshot)
    return results


def _note_cubed(
    session: Session, product: str, scenes: Sequence[Scene], result: CubeResult, snapshot: str
) -> None:
    cube_name = session.recipe.cube_name
    session.ledger.cubed(result.cubed, snapshot, cube=cube_name, product=product)
    reasons = {scene: [why] for scene, why in result.empty.items()}
    for scene in scenes:
        error = result.failures.get(scene.id)
        if error is not None:
            reasons[scene.id] = [error.message]
            _record_failure(session, scene, error)
    session.ledger.quarantine(reasons, cube=cube_name, product=product)


def _record_failure(session: Session, scene: Scene, error: Exception) -> None:
    session.ledger.record_failure(
        scene,
        getattr(error, "band", ""),
        getattr(error, "href", ""),
        getattr(error, "status", None),
        getattr(error, "attempts", 1),
        getattr(error, "message", str(error)),
        cube=session.recipe.cube_name,
    )
