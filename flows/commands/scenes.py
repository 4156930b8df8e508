"""``swath scenes``: the ledger."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from catalog.errors import SceneError, UsageError
from flows.commands.output import Json, print_json, print_table

if TYPE_CHECKING:
    from catalog.ledger import Ledger

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_scenes(
    state: Annotated[str | None, typer.Option(help="seen, accepted, quarantined, cubed, superseded")] = None,
    product: Annotated[str | None, typer.Option()] = None,
    cube: Annotated[str | None, typer.Option()] = None,
    json: Json = False,
) -> None:
    """Scenes and their state."""
    from catalog.ledger.supersession import State

    states = [str(known) for known in State]
    if state is not None and state not in states:
        raise UsageError(
            "unknown-state",
            f"there is no state {state!r}",
            subject="--state",
            next_step=f"use one of {', '.join(states)}",
        )
    rows = [row.summary() for row in _ledger().rows(state=state, product=product, cube=cube)]
    if json:
        print_json(rows)
        return
    print_table(
        ("product", "scene", "sensed", "state", "why"),
        ((r["product"], r["scene"], r["sensed"], r["state"], "; ".join(r["reasons"])) for r in rows),
    )


@app.command("show")
def show_scene(
    scene: Annotated[str, typer.Argument(help="Scene id.")],
    cube: Annotated[str | None, typer.Option()] = None,
    json: Json = False,
) -> None:
    """One scene: its record, its state in each cube, and failures."""
    rows = [row for row in _ledger().rows(cube=cube) if row.scene_id == scene]
    if not rows:
        raise SceneError(
            "unknown-scene", "the ledger has never seen it", subject=scene, next_step="swath scenes list"
        )
    document = [{**row.summary(), "record": row.scene().to_dict()} for row in rows]
    if json:
        print_json(document)
        return
    for item in document:
        for key, value in item.items():
            if key == "record":
                typer.echo(f"baseline: {value['baseline']}  cloud: {value['cloud_cover_percent']} %")
                for asset in value["assets"].values():
                    typer.echo(f"  {asset['href']}")
            else:
                typer.echo(f"{key}: {value}")


@app.command("inspect")
def inspect(
    item: Annotated[Path, typer.Argument(help="A STAC item as a JSON file.")],
    product: Annotated[
        str | None, typer.Option(help="Product; guessed from the collection unless given.")
    ] = None,
    archive: Annotated[str | None, typer.Option(help="Archive it came from; guessed unless given.")] = None,
    json: Json = False,
) -> None:
    """Normalise one STAC item and say what would be done with it: every repair, every reason for refusal."""
    from catalog.normalise import inspect_item

    try:
        document = json_module.loads(item.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            "unreadable-item", str(error), subject=str(item), next_step="give a STAC item"
        ) from error
    verdict = inspect_item(document, archive=archive, product=product)
    if json:
        print_json(verdict)
        return
    typer.echo(f"{verdict['id']}: {'refused' if verdict['refused'] else 'usable'} as {verdict['product']}")
    for reason in verdict["refused"]:
        typer.echo(f"  refused: {reason}")
    for repair in verdict["repairs"]:
        typer.echo(f"  repaired: {repair}")


def _ledger() -> Ledger:
    from catalog.database import open_database
    from catalog.ledger import Ledger

    return Ledger(open_database())
