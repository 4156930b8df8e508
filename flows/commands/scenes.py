"""``swath scenes``: the ledger."""

from __future__ import annotations

import json as json_module
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from catalog.errors import SceneError, UsageError
from flows.commands.output import Json, print_json, print_table, say

if TYPE_CHECKING:
    from catalog.ledger import Failure, Ledger, LedgerRow

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_scenes(
    state: Annotated[str | None, typer.Option(help="seen, accepted, quarantined, cubed, superseded")] = None,
    product: Annotated[str | None, typer.Option()] = None,
    cube: Annotated[str | None, typer.Option()] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="Files that could not be read, instead of scenes.")
    ] = False,
    json: Json = False,
) -> None:
    """Scenes and their state."""
    from catalog.ledger import State

    if failed:
        _list_failures(cube, product, json)
        return

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
        (
            (
                r["product"],
                r["scene"],
                r["sensed"],
                r["state"],
                "; ".join(r["reasons"]) or r["passed_over"] or "",
            )
            for r in rows
        ),
    )


def _list_failures(cube: str | None, product: str | None, json: bool) -> None:
    rows = [_failure(row) for row in _ledger().failures(cube, product)]
    if json:
        print_json(rows)
        return
    columns = ("cube", "product", "scene", "band", "status", "attempts", "message", "href")
    print_table(columns, ([row[name] for name in columns] for row in rows))


def _cloud(row: LedgerRow) -> str:
    """Where the cloud of the scene's pixels is known from."""
    from catalog.products import load_products
    from catalog.quality import cloud_source

    product = load_products().get(row.product)
    return "not known here" if product is None else cloud_source(product, row.scene())


def _failure(row: Failure) -> dict[str, Any]:
    document = asdict(row)
    return {"scene": document.pop("scene_id"), **document, "failed_at": row.failed_at.isoformat()}


@app.command("show")
def show_scene(
    scene: Annotated[str, typer.Argument(help="Scene id.")],
    cube: Annotated[str | None, typer.Option()] = None,
    json: Json = False,
) -> None:
    """One scene: its record, its state in each cube, and failures."""
    ledger = _ledger()
    document = [
        {
            **row.summary(),
            "cloud": _cloud(row),
            "failures": [_failure(item) for item in ledger.failures(row.cube, row.product, row.scene_id)],
            "record": row.scene().to_dict(),
        }
        for row in _known(ledger, scene, cube)
    ]
    if json:
        print_json(document)
        return
    for item in document:
        for key, value in item.items():
            if key == "failures":
                for failure in value:
                    typer.echo(f"failed: {failure['message']}")
            elif key == "record":
                typer.echo(f"baseline: {value['baseline']}  cloud: {value['cloud_cover_percent']} %")
                typer.echo(f"licence: {value['licence']}  {value['attribution']}")
                for asset in value["assets"].values():
                    typer.echo(f"  {asset['href']}")
            else:
                typer.echo(f"{key}: {value}")


@app.command("replay")
def replay(
    scene: Annotated[
        list[str] | None,
        typer.Argument(help="Scene ids; those with files that could not be read unless given."),
    ] = None,
    cube: Annotated[str | None, typer.Option(help="Only in this cube.")] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="Take them at once: gate and cube exactly these, without searching the archive."),
    ] = None,
    override: Annotated[
        list[str] | None, typer.Option("--set", help="key.sub=value; changes the recipe for this run.")
    ] = None,
    json: Json = False,
) -> None:
    """Take scenes up again that were quarantined or could not be read.

    Without a recipe they only go back to `seen`, and the next refresh takes them.
    """
    from catalog.ledger import State
    from flows.recipes import check_recipe

    if recipe is not None:
        named = check_recipe(recipe, override)[0].cube_name
        if cube not in (None, named):
            raise UsageError(
                "wrong-cube",
                f"the recipe fills cube {named}, not {cube}",
                subject="--cube",
                next_step="leave --cube out",
            )
        cube = named
    ledger = _ledger()
    if scene:
        rows = [row for name in scene for row in _known(ledger, name, cube)]
    else:
        failed = {(row.cube, row.product, row.scene_id) for row in ledger.failures(cube)}
        # An item that is no scene has a failure and no row: every search looks at it again anyway.
        rows = [
            row
            for named, product, name in sorted(failed)
            for row in ledger.rows(product=product, cube=named, scene_id=name)
        ]
    for row in rows:
        if row.state is State.QUARANTINED:
            ledger.replay([row.scene_id], cube=row.cube, product=row.product)
    document: dict[str, Any] = {"scenes": [row.scene_id for row in rows]}
    lines = [f"{len(rows)} scenes are taken up again by the next refresh"]
    if recipe is not None and rows:
        from flows.commands.run import call_flow

        document["refresh"] = call_flow("refresh", recipe, override or [], only=document["scenes"])
        lines = document["refresh"]["lines"]
    elif not rows:
        lines = ["nothing to take up again"]
    if json:
        print_json(document)
        return
    for line in lines:
        say(line)


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
    product_id = verdict["product"] or "no known product"
    typer.echo(f"{verdict['id']}: {'refused' if verdict['refused'] else 'usable'} as {product_id}")
    for reason in verdict["refused"]:
        typer.echo(f"  refused: {reason}")
    for repair in verdict["repairs"]:
        typer.echo(f"  repaired: {repair}")


def _known(ledger: Ledger, scene: str, cube: str | None) -> list[LedgerRow]:
    """The rows of a scene id.

    Raises
    ------
    SceneError: ``unknown-scene``.
    """
    rows = ledger.rows(scene_id=scene, cube=cube)
    if not rows:
        raise SceneError(
            "unknown-scene", "the ledger has never seen it", subject=scene, next_step="swath scenes list"
        )
    return rows


def _ledger() -> Ledger:
    from catalog.database import open_database
    from catalog.ledger import Ledger

    return Ledger(open_database())
