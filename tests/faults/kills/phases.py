"""Marks where the product's code passes from one phase of its work to the next, inside a child.

The flow and its steps run as they are, without Prefect's engine, which would need a server: a task is the
function that it decorates.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

Mark = Callable[[str], None]

STEPS = {
    "search": "search",
    "note": "note",
    "reconcile": "reconcile",
    "gate": "gate",
    "sample-places": "places",
    "cube": "fetch",
}
"""Name of a Prefect task → phase that begins with it."""

CALLS = (
    ("catalog.database", "open_database", "database"),
    ("catalog.cubes.place", "_create", "create"),
    ("catalog.cubes.publish", "sweep", "sweep"),
    ("catalog.cubes.cube", "CubeWriter.commit", "write"),
    ("catalog.cubes.compact", "compact", "compact"),
    ("catalog.cubes.expire", "expire", "expire"),
    ("icechunk", "Session.commit", "commit"),
    ("icechunk", "Repository.garbage_collect", "collect"),
    ("catalog.ledger", "Ledger.cubed", "ledger"),
)
"""Module, function of it, phase that begins when it is called."""

AFTER = {"commit": "committed", "sweep": "swept", "create": "created"}
"""Phase → what begins when its function returns; in ``committed`` the cube knows and the ledger does not."""

PHASES = (
    *("start", "database", "search", "reconcile", "create", "created", "note", "gate", "places", "fetch"),
    *("write", "commit", "committed", "ledger", "compact", "expire", "sweep", "collect", "swept"),
)
"""In the order of the table."""


def mark_phases(mark: Mark) -> None:
    """Let the product's own functions say which phase begins; what they do stays the same."""
    from prefect import Task

    import flows.steps.gate

    def call(task: Any, *given: Any, **named: Any) -> Any:
        mark(STEPS[task.name])
        return task.fn(*given, **named)

    Task.__call__ = call  # type: ignore[method-assign]
    # What Prefect's interface would show.
    flows.steps.gate.gate_artifact = lambda result: None
    for module, path, phase in CALLS:
        owner: Any = importlib.import_module(module)
        *outer, name = path.split(".")
        for part in outer:
            owner = getattr(owner, part)
        setattr(owner, name, _marked(getattr(owner, name), phase, mark))


def _marked(function: Callable[..., Any], phase: str, mark: Mark) -> Callable[..., Any]:
    def marked(*given: Any, **named: Any) -> Any:
        mark(phase)
        result = function(*given, **named)
        if phase in AFTER:
            mark(AFTER[phase])
        return result

    return marked
