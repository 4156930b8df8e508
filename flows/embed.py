"""``embed``: apply a registered encoder to an area cube, and draw what comes out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, task

from catalog.area_cubes import AreaCube, open_area_cube
from catalog.errors import UsageError
from catalog.recipes import Embedding, Recipe
from flows.area import area_name
from flows.memory import give_back
from flows.progress import Progress, bars
from flows.session import Session, open_session
from flows.steps import PLAIN
from tasks.area.embed import EmbeddingPlan, missing_steps, plan_embedding
from tasks.area.embed import embed as write_embeddings

PICTURE = "embedding.png"


@flow(name="embed", flow_run_name="embed-{recipe}", validate_parameters=False)
def embed(recipe: str, overrides: list[str] | None = None) -> dict[str, Any]:
    """Embeddings of every time step of the area cube that has none of this encoder yet, in one commit.

    Returns ``{"encoder", "area_cube", "group", "snapshot", "changed", "steps_written", "picture", "lines"}``.

    Raises
    ------
    UsageError: ``nothing-to-embed``. CubeError: ``area-cube-not-found``. EncoderError: those of the catalog.
    """
    from models import load_encoder

    session = open_session(recipe, overrides)
    request = embedding_request(session.recipe)
    encoder = session.catalog.get(request.encoder)
    cube = open_area_cube(request.area_cube or area_name(session.recipe), session.settings)
    model: Any = load_encoder(encoder)
    plan = plan_embedding(cube, model, encoder.ref, request)
    before = cube.snapshot()
    written = missing_steps(cube, plan)
    snapshot = before
    with bars() as progress:
        if written:
            snapshot = apply(cube, plan, model, progress)
        picture = session.settings.runs / f"embed-{cube.name}-{encoder.ref}" / PICTURE
        if written or not picture.is_file():
            draw(session, cube, plan, picture)
    give_back()
    height, width = plan.grid.shape
    lines = [
        f"embed: {len(written)} time steps of {cube.name} by {encoder.ref}: {height} × {width} embeddings of "
        f"{model.feature_dim} numbers each, every {plan.stride_px * plan.choice.gsd_m:g} m",
        f"embed: picture: {picture}",
    ]
    if not written:
        lines = [f"embed: nothing new; {encoder.ref} was applied to all of {cube.name}: {picture}"]
    return {
        "recipe": session.recipe.name,
        "encoder": encoder.ref,
        "area_cube": cube.name,
        "group": f"embeddings/{encoder.ref}",
        "snapshot": snapshot,
        "changed": snapshot != before,
        "steps_written": len(written),
        "picture": str(picture),
        "lines": lines,
    }


def embedding_request(recipe: Recipe) -> Embedding:
    """The recipe's ``embed``.

    Raises
    ------
    UsageError: ``nothing-to-embed``.
    """
    if recipe.embed is None:
        raise UsageError(
            "nothing-to-embed",
            "the recipe names no encoder to apply",
            subject=recipe.name,
            next_step="add `embed: {encoder: NAME:production}`, or pass --set embed.encoder=NAME:production",
        )
    return recipe.embed


@task(name="apply", **PLAIN)
def apply(cube: AreaCube, plan: EmbeddingPlan, model: Any, progress: Progress) -> str:
    """Write the embeddings that are missing; returns the snapshot."""
    from catalog.runs import code_version

    with cube.write(f"embeddings by {plan.reference}") as writer:
        steps = cube.steps(plan.product.id, writer.snapshot)
        lineage = {
            "encoder": plan.reference,
            "weights_sha256": plan.weights_sha256,
            "area_cube": cube.name,
            "snapshot": writer.snapshot,
            "code_version": code_version(),
        }
        write_embeddings(writer, plan, model, steps, lineage=lineage, progress=progress)
    return writer.snapshot


@task(name="draw", **PLAIN)
def draw(session: Session, cube: AreaCube, plan: EmbeddingPlan, path: Path) -> None:
    """The picture, in the run's folder and in Prefect's interface."""
    from matplotlib.image import imread

    from flows.artifacts import quicklook_artifact
    from tasks.area.picture import draw_embedding

    origins = {scene.origin for step in cube.steps(plan.product.id) for scene in step.scenes}
    note = "Simulated scenes." if origins == {"simulated"} else plan.product.attribution
    draw_embedding(cube, plan.reference, plan.product, path, note=note)
    quicklook_artifact(f"embedding-{plan.reference}", imread(path))
