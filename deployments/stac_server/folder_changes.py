"""Changes an archive folder as archives change: scenes come late, are made anew, vanish, hold wrong pixels.

A server over the folder shows each change from the next request on; no file is ever seen half written.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from catalog.errors import UsageError

Item = dict[str, Any]


def take_out(folder: Path, scene_id: str) -> Item:
    """Take a scene out of the archive, its files stay; ``put_in`` brings it back, late.

    Raises
    ------
    UsageError: ``no-such-scene``.
    """
    path, items = _holder(folder, scene_id)
    (item,) = (item for item in items if item["id"] == scene_id)
    _write(path, [item for item in items if item["id"] != scene_id])
    return item


def put_in(folder: Path, item: Mapping[str, Any]) -> None:
    """Add a scene to the archive, or put it in the place of the one with its id."""
    path = folder / "items" / f"{item['collection']}.ndjson"
    others = [other for other in _read(path) if other["id"] != item["id"]] if path.is_file() else []
    _write(path, [*others, dict(item)])


def delete(folder: Path, scene_id: str) -> None:
    """Delete a scene with its files."""
    item = take_out(folder, scene_id)
    for asset in item.get("assets", {}).values():
        _file(folder, asset["href"]).unlink(missing_ok=True)


def delete_files(folder: Path, scene_id: str) -> None:
    """Delete a scene's files and leave its item: the archive promises what it no longer has."""
    for asset in _item(folder, scene_id)["assets"].values():
        _file(folder, asset["href"]).unlink(missing_ok=True)


def reprocess(folder: Path, scene_id: str, new_id: str, properties: Mapping[str, Any]) -> Item:
    """Add a version of a scene beside it, with files of its own and properties that make it the newer one."""
    item = json.loads(json.dumps(_item(folder, scene_id)))
    item["id"] = new_id
    item["properties"] |= dict(properties)
    for asset in item["assets"].values():
        old = _file(folder, asset["href"])
        asset["href"] = asset["href"].replace(scene_id, new_id)
        if old.is_file():
            new = _file(folder, asset["href"])
            new.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(old, new)
    put_in(folder, item)
    return dict(item)


def state(folder: Path, scene_id: str, properties: Mapping[str, Any]) -> None:
    """Let a scene's item state something else: a wrong baseline, a flag that the offset was applied."""
    item = _item(folder, scene_id)
    put_in(folder, {**item, "properties": {**item["properties"], **properties}})


def shift_pixels(
    folder: Path, scene_id: str, by: float, wanted: Callable[[str], bool] = lambda key: True
) -> None:
    """Add ``by`` to every pixel with data of a scene's files, not to its item: an offset missed or doubled.

    Parameters
    ----------
    wanted: by asset key; a classification layer is better left alone
    """
    change_pixels(folder, scene_id, lambda values: values + by, wanted)


def change_pixels(
    folder: Path,
    scene_id: str,
    change: Callable[[Any], Any],
    wanted: Callable[[str], bool] = lambda key: True,
) -> None:
    """Put other numbers into a scene's files, not into its item: decibels for power, say.

    Parameters
    ----------
    change: float64 ``(band, y, x)`` of a file → what shall stand there, cut to what its type can hold; pixels
        without data stay as they are, and no other becomes one
    wanted: by asset key
    """
    for key, asset in _item(folder, scene_id)["assets"].items():
        path = _file(folder, asset["href"])
        if wanted(key) and path.suffix == ".tif" and path.is_file():
            _rewrite(path, change)


def _rewrite(path: Path, change: Callable[[Any], Any]) -> None:
    import numpy as np
    import rasterio
    from rasterio.shutil import copy

    with rasterio.open(path) as file:
        values, profile, nodata, points = file.read(), dict(file.profile), file.nodata, file.gcps
    if points[0]:  # they place the raster, no transform does
        del profile["transform"]
        profile |= {"gcps": points[0], "crs": points[1]}
    changed = change(values.astype(np.float64))
    if values.dtype.kind in "iu":
        limits = np.iinfo(values.dtype)
        changed = np.clip(np.rint(changed), 1 if nodata == 0 else limits.min, limits.max)
    changed = changed.astype(values.dtype)
    if nodata is not None:
        changed[values == nodata] = nodata
    partial = path.with_suffix(".partial.tif")
    with rasterio.MemoryFile() as memory:
        with memory.open(**{**profile, "driver": "GTiff"}) as file:
            file.write(changed)
        copy(memory.name, partial, driver="COG", compress="DEFLATE", blocksize=128)
    partial.replace(path)


def _item(folder: Path, scene_id: str) -> Item:
    _, items = _holder(folder, scene_id)
    return next(item for item in items if item["id"] == scene_id)


def _holder(folder: Path, scene_id: str) -> tuple[Path, list[Item]]:
    for path in sorted((folder / "items").glob("*.ndjson")):
        items = _read(path)
        if any(item["id"] == scene_id for item in items):
            return path, [{"collection": path.stem, **item} for item in items]
    raise UsageError(
        "no-such-scene", f"{folder} has no scene {scene_id}", subject=scene_id, next_step="name one it has"
    )


def _read(path: Path) -> list[Item]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _write(path: Path, items: list[Item]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text("".join(f"{json.dumps(item)}\n" for item in items), encoding="utf-8")
    partial.replace(path)


def _file(folder: Path, href: str) -> Path:
    return folder / "assets" / href.partition("/assets/")[2]
