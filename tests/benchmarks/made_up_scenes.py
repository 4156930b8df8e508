"""Any number of small scenes that share their files, places in them, and a recipe that takes all of it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from catalog.recipes import Recipe, parse_recipe
from catalog.samples import Location
from catalog.scenes import Scene
from tests.tasks.scene_files import EPSG, NORTH, WEST, built_in, write_scene

PRODUCT = "sentinel-2-l2a"
SIDE_M = 3_840.0
WINDOW_M = 960
"""96 pixels at 10 m: 108 kB a sample."""


@dataclass(frozen=True)
class MadeUp:
    """What is cubed."""

    recipe: Recipe
    scenes: Sequence[Scene]
    locations: Sequence[Location]


@contextlib.contextmanager
def served_scene(folder: Path) -> Iterator[str]:
    """The files of one scene behind a server of its own; any scene's address leads to them."""
    made = write_scene(folder, "", built_in(PRODUCT), "scene", side_m=SIDE_M)
    (folder / "scene.json").write_text(json.dumps(made.scene.to_dict()), encoding="utf-8")
    command = [sys.executable, "-m", "tests.benchmarks.cubing_server", str(folder / "scene"), "0"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


def made_up(folder: Path, url: str, scenes: int, windows: int) -> MadeUp:
    """Scenes below ``url/NUMBER/``, six hours apart, all of the same places (at most 16)."""
    from rasterio.warp import transform

    first = Scene.from_dict(json.loads((folder / "scene.json").read_text(encoding="utf-8")))
    listed = [
        replace(
            first,
            id=f"made-up-{number:05d}",
            sensed=first.sensed + timedelta(hours=6 * number),
            assets={
                key: replace(asset, href=f"{url}/{number}/{key}.tif") for key, asset in first.assets.items()
            },
        )
        for number in range(scenes)
    ]
    step = int(SIDE_M // WINDOW_M)
    centres = [
        (WEST + (number % step + 0.5) * WINDOW_M, NORTH - (number // step + 0.5) * WINDOW_M)
        for number in range(windows)
    ]
    longitudes, latitudes = transform(f"EPSG:{EPSG}", "EPSG:4326", *zip(*centres, strict=True))
    locations = [
        Location(
            f"p{number:03d}", EPSG, x, y, WINDOW_M, longitudes[number], latitudes[number], "pretrain", "b"
        )
        for number, (x, y) in enumerate(centres)
    ]
    return MadeUp(
        parse_recipe(
            {
                "name": "made-up",
                "archive": "sandbox",
                "area": {"bbox": [*first.bbox]},
                "period": {"start": "2022-01-01", "end": "2030-01-01"},
                "products": {PRODUCT: {"sample_max_cloud_fraction": 1.0}},
                "locations": {"size_m": WINDOW_M},
            }
        ),
        listed,
        locations,
    )
