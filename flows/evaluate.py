"""``evaluate``: score what was pretrained at places it never learnt from, then register what lives."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.memory import give_back
from flows.progress import bars
from flows.session import open_session
from flows.steps import judge, train


@flow(name="evaluate", flow_run_name="evaluate-{recipe}", validate_parameters=False)
def evaluate(
    recipe: str,
    overrides: list[str] | None = None,
    encoders: list[str] | None = None,
    fail_if_refused: bool = True,
) -> dict[str, Any]:
    """Score the recipe's newest encoders, refuse dead ones, register the others and decide on the alias.

    A judgement that was made before (same encoder, tasks, snapshot and code) is returned. A dead encoder
    does not keep the others out of the catalog; the run fails in the end, unless ``fail_if_refused`` says no.
    Returns ``{"encoders": [outcome], "lines": [...]}``.
    """
    session = open_session(recipe, overrides)
    outcomes = []
    with bars() as progress:
        for item in session.recipe.pretrain:
            if encoders is not None and item.encoder not in encoders:
                continue
            plan = train.plan(session, item)
            if plan.action == "keep" and plan.start_from is not None:
                outcomes.append(_kept(plan.start_from.ref, item.encoder, plan.why))
                continue
            candidate = judge.candidate(session, item, plan)
            outcome = judge.judged_before(session, candidate)
            if outcome is None:
                judgement = judge.evaluate(session, candidate, progress)
                outcome = judge.refused(judgement) or judge.register(session, judgement)
                give_back()
            outcomes.append(outcome)
    lines = [_line(outcome) for outcome in outcomes]
    if fail_if_refused:
        judge.fail_if_refused(outcomes)
    return {"recipe": session.recipe.name, "encoders": outcomes, "lines": lines}


def _kept(reference: str, name: str, why: str) -> dict[str, Any]:
    return {"name": name, "reference": reference, "action": "kept", "why": why, "evaluations": []}


def _line(outcome: dict[str, Any]) -> str:
    if outcome["action"] == "kept":
        return f"evaluate: kept {outcome['reference']}: {outcome['why']}"
    if outcome["action"] == "refused":
        return f"evaluate: refused {outcome['name']}: {'; '.join(outcome['refused'])}"
    alias = "is in production" if outcome["promotion"]["promote"] else "stays a candidate"
    return f"evaluate: {outcome['action']} {outcome['reference']}, {alias}: {outcome['promotion']['why']}"
