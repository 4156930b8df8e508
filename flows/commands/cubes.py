"""``swath cubes``: cubes and their snapshots."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from catalog.errors import CubeError
from flows.commands.output import Json, print_json, print_table

app = typer.Typer(no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="Name of the cube.")]
Snapshot = Annotated[str | None, typer.Option(help="Snapshot id; the newest unless given.")]


@app.command("list")
def list_all(json: Json = False) -> None:
    """Every cube with its newest snapshot and samples per product."""
    from catalog.cubes import list_cubes, open_cube

    rows: list[dict[str, Any]] = []
    for name in list_cubes():
        cube = open_cube(name)
        rows.append(
            {
                "cube": name,
                "snapshot": cube.snapshot(),
                "samples": {product: len(cube.columns(product)) for product in cube.products()},
            }
        )
    if json:
        print_json(rows)
        return
    print_table(
        ("cube", "snapshot", "samples"),
        ((r["cube"], r["snapshot"], ", ".join(f"{p} {n}" for p, n in r["samples"].items())) for r in rows),
    )


@app.command("show")
def show(name: Name, snapshot: Snapshot = None, json: Json = False) -> None:
    """One cube: samples, scenes, places and dates per product, and what its licences allow."""
    from catalog.cubes import open_cube
    from catalog.licences import snapshot_licences

    cube = open_cube(name)
    document: dict[str, Any] = {
        "cube": name,
        "snapshot": snapshot or cube.snapshot(),
        "products": {},
        **snapshot_licences(cube, snapshot),
    }
    for product in cube.products(snapshot):
        columns = cube.columns(product, snapshot)
        document["products"][product] = {
            "samples": len(columns),
            "superseded": int((columns["superseded_by"] != "").sum()),
            "resampled": int(columns["resampled"].sum()),
            "scenes": int(columns["scene"].nunique()),
            "locations": int(columns["location"].nunique()),
            "first": str(columns["time"].min()),
            "last": str(columns["time"].max()),
        }
    if json:
        print_json(document)
        return
    print_table(
        ("product", "samples", "superseded", "scenes", "places", "first", "last"),
        (
            (p, v["samples"], v["superseded"], v["scenes"], v["locations"], v["first"], v["last"])
            for p, v in document["products"].items()
        ),
    )
    for licence in document["licences"]:
        typer.echo(f"licence: {licence['licence']}  {licence['attribution']}")


@app.command("history")
def history(name: Name, json: Json = False) -> None:
    """Snapshots, newest first."""
    from catalog.cubes import open_cube

    rows = [
        {"snapshot": item.id, "written": item.written.isoformat(timespec="seconds"), "message": item.message}
        for item in open_cube(name).history()
    ]
    if json:
        print_json(rows)
    else:
        print_table(("snapshot", "written", "message"), (tuple(r.values()) for r in rows))


@app.command("verify")
def verify(name: Name, snapshot: Snapshot = None, json: Json = False) -> None:
    """Read every sample again and compare it with its recorded SHA-256."""
    from catalog.cubes import open_cube

    problems = open_cube(name).verify(snapshot)
    if json:
        print_json({"cube": name, "problems": problems})
    elif not problems:
        typer.echo(f"{name}: every sample matches its checksum")
    if problems:
        raise CubeError(
            "cube-damaged",
            f"{len(problems)} problems, the first: {problems[0]}",
            subject=name,
            next_step="restore the store from a backup, or cube the named scenes again into a new cube",
        )
