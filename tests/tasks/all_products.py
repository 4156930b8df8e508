"""The smallest sandbox archive of every product whose scenes lie on a grid, behind its STAC API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.archives import load_archive
from catalog.recipes import Recipe, parse_recipe
from catalog.scenes import Scene
from deployments.sandbox import make_sandbox
from deployments.sandbox.items import scene_id
from deployments.sandbox.landscape import Ground, make_landscape
from deployments.sandbox.make import simulate_scene
from deployments.sandbox.observation import Observation
from deployments.sandbox.plan import ALL_PRODUCTS, plan_scenes
from deployments.stac_server import serve_archive
from tasks.search.scenes import search_scenes
from tests.tasks.sandbox_archive import Sandbox
from tests.tasks.scene_files import built_in

GRIDDED = tuple(product for product in ALL_PRODUCTS if product != "sentinel-1-grd")
SIZE_M, DATES, SEED = 960, 2, 7


@contextmanager
def every_product(folder: Path) -> Iterator[Sandbox]:
    """Make and serve it; about six seconds."""
    info = make_sandbox(folder, seed=SEED, size_m=SIZE_M, dates=DATES, products=GRIDDED)
    with serve_archive(folder) as server:
        yield Sandbox(info, server, load_archive("sandbox", url=server.url))


def recipe_for(sandbox: Sandbox, product: str, **request: Any) -> Recipe:
    """One product at every place of the archive."""
    return parse_recipe(
        {
            "name": "small",
            "archive": "sandbox",
            "area": {"bbox": sandbox.info.bbox},
            "period": {"start": sandbox.info.start, "end": sandbox.info.end},
            "products": {product: request},
            "locations": {"size_m": 480, "split": {"block_m": 960}},
        }
    )


def scenes_of(sandbox: Sandbox, product: str) -> tuple[Scene, ...]:
    """As the archive gives them, without what lies beside the items."""
    return search_scenes(sandbox.archive, built_in(product), sandbox.area, sandbox.period).scenes


@cache
def _grounds() -> tuple[Ground, Ground]:
    return make_landscape(SEED, SIZE_M)


@cache
def _observations() -> dict[tuple[str, str], Observation]:
    return {(seen.product, scene_id(seen)): seen for seen in plan_scenes(DATES, GRIDDED)}


def observation(product: str, scene: str) -> Observation:
    """What was planned."""
    return _observations()[product, scene]


@lru_cache(maxsize=8)
def truth_of(product: str, scene: str) -> dict[str, NDArray[np.float32]]:
    """Band → what was simulated before it became numbers, on the grid of the band's file, ``(y, x)``."""
    seen = observation(product, scene)
    found: dict[str, NDArray[np.float32]] = {}
    simulate_scene(_grounds()[seen.zone], seen, SEED, found)
    if "image" in found:
        return {str(number): band for number, band in enumerate(found["image"], start=1)}
    bands = built_in(product).bands
    by_asset = {key.lower(): values for key, values in found.items()}
    return {
        band.name: by_asset[key]
        for band in bands
        for key in [next(k for k in (band.name.lower(), str(band.asset).lower()) if k in by_asset)]
    }
