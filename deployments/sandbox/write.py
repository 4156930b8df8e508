"""Writes the sandbox archive, whole or not at all: Cloud-Optimized GeoTIFFs, items, collections, labels."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from filelock import FileLock

from catalog.errors import UsageError
from catalog.grids import Grid
from deployments.sandbox.items import LICENCE, Stored
from deployments.sandbox.seasons import CLASSES
from deployments.sandbox.sensors import Document, Raster

STAMP = "sandbox.json"
"""Written last: a folder without it is not a sandbox."""
LABEL_SET = "labels/sandbox-land-cover.yaml"


def write_cog(path: Path, raster: Raster) -> None:
    """One Cloud-Optimized GeoTIFF: DEFLATE with predictor, internal tiles, overviews."""
    import rasterio
    from rasterio.control import GroundControlPoint
    from rasterio.transform import Affine

    count, height, width = raster.pixels.shape
    path.parent.mkdir(parents=True, exist_ok=True)
    # Small rasters get small tiles, so that reading a window never means reading the file.
    large = max(height, width) >= 512
    # 224 bands at 257 pixels need none: it would make the largest file a quarter larger for nobody.
    overviews = {"overview_count": 1} if count == 1 else {"overviews": "NONE"}
    placing: dict[str, Any] = {
        "crs": f"EPSG:{raster.grid.epsg}",
        "transform": Affine(*raster.grid.affine),
    }
    if raster.points:
        points = [
            GroundControlPoint(row=line, col=pixel, x=longitude, y=latitude, z=height)
            for line, pixel, longitude, latitude, height in raster.points
        ]
        placing = {"gcps": points, "crs": "EPSG:4326"}
    with rasterio.open(
        path,
        "w",
        driver="COG",
        width=width,
        height=height,
        count=count,
        dtype=raster.pixels.dtype,
        nodata=raster.nodata,
        **placing,
        compress="DEFLATE",
        level=1 if count > 1 else 6,
        predictor="YES",
        blocksize=256 if large else 128,
        interleave="PIXEL",
        overview_resampling="NEAREST" if raster.quality else "AVERAGE",
        num_threads=1,
        **overviews,
    ) as file:
        file.write(raster.pixels)
        if raster.tags:
            file.update_tags(**raster.tags)


def store(root: Path, href: str, raster: Raster) -> Stored:
    """Write one asset below ``root`` and say what was written."""
    path = root / href.lstrip("/")
    write_cog(path, raster)
    content = path.read_bytes()
    return Stored(href, len(content), hashlib.sha256(content).hexdigest())


def store_document(root: Path, href: str, document: Document) -> Stored:
    """Write one text file below ``root`` and say what was written."""
    path = root / href.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    content = document.text.encode()
    path.write_bytes(content)
    return Stored(href, len(content), hashlib.sha256(content).hexdigest())


def write_ndjson(path: Path, documents: Iterable[dict[str, Any]]) -> None:
    """One JSON document per line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(document, ensure_ascii=False, separators=(",", ":")) for document in documents)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_json(path: Path, document: dict[str, Any]) -> None:
    """One indented JSON document."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def write_labels(root: Path, labels: Iterable[tuple[Grid, np.ndarray[Any, Any]]], seed: int) -> None:
    """The class rasters, one per zone, and the label set that names them."""
    names = []
    for grid, classes in labels:
        name = f"sandbox-land-cover-{grid.epsg}.tif"
        write_cog(root / "labels" / name, Raster(classes[None], grid, 0, quality=True))
        names.append(name)
    document = {
        "name": "sandbox-land-cover",
        "kind": "raster",
        "paths": names,
        "classes": dict(CLASSES),
        "ignore": [0],
        "licence": LICENCE,
        "attribution": "Swath sandbox",
        "lineage": f"the 10 m class map that the sandbox scenes of seed {seed} were simulated from",
        "caveat": "simulated: no place on Earth looks like this, and scores on it are no measure of quality",
    }
    path = root / LABEL_SET
    path.write_text(
        yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=1000), encoding="utf-8"
    )


class WholeFolder:
    """A folder that appears whole or not at all, made by one process at a time.

    Work goes to a hidden neighbour; what a killed process left of it is removed when the next one starts.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().resolve()
        self._prefix = f".{self.folder.name}.partial-"

    def stamp(self) -> dict[str, Any] | None:
        """What the finished folder says of itself, or None."""
        path = self.folder / STAMP
        if not path.is_file():
            return None
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            return None
        return document if isinstance(document, dict) else None

    def lock(self) -> FileLock:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder.parent / f".{self.folder.name}.lock")

    def begin(self) -> Path:
        """An empty folder to work in; call it with the lock held."""
        if self.folder.exists() and self.stamp() is None and any(self.folder.iterdir()):
            raise UsageError(
                "folder-not-a-sandbox",
                "the folder holds something else, which is left alone",
                subject=str(self.folder),
                next_step="name an empty or a new folder for the sandbox",
            )
        for stale in self.folder.parent.glob(f"{self._prefix}*"):
            shutil.rmtree(stale, ignore_errors=True)
        partial = self.folder.parent / f"{self._prefix}{os.getpid()}"
        partial.mkdir()
        return partial

    def finish(self, partial: Path, stamp: dict[str, Any]) -> None:
        """Stamp the folder and put it in its place."""
        with (partial / STAMP).open("w", encoding="utf-8") as file:
            file.write(json.dumps(stamp, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        if self.folder.exists():
            former = self.folder.parent / f"{self._prefix}former-{os.getpid()}"
            self.folder.rename(former)
            partial.rename(self.folder)
            shutil.rmtree(former, ignore_errors=True)
        else:
            partial.rename(self.folder)

    @staticmethod
    def abandon(partial: Path) -> None:
        shutil.rmtree(partial, ignore_errors=True)
