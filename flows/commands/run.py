"""``swath run FLOW``: call a flow in this process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from catalog.errors import UsageError
from flows.commands.output import Json, print_json, say

FLOWS = {
    "refresh": "flows.refresh",
    "pretrain": "flows.pretrain",
    "evaluate": "flows.evaluate",
    "data-to-model": "flows.data_to_model",
    "area": "flows.area",
    "embed": "flows.embed",
}
"""Flow name → module; the function bears the name with underscores."""


def run(
    flow: Annotated[str, typer.Argument(help=f"One of {', '.join(FLOWS)}.")],
    recipe: Annotated[str, typer.Option("--recipe", help="A recipe file, or the name of a built-in one.")],
    override: Annotated[
        list[str] | None, typer.Option("--set", help="key.sub=value; changes the recipe for this run.")
    ] = None,
    scenes: Annotated[
        Path | None, typer.Option("--scenes", help="Root of the real scenes of a described local archive.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", help="refresh: cube on so many processes of this machine.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", help="refresh: cube on the Dask cluster at tcp://HOST:PORT.")
    ] = None,
    json: Json = False,
) -> None:
    """Call a flow in this process; no server is needed beyond Prefect's own, which is started for the run."""
    if flow not in FLOWS:
        raise UsageError(
            "unknown-flow",
            f"there is no flow {flow!r}",
            subject=flow,
            next_step=f"use one of {', '.join(FLOWS)}",
        )
    if scenes is not None:
        os.environ["SWATH_SCENES"] = str(scenes.resolve())
    cluster = {"workers": workers, "scheduler": scheduler}
    cluster = {name: value for name, value in cluster.items() if value is not None}
    if cluster and flow != "refresh":
        raise UsageError(
            "no-cubing-here",
            f"{flow} cubes nothing",
            subject=" ".join(f"--{name}" for name in cluster),
            next_step="run refresh on the cluster first; the other flows find its cube",
        )
    summary = call_flow(flow, recipe, override or [], **cluster)
    if json:
        print_json(summary)
    else:
        for line in summary.get("lines", []):
            say(line)


def call_flow(flow: str, recipe: str, overrides: list[str], **more: Any) -> dict[str, Any]:
    """Run one flow with Prefect's server around it and return its summary; ``more`` are its own parameters.

    The recipe is read before anything is started, so that a wrong key costs no wait.
    """
    from importlib import import_module

    from flows.environment import prepare_environment
    from flows.prefect_server import prefect_server
    from flows.recipes import check_recipe

    settings = prepare_environment()
    check_recipe(recipe, overrides)
    with prefect_server(settings):
        module = import_module(FLOWS[flow])
        function = getattr(module, flow.replace("-", "_"))
        result: dict[str, Any] = function(recipe=recipe, overrides=overrides, **more)
    return result
