"""``data_to_model``: refresh, pretrain and evaluate in a row, and one report of it all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow

from catalog.runs import run_identity
from flows.evaluate import evaluate
from flows.pretrain import pretrain
from flows.progress import bars
from flows.refresh import refresh
from flows.session import open_session
from flows.steps.judge import fail_if_refused
from flows.steps.report import report


@flow(name="data-to-model", flow_run_name="data-to-model-{recipe}", validate_parameters=False)
def data_to_model(recipe: str, overrides: list[str] | None = None) -> dict[str, Any]:
    """From scenes to registered encoders.

    What is trained again after the refresh, and from which weights, is decided by
    ``tasks.pretrain.training_plan``. Where nothing changed, the report of the run that made the encoders is
    returned. The report is written even where a dead encoder makes the run fail.
    """
    refreshed = refresh(recipe, overrides)
    trained = pretrain(recipe, overrides)
    judged = evaluate(recipe, overrides, fail_if_refused=False)
    session = open_session(recipe, overrides)
    identity = run_identity(
        kind="data-to-model",
        snapshot=refreshed["snapshot"],
        encoders=[outcome["reference"] or outcome["run"] for outcome in judged["encoders"]],
    )
    done = session.runs.find("data-to-model", identity)
    page = None if done is None else Path(done.manifest["report"])
    if page is None or not page.is_file():
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
    fail_if_refused(judged["encoders"])
    return {
        "recipe": session.recipe.name,
        "snapshot": refreshed["snapshot"],
        "products": refreshed["products"],
        "trained": trained["encoders"],
        "encoders": judged["encoders"],
        "report": str(page),
        "lines": [*refreshed["lines"], *trained["lines"], *judged["lines"]],
    }
