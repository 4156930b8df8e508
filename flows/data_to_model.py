"""``data_to_model``: refresh, pretrain and evaluate in a row, and one report of it all."""

from __future__ import annotations

from typing import Any

from prefect import flow

from catalog.runs import run_identity
from flows.evaluate import evaluate
from flows.pretrain import pretrain
from flows.progress import bars
from flows.refresh import refresh
from flows.session import open_session
from flows.steps.report import report


@flow(name="data-to-model", flow_run_name="data-to-model-{recipe}", validate_parameters=False)
def data_to_model(recipe: str, overrides: list[str] | None = None) -> dict[str, Any]:
    """From scenes to registered encoders.

    What is trained again after the refresh, and from which weights, is decided by ``tasks.training_plan``.
    Where nothing changed, the report of the run that made the encoders is returned.
    """
    refreshed = refresh(recipe, overrides)
    trained = pretrain(recipe, overrides)
    judged = evaluate(recipe, overrides)
    session = open_session(recipe, overrides)
    identity = run_identity(
        kind="data-to-model",
        snapshot=refreshed["snapshot"],
        encoders=[outcome["reference"] for outcome in judged["encoders"]],
    )
    done = session.runs.find("data-to-model", identity)
    if done is None:
        with bars() as progress:
            page = report(session, judged, progress)
        run_id = page.parent.name
        session.runs.start(
            run_id,
            kind="data-to-model",
            flow="data-to-model",
            recipe=session.recipe.name,
            identity=identity,
        )
        session.runs.finish(run_id, {"report": str(page)})
    else:
        page = done.manifest["report"]
    return {
        "recipe": session.recipe.name,
        "snapshot": refreshed["snapshot"],
        "products": refreshed["products"],
        "trained": trained["encoders"],
        "encoders": judged["encoders"],
        "report": str(page),
        "lines": [*refreshed["lines"], *trained["lines"], *judged["lines"]],
    }
