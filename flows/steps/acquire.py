"""Steps of ``refresh``: search, note, sample places, cube. The gate is in ``flows.steps.gate``."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from prefect import task

from catalog.archives import Archive
from catalog.products import Product
from catalog.runs import run_identity
from catalog.samples import Location
from catalog.scenes import Scene
from flows.cluster import IN_PROCESS, Cluster
from flows.progress import Progress
from flows.session import Session
from flows.steps import PLAIN
from flows.steps.failures import may_pass, record_failure
from tasks.cube.scenes import CubeResult, cube_scenes, plan_identity
from tasks.search.scenes import SearchResult, clearest_first, search_scenes


@dataclass(frozen=True)
class Found:
    """What one product's search brought, and how the ledger had it."""

    product: Product
    result: SearchResult
    request: str
    """Digest of what was asked for, but for the dates."""
    asked_at: datetime
    new: int = 0
    known: int = 0


@task(name="search", task_run_name="search {product.id}", **PLAIN)
def search(session: Session, archive: Archive, product: Product) -> Found:
    """Ask the archive for scenes of one product: the whole period, or the late-arrival window."""
    recipe, wanted = session.recipe, session.recipe.products[product.id]
    now, request = datetime.now(UTC), search_request(session, archive, product)
    # The clearest scenes of a period are known only by all of them.
    everything = wanted.max_scenes is not None
    period = session.ledger.searches.period_to_search(
        recipe.cube_name,
        product.id,
        request,
        recipe.period,
        look_back_days=None if everything else recipe.look_back_days,
        whole_every_days=recipe.whole_search_days,
        now=now,
    )

    def known(digests: dict[str, str]) -> set[str]:
        return session.ledger.known_items(recipe.cube_name, product.id, digests)

    found = search_scenes(
        archive,
        product,
        recipe.area,
        period,
        max_cloud_percent=wanted.gate.max_cloud_percent,
        known=None if everything else known,
    )
    return Found(product, clearest_first(found, wanted.max_scenes), request, now)


def search_request(session: Session, archive: Archive, product: Product) -> str:
    """Digest of what is asked of an archive, but for the end of the period."""
    recipe = session.recipe
    return run_identity(
        archive=archive.name,
        collection=archive.collection(product),
        area=recipe.area.model_dump(mode="json"),
        start=recipe.period.start.isoformat(),
        max_cloud_percent=recipe.products[product.id].gate.max_cloud_percent,
    )


@task(name="note", task_run_name="note {found.product.id}", **PLAIN)
def note(session: Session, found: Found) -> Found:
    """Take note of found scenes in the ledger, after it has been made to agree with the cube."""
    cube, recipe, searched = session.recipe.cube_name, session.recipe, found.result
    result = session.ledger.upsert(searched.scenes, cube, searched.digests)
    session.ledger.refuse(cube, found.product.id, dict(searched.refusals))
    session.ledger.searches.note(
        cube,
        found.product.id,
        found.request,
        start=(searched.period or recipe.period).start,
        whole=recipe.period,
        now=found.asked_at,
    )
    return Found(
        found.product,
        searched,
        found.request,
        found.asked_at,
        new=len(result.new) + len(result.renewed),
        known=result.known + searched.known,
    )


@task(name="reconcile", **PLAIN)
def reconcile(session: Session) -> str:
    """The cube is the authority: what a killed run committed but did not note is noted now.

    Returns its snapshot. Costs nothing where the ledger has noted that very snapshot.
    """
    cube, name = session.cube, session.recipe.cube_name
    snapshot = cube.snapshot()
    if session.ledger.noted(name, "snapshot") != snapshot:
        scenes = {product: cube.scenes(product, snapshot) for product in cube.products(snapshot)}
        session.ledger.reconcile(name, scenes, snapshot)
    return snapshot


def places_request(session: Session) -> str:
    """Digest of all that decides where samples lie, but for the scenes themselves."""
    recipe = session.recipe
    files = [path for path in (recipe.locations.points, recipe.locations.class_raster) if path is not None]
    return run_identity(
        locations=recipe.locations.model_dump(mode="json"),
        files=[hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()],
        area=recipe.area.model_dump(mode="json"),
        products=[product.model_dump(mode="json") for product in session.products.values()],
    )


def places_follow_scenes(session: Session) -> bool:
    """Whether new scenes may bring new places, or decide their split."""
    wanted = session.recipe.locations
    return wanted.strategy == "scenes" or wanted.split.by == "tile"


@task(name="sample-places", **PLAIN)
def sample_places(session: Session) -> list[Location]:
    """Where samples are taken; places that the ledger knows keep their split."""
    from catalog.locations import sample_locations

    cube = session.recipe.cube_name
    scenes = session.ledger.scenes(cube) if places_follow_scenes(session) else []
    wanted = sample_locations(
        session.recipe.locations, session.recipe.area, list(session.products.values()), scenes
    )
    locations = session.ledger.save_locations(cube, wanted)
    session.ledger.note(cube, "places", places_request(session))
    return locations


def plans(session: Session) -> dict[str, str]:
    """Product → digest of what is wanted from its scenes: places and dates."""
    locations = session.ledger.locations(session.recipe.cube_name)
    return {
        product.id: plan_identity(session.recipe.products[product.id], product, locations)
        for product in session.products.values()
    }


@task(name="cube", **PLAIN)
def cube(
    session: Session,
    archive: Archive,
    pending: dict[str, list[Scene]],
    plan: dict[str, str],
    progress: Progress,
    cluster: Cluster = IN_PROCESS,
) -> dict[str, CubeResult]:
    """Read every pending scene and add its samples in one commit for all products; then tell the ledger.

    A refresh of many gigabytes commits several times (``commit_every_bytes`` of ``Cube.write``).
    """
    from tasks.readers.registry import load_reader

    locations = session.ledger.locations(session.recipe.cube_name)
    reader = load_reader(session.recipe.reader, verify_checksums=session.recipe.verify_checksums)
    count = sum(map(len, pending.values()))
    results = {}
    message = f"{session.recipe.name}: {count} scenes"
    with (
        cluster.cubing(session.cube.place) as dask,
        session.cube.write(message, pixels=dask.writing if dask else None) as writer,
    ):
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
                reading=dask.reading if dask else None,
            )
    snapshot = writer.result.snapshot
    for product_id, result in results.items():
        _note_cubed(session, product_id, pending[product_id], result, snapshot, plan[product_id])
    session.ledger.note(session.recipe.cube_name, "snapshot", snapshot)
    return results


def _note_cubed(
    session: Session, product: str, scenes: Sequence[Scene], result: CubeResult, snapshot: str, plan: str
) -> None:
    where = {"cube": session.recipe.cube_name, "product": product}
    session.ledger.cubed(result.cubed, snapshot, **where)
    session.ledger.planned([*result.cubed, *result.passed_over], plan, why=result.passed_over, **where)
    reasons = {}
    for scene in scenes:
        error = result.failures.get(scene.id)
        if error is not None:
            record_failure(session, scene, error)
            # Of a scene that is cubed already, only new places could not be read.
            if not may_pass(error) and session.ledger.row(scene.id, **where).state != "cubed":
                reasons[scene.id] = [error.message]
    session.ledger.quarantine(reasons, **where)
