"""Steps of ``pretrain``: decide what to train, and train it in processes of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task

from catalog.errors import UsageError
from catalog.recipes import Pretraining
from flows.artifacts import curves_artifact
from flows.progress import Progress
from flows.session import Session
from flows.steps import PLAIN
from tasks.pretrain.training_plan import TrainingPlan, plan_pretraining

if TYPE_CHECKING:
    from catalog.labels import LabelSet
    from tasks.pretrain.run import PretrainResult


@task(name="plan", task_run_name="plan {item.encoder}", **PLAIN)
def plan(session: Session, item: Pretraining) -> TrainingPlan:
    """Decide whether an encoder is trained again, and from which weights."""
    snapshot = session.cube.snapshot()
    for product in item.products:
        if not len(session.cube.columns(product, snapshot)):
            raise UsageError(
                "nothing-to-learn-from",
                f"the cube {session.recipe.cube_name!r} holds no sample of {product}",
                subject=f"{session.recipe.name}: pretrain.{item.encoder}",
                next_step="run refresh first, or widen area, period or the gate's limits",
            )
    return plan_pretraining(
        session.recipe,
        item,
        snapshot=snapshot,
        samples_since=lambda old: _samples_since(session, item, old, snapshot),
        runs=session.runs,
        catalog=session.catalog,
        runs_folder=session.settings.runs,
        labels=labels_of(session, item),
    )


def _samples_since(session: Session, item: Pretraining, old: str, new: str) -> int:
    """Samples of the item's products that the older snapshot does not hold."""
    count = 0
    for product in item.products:
        before = set(session.cube.columns(product, old)["sample"])
        count += int((~session.cube.columns(product, new)["sample"].isin(before)).sum())
    return count


@task(name="train", task_run_name="train {plan.encoder}", **PLAIN)
def train(session: Session, plan: TrainingPlan, progress: Progress) -> PretrainResult:
    """Run one training to its end; a run that was killed goes on from its last checkpoint."""
    from models.training_spec import TrainingSpec
    from tasks.pretrain.run import run_pretraining
    from tasks.report.page import read_metrics

    item = session.recipe.pretraining(plan.encoder)
    snapshot = session.cube.snapshot()
    started_from = None if plan.start_from is None else plan.start_from.ref
    run_id = plan.folder.name
    session.runs.start(
        run_id,
        kind="pretrain",
        flow="pretrain",
        recipe=session.recipe.name,
        identity=plan.identity,
        manifest={"encoder": plan.encoder, "snapshot": snapshot, "started_from": started_from},
    )
    spec = TrainingSpec(
        run_id=run_id,
        pretraining=item,
        cube=session.recipe.cube_name,
        snapshot=snapshot,
        folder=plan.folder,
        start_from=None if plan.start_from is None else plan.start_from.pull(),
        labels=labels_of(session, item),
    )
    what = f"train {plan.encoder}"
    progress(what, 0, item.steps)
    try:
        result = run_pretraining(spec, progress=lambda line: _advance(progress, what, line, item.steps))
    except BaseException:
        session.runs.fail(run_id)
        raise
    progress(what, item.steps, item.steps)
    session.runs.finish(
        run_id,
        {
            "encoder": plan.encoder,
            "snapshot": snapshot,
            "started_from": started_from,
            "folder": str(plan.folder),
            "result": result.result,
        },
    )
    curves_artifact(plan.encoder, read_metrics(plan.folder / "metrics.jsonl"))
    return result


def labels_of(session: Session, item: Pretraining) -> LabelSet | None:
    """The label set that a pretraining learns from, where its method does."""
    name = item.options.get("label_set")
    return None if name is None else session.label_set(str(name))


def _advance(progress: Progress, what: str, line: dict[str, Any], steps: int) -> None:
    if "step" in line:
        progress(what, min(int(line["step"]), steps - 1), steps)


def encoder_folder(plan: TrainingPlan) -> Path:
    """Where a training leaves its encoder."""
    return plan.folder / "encoder"
