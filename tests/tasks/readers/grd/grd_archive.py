"""The sandbox's radar scenes behind a STAC API, what they show, and ways to damage a copy of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from catalog.archives import Archive, load_archive
from catalog.cubes import Cube, open_cube
from catalog.locations import sample_locations
from catalog.products import load_product
from catalog.recipes import Area, Period, Recipe, parse_recipe
from catalog.scenes import Scene
from deployments.sandbox import SandboxInfo, make_sandbox
from deployments.sandbox.items import scene_id
from deployments.sandbox.landscape import Ground, make_landscape
from deployments.sandbox.make import simulate_scene
from deployments.sandbox.plan import Observation, plan_scenes
from deployments.stac_server import serve_archive
from tasks.cube.scenes import CubeResult, cube_scenes
from tasks.readers.direct import DirectReader
from tasks.search.scenes import search_scenes

GRD, RTC = "sentinel-1-grd", "sentinel-1-rtc"
SEED, SIZE_M = 7, 1920
QUICK = DirectReader(pause_s=0.01, gdal_options={"GDAL_HTTP_MAX_RETRY": 1, "GDAL_HTTP_RETRY_DELAY": 0.02})


@dataclass(frozen=True)
class Radar:
    """What a test needs of it."""

    info: SandboxInfo
    folder: Path
    archive: Archive

    def few(self, product: str = GRD) -> list[Scene]:
        """One scene of either zone: an ascending one with the older noise layout, and a descending one."""
        tail = "_rtc" if product == RTC else ""
        old = self.info.superseded[GRD][0] + tail
        scenes = self.scenes(product)
        other = next(s for s in scenes if s.orbit_state == "descending" or s.tile != _of(scenes, old).tile)
        return [_of(scenes, old), other]

    @property
    def dem(self) -> Path:
        return self.folder / "assets" / "dem" / "landscape.tif"

    def recipe(self, max_count: int | None = None, **request: Any) -> Recipe:
        return parse_recipe(
            {
                "name": "radar",
                "archive": "sandbox",
                "area": {"bbox": self.info.bbox},
                "period": {"start": self.info.start, "end": self.info.end},
                "products": {GRD: request, RTC: {}},
                "locations": {"size_m": 480, "split": {"block_m": 960}, "max_count": max_count},
            }
        )

    def scenes(self, product: str = GRD) -> list[Scene]:
        """All but the one that the gate refuses."""
        period = Period(start=self.info.start, end=self.info.end)
        found = search_scenes(self.archive, load_product(product), Area(bbox=self.info.bbox), period)
        return [scene for scene in found.scenes if scene.id != self.info.refused[product]]

    def cubed(
        self, name: str, scenes: list[Scene] | None = None, product: str = GRD, **request: Any
    ) -> tuple[Cube, CubeResult]:
        recipe, kind = self.recipe(**request), load_product(product)
        scenes = self.scenes(product) if scenes is None else scenes
        locations = sample_locations(recipe.locations, recipe.area, [kind], scenes)
        cube = open_cube(name, create=True, products=[kind])
        return cube, cube_scenes(recipe, kind, scenes, locations, cube, QUICK, self.archive)

    def asset(self, scene: Scene, name: str) -> Path:
        """A file of a scene on disk."""
        return self.folder / "assets" / GRD / scene.id / name


def _of(scenes: list[Scene], name: str) -> Scene:
    return next(scene for scene in scenes if scene.id == name)


def observations() -> dict[str, Observation]:
    """Scene id → what was simulated."""
    return {scene_id(one): one for one in plan_scenes(1, (GRD, RTC))}


def grounds() -> tuple[Ground, Ground]:
    return make_landscape(SEED, SIZE_M)


def truth_of(ground: Ground, seen: Observation) -> dict[str, Any]:
    """Sigma nought on the square's grid, by asset."""
    truth: dict[str, Any] = {}
    simulate_scene(ground, seen, SEED, truth)
    return truth


def mosaic(cube: Cube, product: str, scene: str, ground: Ground, band: int = 0) -> Any:
    """A scene's samples put together on its square's grid, NaN where there is none."""
    west, _, _, north = ground.grid.bounds
    whole = np.full(ground.grid.shape, np.nan)
    columns = cube.columns(product)
    for row in columns[(columns["scene"] == scene) & (columns["epsg"] == ground.grid.epsg)]["row"]:
        values = cube.read(product, 10.0, [row])[0][band].astype(np.float64)
        values[values == -32768] = np.nan
        affine = cube.affine(product, 10.0, [row])[0]
        top, left = round((north - affine[5]) / 10), round((affine[2] - west) / 10)
        rows = slice(max(top, 0), min(top + values.shape[0], whole.shape[0]))
        cols = slice(max(left, 0), min(left + values.shape[1], whole.shape[1]))
        if rows.start < rows.stop and cols.start < cols.stop:
            inner = slice(rows.start - top, rows.stop - top), slice(cols.start - left, cols.stop - left)
            whole[rows, cols] = values[inner]
    return whole


@contextmanager
def small_radar_archive(folder: Path) -> Iterator[Radar]:
    """Make and serve it."""
    info = make_sandbox(folder, seed=SEED, size_m=SIZE_M, dates=1, products=(GRD, RTC))
    with serve_archive(folder) as server:
        yield Radar(info, folder, load_archive("sandbox", url=server.url))


@contextmanager
def changed(
    radar: Radar, folder: Path, change: Callable[[dict[str, Any]], None] | None = None
) -> Iterator[Radar]:
    """A copy that may be damaged; ``change`` edits each GRD item."""
    shutil.copytree(radar.folder, folder)
    items = folder / "items" / f"{GRD}.ndjson"
    documents = [json.loads(line) for line in items.read_text(encoding="utf-8").splitlines()]
    for document in documents:
        if change is not None:
            change(document)
    items.write_text("".join(f"{json.dumps(document)}\n" for document in documents), encoding="utf-8")
    with serve_archive(folder) as server:
        yield Radar(radar.info, folder, load_archive("sandbox", url=server.url))
