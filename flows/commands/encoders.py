"""``swath encoders``: search, show, pull, lineage, promote, verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from catalog.encoders import Encoder, open_catalog
from catalog.errors import EncoderError
from flows.commands.output import Json, print_json, print_table, say

app = typer.Typer(no_args_is_help=True)
Reference = Annotated[str, typer.Argument(help="NAME, NAME@3 or NAME:production")]


def _row(encoder: Encoder) -> dict[str, Any]:
    return {
        "name": encoder.name,
        "version": encoder.version,
        "aliases": list(encoder.aliases),
        "method": encoder.method,
        "products": list(encoder.products),
        "created": encoder.created.isoformat(timespec="seconds"),
        "samples": encoder.manifest.get("samples"),
        "snapshots": encoder.manifest.get("snapshots"),
    }


@app.command("search")
def search(
    text: Annotated[str | None, typer.Argument(help="Part of a name.")] = None,
    product: Annotated[str | None, typer.Option(help="Only encoders for this product.")] = None,
    method: Annotated[str | None, typer.Option(help="Only encoders of this method.")] = None,
    limit: Annotated[int, typer.Option(min=1)] = 50,
    json: Json = False,
) -> None:
    """Encoders in the catalog, newest version first."""
    rows = [_row(item) for item in open_catalog().search(text, product=product, method=method, limit=limit)]
    if json:
        print_json(rows)
        return
    if not rows:
        say("no encoder fits; `swath run data-to-model --recipe sandbox` makes two")
    print_table(
        ("encoder", "aliases", "method", "products", "samples", "created"),
        (
            (
                f"{r['name']}@{r['version']}",
                ", ".join(r["aliases"]),
                r["method"],
                ", ".join(r["products"]),
                r["samples"],
                r["created"],
            )
            for r in rows
        ),
    )


@app.command("show")
def show(reference: Reference, json: Json = False) -> None:
    """One encoder: what it takes, what it was made from, how it scored."""
    encoder = open_catalog().get(reference)
    if json:
        print_json({**_row(encoder), "manifest": encoder.manifest})
        return
    from flows.commands.encoder_card import card

    for line in card(encoder):
        typer.echo(line)


@app.command("pull")
def pull(
    reference: Reference,
    to: Annotated[Path | None, typer.Option("--to", help="Folder to copy into.")] = None,
    json: Json = False,
) -> None:
    """A verified local folder: model.safetensors, config.json, manifest.json."""
    encoder = open_catalog().get(reference)
    folder = encoder.pull(to)
    if json:
        print_json({"encoder": f"{encoder.name}@{encoder.version}", "folder": str(folder)})
    else:
        typer.echo(folder)


@app.command("lineage")
def lineage(
    reference: Annotated[
        str | None, typer.Argument(help="NAME, NAME@3 or NAME:production; none with --scene")
    ] = None,
    scene: Annotated[str | None, typer.Option("--scene", help="Which encoders drew from this scene?")] = None,
    json: Json = False,
) -> None:
    """Every sample an encoder drew; or, with --scene, every encoder that drew from a scene."""
    catalog = open_catalog()
    if scene is not None:
        rows = [_row(item) for item in catalog.encoders_of_scene(scene)]
        if json:
            print_json(rows)
        else:
            print_table(("encoder", "method"), ((f"{r['name']}@{r['version']}", r["method"]) for r in rows))
        return
    if reference is None:
        raise EncoderError(
            "nothing-named", "name an encoder, or a scene with --scene", next_step="swath encoders search"
        )
    document = catalog.lineage(reference)
    if json:
        print_json(document)
        return
    samples = document["samples"]
    per_scene: dict[tuple[str, str], int] = {}
    for sample in samples:
        key = (sample["product"], sample["scene"])
        per_scene[key] = per_scene.get(key, 0) + 1
    say(f"{document['encoder']}: {len(samples)} samples of {len(per_scene)} scenes; --json names each")
    print_table(("product", "scene", "samples"), ((p, s, n) for (p, s), n in sorted(per_scene.items())))


@app.command("promote")
def promote(
    reference: Reference,
    alias: Annotated[str, typer.Option(help="Alias to move.")] = "production",
    json: Json = False,
) -> None:
    """Point an alias at a version."""
    encoder = open_catalog().promote(reference, alias)
    if json:
        print_json(_row(encoder))
    else:
        typer.echo(f"{encoder.name}:{alias} is now {encoder.name}@{encoder.version}")


@app.command("verify")
def verify(reference: Reference, json: Json = False) -> None:
    """Check every file of an encoder against its recorded SHA-256."""
    problems = open_catalog().verify(reference)
    if json:
        print_json({"encoder": reference, "problems": problems})
    elif not problems:
        typer.echo(f"{reference}: every file matches its checksum")
    if problems:
        raise EncoderError(
            "checksum-mismatch",
            "; ".join(problems),
            subject=reference,
            next_step="restore the folder from a backup, or train it again",
        )
