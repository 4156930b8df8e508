"""``swath demo``: the whole way on the sandbox archive, then how to look at what it made."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from flows.commands.output import say


def demo(
    recipe: Annotated[str, typer.Option("--recipe", help="Another recipe.")] = "sandbox",
    override: Annotated[list[str] | None, typer.Option("--set", help="key.sub=value")] = None,
) -> None:
    """Scenes to encoders on simulated scenes, offline, in under five minutes on two cores.

    A second call finds nothing new and returns what the first one made.
    """
    from flows.commands.run import call_flow

    began = time.monotonic()
    say("Swath demo: simulated Sentinel-2, Sentinel-1, Landsat and EnMAP scenes, from STAC API to encoders.")
    summary = call_flow("data-to-model", recipe, override or [])
    say("")
    for line in summary["lines"]:
        say(line)
    say(f"\nDone in {time.monotonic() - began:.0f} s. Look at what it made:")
    first = summary["encoders"][0]["name"] if summary["encoders"] else "NAME"
    typer.echo("  swath encoders search")
    typer.echo(f"  swath encoders lineage {first} --json")
    typer.echo(f"  open {summary['report']}")
