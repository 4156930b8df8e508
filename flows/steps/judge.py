"""Steps of ``evaluate``: score an encoder, ask whether it lives, register it, decide on its alias."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task

from catalog.encoders import Encoder
from catalog.errors import UsageError
from catalog.recipes import Evaluation, Pretraining
from catalog.runs import run_identity, source_hash
from flows.artifacts import encoder_artifact, scores_artifact
from flows.progress import Progress
from flows.session import Session
from flows.steps import PLAIN
from tasks.pretrain.training_plan import LEARNING_PACKAGES, TrainingPlan
from tasks.register.refusal import dead

if TYPE_CHECKING:
    from models.vitality import Vitality
    from tasks.evaluate.encoder import EvaluationResult


@dataclass(frozen=True)
class Candidate:
    """A finished training that is to be judged."""

    item: Pretraining
    plan: TrainingPlan
    snapshot: str
    evaluations: tuple[Evaluation, ...]
    identity: str
    """Of the judgement: encoder, tasks, snapshot and code."""
    ancestors: tuple[Encoder, ...] = ()
    """Encoders whose weights this one started from, nearest first: where they learnt counts too."""

    @property
    def folder(self) -> Path:
        return self.plan.folder / "encoder"


@dataclass(frozen=True)
class Judgement:
    """What was found, by this run or an earlier one."""

    candidate: Candidate
    vitality: Vitality
    results: tuple[EvaluationResult, ...] = field(default_factory=tuple)


def candidate(session: Session, item: Pretraining, plan: TrainingPlan) -> Candidate:
    """The finished training of ``plan`` with the tasks that fit it.

    Raises
    ------
    UsageError: ``not-pretrained``: there is nothing to judge yet.
    """
    if plan.action == "train":
        raise UsageError(
            "not-pretrained",
            f"no finished training fits the recipe and the snapshot ({plan.why})",
            subject=f"{session.recipe.name}: {item.encoder}",
            next_step="run pretrain first, or data-to-model",
        )
    evaluations = tuple(
        task
        for task in session.recipe.evaluate
        if task.product in item.products and (task.encoders is None or item.encoder in task.encoders)
    )
    snapshot = session.cube.snapshot()
    identity = run_identity(
        kind="evaluate",
        encoder=plan.identity,
        evaluations=[task.model_dump(mode="json") for task in evaluations],
        snapshot=snapshot,
        code=source_hash((*LEARNING_PACKAGES, "tasks")),
    )
    return Candidate(item, plan, snapshot, evaluations, identity, _ancestors(session, plan))


def _ancestors(session: Session, plan: TrainingPlan) -> tuple[Encoder, ...]:
    run = session.runs.find("pretrain", plan.identity)
    reference = run.manifest.get("started_from") if run else None
    found: list[Encoder] = []
    while reference:
        found.append(session.catalog.get(reference))
        reference = found[-1].manifest.get("started_from")
    return tuple(found)


@task(name="evaluate", task_run_name="evaluate {candidate.item.encoder}", **PLAIN)
def evaluate(session: Session, candidate: Candidate, progress: Progress) -> Judgement:
    """Score the encoder on every task of the recipe that fits it, and measure whether it lives."""
    from tasks.evaluate.encoder import evaluate_encoder
    from tasks.register.check_vitality import check_vitality

    name, what = candidate.item.encoder, f"evaluate {candidate.item.encoder}"
    total = len(candidate.evaluations) + 1
    progress(what, 0, total)
    ancestors = [encoder.pull() for encoder in candidate.ancestors]
    results = []
    for done, evaluation in enumerate(candidate.evaluations, start=1):
        results.append(
            evaluate_encoder(
                candidate.folder,
                evaluation,
                session.recipe,
                session.cube,
                candidate.snapshot,
                session.label_set(evaluation.label_set),
                name=name,
                ancestors=ancestors,
            )
        )
        progress(what, done, total)
    vitality = check_vitality(
        candidate.folder,
        session.cube,
        candidate.snapshot,
        initial_weights=candidate.plan.folder / "initial.safetensors",
        mask_cloud=candidate.item.mask_cloud,
    )
    progress(what, total, total)
    documents = [result.to_dict() for result in results]
    (candidate.plan.folder / "evaluations.json").write_text(json.dumps(documents, indent=1), encoding="utf-8")
    scores_artifact(name, documents)
    return Judgement(candidate, vitality, tuple(results))


def refused(judgement: Judgement) -> dict[str, Any] | None:
    """The outcome of a dead encoder, or None for a living one."""
    reasons = judgement.vitality.refusals()
    if not reasons:
        return None
    return {
        "name": judgement.candidate.item.encoder,
        "reference": None,
        "run": judgement.candidate.plan.folder.name,
        "action": "refused",
        "refused": reasons,
        "evaluations": [result.to_dict() for result in judgement.results],
        "vitality": judgement.vitality.to_dict(),
    }


def fail_if_refused(outcomes: Sequence[Mapping[str, Any]]) -> None:
    """Raise ``encoder-dead`` for the first dead encoder, once all have been judged."""
    for outcome in outcomes:
        if outcome["action"] == "refused":
            raise dead(outcome["name"], outcome["refused"])


@task(name="register", task_run_name="register {judgement.candidate.item.encoder}", **PLAIN)
def register(session: Session, judgement: Judgement) -> dict[str, Any]:
    """Register a living encoder with its lineage, move the alias if it may, and note the judgement.

    Raises
    ------
    EncoderError: ``encoder-dead``, with every reason.
    """
    from tasks.register.encoder import decide_promotion, register_encoder

    candidate, recipe = judgement.candidate, session.recipe
    run_id = f"evaluate-{candidate.item.encoder}-{candidate.identity[:12]}"
    session.runs.start(
        run_id, kind="evaluate", flow="evaluate", recipe=recipe.name, identity=candidate.identity
    )
    training = session.runs.find("pretrain", candidate.plan.identity)
    try:
        encoder = register_encoder(
            candidate.folder,
            recipe=recipe,
            pretraining=candidate.item,
            cube=session.cube,
            snapshot=candidate.snapshot,
            run_id=candidate.plan.folder.name,
            identity=candidate.plan.identity,
            vitality=judgement.vitality,
            evaluations=judgement.results,
            label_sets=[session.label_set(task.label_set) for task in candidate.evaluations],
            training=(training.manifest.get("result") or {}) if training else {},
            started_from=candidate.ancestors[0] if candidate.ancestors else None,
            catalog=session.catalog,
        )
    except BaseException:
        session.runs.fail(run_id, {"vitality": judgement.vitality.to_dict()})
        raise
    session.cube.tag(f"{encoder.name}.{encoder.version}", candidate.snapshot)
    current = _in_production(session, encoder)
    promotion = decide_promotion(
        judgement.results,
        None if current is None else current.manifest.get("evaluations", ()),
        recipe.promotion.tolerance,
    )
    if promotion.promote and recipe.promotion.automatic:
        encoder = session.catalog.promote(encoder.ref, recipe.promotion.alias)
    outcome = {
        "name": encoder.name,
        "reference": encoder.ref,
        "folder": str(encoder.pull()),
        "run": candidate.plan.folder.name,
        "promotion": promotion.to_dict(),
        "evaluations": [result.to_dict() for result in judgement.results],
        "vitality": judgement.vitality.to_dict(),
    }
    session.runs.finish(run_id, outcome)
    encoder_artifact(encoder.ref, encoder.pull())
    return {**outcome, "action": "registered"}


def judged_before(session: Session, candidate: Candidate) -> dict[str, Any] | None:
    """The outcome of the same judgement by an earlier run, whose encoder is still there."""
    run = session.runs.find("evaluate", candidate.identity)
    if run is None:
        return None
    session.catalog.get(run.manifest["reference"])
    return {**run.manifest, "action": "returned"}


def _in_production(session: Session, encoder: Encoder) -> Encoder | None:
    from catalog.errors import EncoderError

    try:
        current = session.catalog.get(f"{encoder.name}:{session.recipe.promotion.alias}")
    except EncoderError:
        return None
    return None if current.version == encoder.version else current
