"""``pretrain``: train the encoders of a recipe on the newest snapshot, if enough is new."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.progress import bars
from flows.session import open_session
from flows.steps import train


@flow(name="pretrain", flow_run_name="pretrain-{recipe}", validate_parameters=False)
def pretrain(
    recipe: str, overrides: list[str] | None = None, encoders: list[str] | None = None
) -> dict[str, Any]:
    """Pretrain each encoder of the recipe (or only ``encoders``), each in a process group of its own.

    A run's identity is recipe part, snapshot, code, lock and seed: asked for again, what it made is returned.
    Returns ``{"encoders": [{"name", "action", "why", "run"}], "lines": [...]}``.
    """
    session = open_session(recipe, overrides)
    outcomes = []
    with bars() as progress:
        for item in session.recipe.pretrain:
            if encoders is not None and item.encoder not in encoders:
                continue
            plan = train.plan(session, item)
            if plan.action == "train":
                train.train(session, plan, progress)
            outcomes.append(
                {"name": plan.encoder, "action": plan.action, "why": plan.why, "run": plan.folder.name}
            )
    verbs = {"train": "trained", "return": "returned", "keep": "kept"}
    lines = [f"pretrain: {verbs[item['action']]} {item['name']}: {item['why']}" for item in outcomes]
    return {"recipe": session.recipe.name, "encoders": outcomes, "lines": lines}
