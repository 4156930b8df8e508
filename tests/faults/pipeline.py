"""From a search to a cube in one call, on a sandbox that is small enough to do so for every fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.archives import Archive
from catalog.cubes import Cube, open_cube
from catalog.errors import SceneError
from catalog.locations import sample_locations
from catalog.products import Product
from catalog.recipes import Area, GateLimits, Period, Recipe, parse_recipe
from catalog.scenes import Scene
from deployments.sandbox import SandboxInfo
from tasks.cube.scenes import CubeResult, cube_scenes
from tasks.gate.judge import gate_scenes
from tasks.gate.statistics import measure_scenes
from tasks.readers.direct import DirectReader
from tasks.search.scenes import search_scenes
from tasks.search.side_files import complete_scenes
from tests.tasks.scene_files import built_in

LENIENT = GateLimits(max_cloud_fraction=1, max_nodata_fraction=1, max_saturated_fraction=1)
PAUSE_S = 0.01
TAKEN = 2
"""Scenes, of those that the search finds: the faults do not become others with more."""
PLACES = 4


@dataclass
class Outcome:
    """What a run came to."""

    scenes: tuple[Scene, ...] = ()
    failures: dict[str, SceneError] = field(default_factory=dict)
    quarantined: dict[str, tuple[str, ...]] = field(default_factory=dict)
    cube: Cube | None = None
    result: CubeResult | None = None

    def samples(self, product: Product) -> dict[tuple[str, str], list[NDArray[Any]]]:
        """(scene, location) → raw pixels of each resolution, and the quality flags."""
        assert self.cube is not None
        columns = self.cube.columns(product.id)
        rows = columns["row"].to_numpy()
        if not len(rows):
            return {}
        parts = [self.cube.read(product.id, gsd, rows) for gsd in product.resolutions_m]
        parts.append(self.cube.read_quality(product.id, rows))
        keys = zip(columns["scene"], columns["location"], strict=True)
        return {key: [part[place] for part in parts] for place, key in enumerate(keys)}


def tiny_recipe(info: SandboxInfo, product: str) -> Recipe:
    return parse_recipe(
        {
            "name": "tiny",
            "archive": "sandbox",
            "area": {"bbox": info.bbox},
            "period": {"start": info.start, "end": info.end},
            "products": {product: {"sample_max_nodata_fraction": 1, "sample_max_cloud_fraction": 1}},
            "locations": {"size_m": 480, "split": {"block_m": 960}},
        }
    )


@cache
def _product(name: str) -> Product:
    return built_in(name)


def run(
    info: SandboxInfo,
    archive: Archive,
    name: str,
    cube: str,
    *,
    before_cubing: Callable[[], None] | None = None,
    checksums: Callable[[Scene], Scene] | None = None,
) -> Outcome:
    """Search, complete, measure, gate and cube one product; ``SWATH_HOME`` says where the cube lies."""
    product, recipe = _product(name), tiny_recipe(info, name)
    area, period = Area(bbox=info.bbox), Period(start=info.start, end=info.end)
    found = search_scenes(archive, product, area, period, pause_s=PAUSE_S)
    outcome = Outcome(found.scenes)
    scenes, failed = complete_scenes(found.scenes[:TAKEN], product, archive, pause_s=PAUSE_S)
    outcome.failures |= failed
    scenes = [scene for scene in scenes if scene.id not in failed]
    measured = measure_scenes(scenes, product, archive, attempts=5, pause_s=PAUSE_S)
    outcome.failures |= measured.failures
    gate = gate_scenes(product, scenes, measured.rows, LENIENT, failures=outcome.failures)
    outcome.quarantined = dict(gate.quarantined)
    accepted = [scene for scene in scenes if scene.id in gate.accepted]
    if checksums is not None:
        accepted = [checksums(scene) for scene in accepted]
    if before_cubing is not None:
        before_cubing()
    locations = sample_locations(recipe.locations, area, [product], list(found.scenes))[:PLACES]
    outcome.cube = open_cube(cube, create=True, products=[product])
    reader = DirectReader(pause_s=PAUSE_S, verify_checksums=checksums is not None)
    outcome.result = cube_scenes(recipe, product, accepted, locations, outcome.cube, reader, archive)
    outcome.failures |= outcome.result.failures
    return outcome


def same_samples(one: Outcome, other: Outcome, product: Product, *, without: str = "") -> bool:
    """Whether two cubes hold the same samples, bit for bit, a scene left out."""
    a = {key: parts for key, parts in one.samples(product).items() if key[0] != without}
    b = {key: parts for key, parts in other.samples(product).items() if key[0] != without}
    return a.keys() == b.keys() and all(
        np.array_equal(p.view(np.uint8), q.view(np.uint8))
        for key in a
        for p, q in zip(a[key], b[key], strict=True)
    )
