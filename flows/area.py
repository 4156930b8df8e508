"""``area``: bring a dense cube over a recipe's area up to date; a rerun with nothing new reads no asset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prefect import flow, task

from catalog.archives import Archive
from catalog.area_cubes import AreaCube, open_area_cube
from catalog.errors import UsageError
from catalog.products import Product
from catalog.recipes import AreaCube as AreaRequest
from catalog.recipes import Recipe
from flows.archives import open_archive
from flows.memory import give_back
from flows.progress import Progress, bars
from flows.session import Session, open_session
from flows.steps import PLAIN
from tasks.area.build import ProductBuild, build_product, reader_for
from tasks.area.choose import Chosen, choose_scenes
from tasks.area.grid import AreaGrid, area_grid
from tasks.area.passes import passes


@dataclass(frozen=True)
class Wanted:
    """What one product's search and gate brought."""

    product: Product
    grid: AreaGrid
    matched: int
    chosen: Chosen


@flow(name="area", flow_run_name="area-{recipe}", validate_parameters=False)
def area(recipe: str, overrides: list[str] | None = None) -> dict[str, Any]:
    """Add new passes to the recipe's area cube, all products in one commit.

    Returns ``{"area_cube", "snapshot", "changed", "products": {id: counts}, "lines": [...]}``.

    Raises
    ------
    UsageError: ``no-area-cube``; ``area-too-large``; ``reader-cannot``.
    """
    session = open_session(recipe, overrides)
    request = area_request(session.recipe)
    products = [session.products[name] for name in request.products or session.products]
    grids = {
        product.id: area_grid(product, session.recipe.area, epsg=request.epsg, chunk_px=request.chunk_px)
        for product in products
    }
    with bars() as progress, open_archive(session.recipe, session.settings, progress=progress) as archive:
        # An archive that does not answer leaves nothing behind, not even an empty cube.
        found = {product.id: search(session, archive, product) for product in products}
        cube = open_area_cube(area_name(session.recipe), session.settings, create=True)
        before = cube.snapshot()
        wanted = [
            choose(session, archive, cube, product, grids[product.id], found[product.id], progress)
            for product in products
        ]
        built, snapshot = write(session, archive, cube, wanted, before, progress)
        give_back()
    counts = {part.product.id: _counts(part, built.get(part.product.id)) for part in wanted}
    return {
        "recipe": session.recipe.name,
        "area_cube": cube.name,
        "place": cube.place.url,
        "snapshot": snapshot,
        "changed": snapshot != before,
        "products": counts,
        "lines": _lines(cube, wanted, built),
    }


def area_request(recipe: Recipe) -> AreaRequest:
    """The recipe's ``area_cube``.

    Raises
    ------
    UsageError: ``no-area-cube``.
    """
    if recipe.area_cube is None:
        raise UsageError(
            "no-area-cube",
            "the recipe asks for no area cube",
            subject=recipe.name,
            next_step="add `area_cube: {}` to it; its keys are described in docs/area-cubes.md",
        )
    return recipe.area_cube


def area_name(recipe: Recipe) -> str:
    """What the recipe's area cube is called."""
    return (recipe.area_cube.name if recipe.area_cube else "") or recipe.name


@task(name="search", task_run_name="search {product.id}", **PLAIN)
def search(session: Session, archive: Archive, product: Product) -> Any:
    """Every scene of one product in the recipe's period."""
    from tasks.search.scenes import clearest_first, search_scenes

    recipe, wanted = session.recipe, session.recipe.products[product.id]
    found = search_scenes(
        archive, product, recipe.area, recipe.period, max_cloud_percent=wanted.gate.max_cloud_percent
    )
    return clearest_first(found, wanted.max_scenes)


@task(name="choose", task_run_name="choose {product.id}", **PLAIN)
def choose(
    session: Session,
    archive: Archive,
    cube: AreaCube,
    product: Product,
    grid: AreaGrid,
    found: Any,
    progress: Progress,
) -> Wanted:
    """Judge the scenes that the cube neither holds nor has turned away."""
    known = product.id in cube.products()
    chosen = choose_scenes(
        product,
        found.scenes,
        cube.steps(product.id) if known else (),
        cube.refused(product.id) if known else {},
        session.recipe.products[product.id].gate,
        archive,
        progress=progress,
    )
    return Wanted(product, grid, found.matched, chosen)


@task(name="write", **PLAIN)
def write(
    session: Session,
    archive: Archive,
    cube: AreaCube,
    wanted: list[Wanted],
    before: str,
    progress: Progress,
) -> tuple[dict[str, ProductBuild], str]:
    """Read the new passes of every product and commit them together."""
    from tasks.readers.registry import load_reader

    request = area_request(session.recipe)
    built: dict[str, ProductBuild] = {}
    if not any(part.chosen.accepted or part.chosen.refused for part in wanted):
        return built, before
    with cube.write(f"{session.recipe.name}: {', '.join(part.product.id for part in wanted)}") as writer:
        for part in wanted:
            dem = session.recipe.products[part.product.id].dem
            result = build_product(
                writer,
                part.product,
                part.grid,
                passes(part.chosen.scenes, part.product, minutes=request.pass_minutes),
                load_reader(
                    reader_for(request.reader, part.product),
                    verify_checksums=session.recipe.verify_checksums,
                ),
                archive,
                terrain=str(dem) if dem else None,
                progress=progress,
            )
            refused = part.chosen.refused | dict.fromkeys(result.empty, "no pixel of it lies in the area")
            refused |= {s: e.message for s, e in result.failures.items() if not getattr(e, "may_pass", False)}
            if refused:
                writer.note_refused(part.product.id, refused)
            built[part.product.id] = result
    return built, writer.snapshot


def _counts(part: Wanted, built: ProductBuild | None) -> dict[str, Any]:
    built = built or ProductBuild(part.product.id)
    failures = {**part.chosen.later, **built.failures}
    return {
        "matched": part.matched,
        "accepted": part.chosen.accepted,
        "refused": part.chosen.refused,
        "steps_written": len(built.written),
        "steps_replaced": built.replaced,
        "scenes_written": sum(len(step.scenes) for step in built.written),
        "outside": len(built.empty),
        "unreadable": {scene: error.message for scene, error in failures.items()},
        "assets_read": built.assets_read,
    }


def _lines(cube: AreaCube, wanted: list[Wanted], built: dict[str, ProductBuild]) -> list[str]:
    lines = []
    for part in wanted:
        name, counts = part.product.id, _counts(part, built.get(part.product.id))
        if counts["refused"]:
            scene, why = next(iter(counts["refused"].items()))
            lines.append(f"area: {name}: {len(counts['refused'])} scenes refused, {scene}: {why}")
        if counts["unreadable"]:
            scene, why = next(iter(counts["unreadable"].items()))
            lines.append(f"area: {name}: {len(counts['unreadable'])} scenes unreadable, {scene}: {why}")
        if counts["steps_written"]:
            lines.append(
                f"area: {name}: {counts['steps_written']} time steps of {counts['scenes_written']} scenes "
                f"written, {counts['steps_replaced']} replaced"
            )
            shape = " × ".join(str(side) for side in part.grid.grids[min(part.grid.grids)].shape)
            lines.append(f"area: {name}: {shape} pixels at {min(part.grid.grids):g} m, in {cube.place.url}")
    return lines or ["area: nothing new; no asset read, nothing committed"]
