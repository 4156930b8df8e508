"""What an installation holds, as a document that two runs can be compared by."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.faults.kills.phases import Mark
from tests.faults.kills.work import CUBE, settle_in

if TYPE_CHECKING:
    from catalog.cubes import Cube

MOMENTS = ("seen_at", "changed_at", "failed_at", "searched_at", "whole_at")
"""Columns that differ from run to run, rightly."""


def look(home: Path, mark: Mark, *, expired: bool = False, portions: bool = False) -> dict[str, Any]:
    """Content of cube and ledger, order and history beside it, and what is wrong by itself.

    Of a cube whose old snapshots ``expired``, the ledger may name one that is gone; of one written in
    ``portions``, a later one than the first that holds a scene.
    """
    settle_in(home, mark)
    from catalog.cubes import list_cubes, open_cube
    from catalog.database import open_database

    engine = open_database()
    found: dict[str, Any] = {"content": {}, "order": {}, "wrong": []}
    if CUBE in list_cubes():
        cube = open_cube(CUBE)
        found["content"] |= _cube(cube)
        found["order"] |= _order(cube)
        found["wrong"] += _damage(cube)
        _ledger(engine, cube, found, expired, portions)
        found["wrong"] += _leftovers(cube, home)
    else:
        _ledger(engine, None, found, expired, portions)
    engine.dispose()
    return found


def _cube(cube: Cube) -> dict[str, Any]:
    products = {}
    for name, product in cube.products().items():
        columns = cube.columns(name)
        rows = columns.pop("row").to_numpy()
        parts: list[tuple[str, Any]] = []
        if len(rows):
            parts += [(f"{gsd:g}", cube.read(name, gsd, rows)) for gsd in product.resolutions_m]
            parts.append(("quality", cube.read_quality(name, rows)))
            parts += sorted(cube.calibration(name, rows).items())
            parts += [(f"affine {gsd:g}", cube.affine(name, gsd, rows)) for gsd in product.resolutions_m]
        samples: dict[str, Any] = {}
        for row, record in zip(rows, columns.astype(str).to_dict("records"), strict=True):
            pixels = {part: _digest(values[row].tobytes()) for part, values in parts}
            key = record["sample"]
            samples[f"{key} again" if key in samples else key] = record | pixels
        scenes = {key: _digest(_json(scene.to_dict())) for key, scene in sorted(cube.scenes(name).items())}
        products[name] = {"samples": samples, "scenes": scenes, "columns": list(columns)}
    return {"products": products, "places": sorted(_json(vars(place)) for place in cube.locations())}


def _order(cube: Cube) -> dict[str, Any]:
    return {
        "samples": {name: list(cube.columns(name)["sample"]) for name in cube.products()},
        "places": [place.id for place in cube.locations()],
        "commits": [
            [version.message, dict(version.appended), dict(version.superseded)] for version in cube.history()
        ],
    }


def _damage(cube: Cube) -> list[str]:
    """Every snapshot that is there is whole, not only the newest."""
    names = [version.id for version in cube.history()] + list(cube.repository.list_tags())
    return [f"{name}: {problem}" for name in names for problem in cube.verify(name)]


def _ledger(engine: Any, cube: Cube | None, found: dict[str, Any], expired: bool, portions: bool) -> None:
    from sqlalchemy import select

    from catalog import tables

    with engine.connect() as connection:
        rows = {
            table.name: [dict(row) for row in connection.execute(select(table)).mappings()]
            for table in tables.metadata.sorted_tables
        }
    newest = cube.snapshot() if cube else None
    versions = list(reversed(cube.history())) if cube else []
    for row in rows["scenes"]:
        snapshot = row.pop("snapshot")
        if row["state"] == "superseded":
            row["plan"] = None  # it is offered no more: for which plan it last was means nothing
        holding = [version.id for version in versions if cube and _holds(cube, row, version.id)]
        if expired and snapshot and snapshot not in {version.id for version in versions}:
            continue
        right = holding if portions else holding[:1]
        if (snapshot not in right) if snapshot or row["own_state"] == "cubed" else holding:
            found["wrong"].append(f"ledger: {row['scene_id']} is in {holding}, not in {snapshot} first")
    for row in rows["notes"]:
        if row["name"] == "snapshot":
            if row["value"] != newest:
                found["wrong"].append(f"ledger: notes snapshot {row['value']}, the cube has {newest}")
            row["value"] = "the newest"
    # Where a place stands in the table follows from which run was first; that it is there does not.
    found["order"]["ledger places"] = [row["id"] for row in rows["locations"]]
    for row in rows["locations"]:
        del row["position"]
    found["content"]["ledger"] = {
        name: sorted(_json({k: v for k, v in row.items() if k not in MOMENTS}) for row in of_table)
        for name, of_table in rows.items()
    }


def _holds(cube: Cube, row: dict[str, Any], snapshot: str) -> bool:
    product = row["product"]
    return product in cube.products(snapshot) and row["scene_id"] in cube.scenes(product, snapshot)


def _leftovers(cube: Cube, home: Path) -> list[str]:
    """What a killed run left behind and the next commit has not removed."""
    from catalog.cubes.publish import commit_session

    with commit_session(cube.place, cube.repository):
        pass  # where the rerun had nothing to commit: the next commit sweeps
    wrong = [f"left behind: {path.name}" for path in cube.place.folder.rglob("*#*")]
    if cube.place.journal_file.exists():
        wrong.append("left behind: the journal file")
    unreachable = cube.repository.garbage_collect(datetime.now(UTC), dry_run=True)
    for kind in ("chunks", "manifests", "snapshots", "attributes", "transaction_logs"):
        if count := getattr(unreachable, f"{kind}_deleted"):
            wrong.append(f"left behind: {count} {kind} that nothing leads to")
    stored = sum(path.stat().st_size for path in (cube.place.folder / "chunks").rglob("*"))
    if not cube.repository.list_tags():
        reachable = int(cube.repository.chunk_storage_stats().native_bytes)
        if stored != reachable:
            wrong.append(f"left behind: chunks of {stored} bytes, {reachable} are reachable")
    for folder in (home / "spool", home.parent / "tmp"):
        wrong += [f"left behind: {folder.name}/{path.name}" for path in folder.rglob("*") if path.is_file()]
    return wrong


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _digest(value: bytes | str) -> str:
    return hashlib.sha256(value.encode() if isinstance(value, str) else value).hexdigest()
