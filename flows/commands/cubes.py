"""``swath cubes``: cubes and their snapshots."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from catalog.errors import CubeError, UsageError
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
    """Snapshots, newest first: what each added or superseded, and the tags that name it."""
    from catalog.cubes import open_cube

    cube = open_cube(name)
    tags = cube.tags()
    versions = cube.history()
    # An expiry takes old snapshots out of the history; those with a tag are still there.
    lone = set(tags.values()) - {version.id for version in versions}
    rows: list[dict[str, Any]] = [
        {
            "snapshot": version.id,
            "written": version.written.isoformat(timespec="seconds"),
            "message": version.message,
            "appended": dict(version.appended),
            "superseded": len(version.superseded),
            "tags": [tag for tag, snapshot in tags.items() if snapshot == version.id],
        }
        for version in (
            *versions,
            *sorted(cube.versions(sorted(lone)), key=lambda v: v.written, reverse=True),
        )
    ]
    if json:
        print_json(rows)
        return
    columns = ("snapshot", "written", "samples added", "scenes superseded", "tags", "message")
    print_table(columns, (_version_line(row) for row in rows))


def _version_line(row: dict[str, Any]) -> tuple[str, ...]:
    added = ", ".join(f"{product} {count}" for product, count in row["appended"].items())
    superseded = str(row["superseded"] or "")
    return row["snapshot"], row["written"], added, superseded, " ".join(row["tags"]), row["message"]


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


@app.command("compact")
def compact(name: Name, json: Json = False) -> None:
    """Put samples that refreshes appended in order again (block, place, date), in a new snapshot."""
    from catalog.cubes import open_cube

    done = open_cube(name).compact()
    if json:
        print_json(
            {"cube": name, "snapshot": done.snapshot, "changed": done.committed, "moved": dict(done.moved)}
        )
    elif not done.committed:
        typer.echo(f"{name}: every sample is in its place; nothing was changed")
    else:
        for product, count in done.moved.items():
            typer.echo(f"{name}: {product}: {count} samples moved")
        typer.echo(f"{name}: new snapshot {done.snapshot}; older ones are as they were")


@app.command("expire")
def expire(
    name: Name,
    older_than: Annotated[str, typer.Option(help="Age: 30d, 12h, 90m.")] = "30d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; change nothing.")] = False,
    json: Json = False,
) -> None:
    """Let old snapshots go, with the bytes that only they need; encoders and runs keep theirs."""
    from catalog.cubes import open_cube
    from catalog.needed_snapshots import needed_snapshots

    limit = datetime.now(UTC) - _age(older_than)
    done = open_cube(name).expire(limit, keep=needed_snapshots(name), dry_run=dry_run)
    if json:
        print_json(
            {
                "cube": name,
                "older_than": limit.isoformat(timespec="seconds"),
                "dry_run": dry_run,
                "expired": list(done.snapshots),
                "kept": dict(done.kept),
                "bytes_freed": done.bytes_freed,
            }
        )
        return
    for snapshot, why in done.kept.items():
        typer.echo(f"kept     {snapshot}  {why}")
    for snapshot in done.snapshots:
        typer.echo(f"{'would go' if dry_run else 'gone':8} {snapshot}")
    typer.echo(f"{name}: {done.bytes_freed / 1e6:.1f} MB {'would be' if dry_run else ''} freed")


@app.command("export")
def export(
    name: Name,
    to: Annotated[Path, typer.Option(help="Where to; must not exist. For Zarr: a folder, or a .zip.")],
    product: Annotated[str | None, typer.Option(help="One product; all unless given.")] = None,
    snapshot: Snapshot = None,
    format: Annotated[str, typer.Option(help="zarr, or geotiff (PRODUCT/PLACE/DATE/BAND.tif).")] = "zarr",
    json: Json = False,
) -> None:
    """Copy a snapshot for programs that know no Icechunk: plain Zarr v3, or GeoTIFFs with a table."""
    from catalog.cubes import open_cube
    from catalog.cubes.export import FORMATS

    chosen = next((known for known in FORMATS if known == format), None)
    if chosen is None:
        raise UsageError(
            "bad-format",
            f"a cube is exported as {' or '.join(FORMATS)}, not as {format!r}",
            subject="--format",
            next_step="name one of those",
        )
    done = open_cube(name).export(to, product=product, snapshot=snapshot, format=chosen)
    if json:
        print_json(
            {
                "cube": name,
                "snapshot": done.snapshot,
                "path": str(done.path),
                "format": chosen,
                "samples": done.samples,
                "files": done.files,
            }
        )
    else:
        typer.echo(f"{name}: {sum(done.samples.values())} samples of snapshot {done.snapshot} in {done.path}")


def _age(text: str) -> timedelta:
    match = re.fullmatch(r"(\d+)([dhm])", text)
    if match is None:
        raise UsageError(
            "bad-age",
            f"{text!r} is no age",
            subject="--older-than",
            next_step="write days, hours or minutes: 30d, 12h, 90m",
        )
    return timedelta(**{{"d": "days", "h": "hours", "m": "minutes"}[match[2]]: int(match[1])})
