"""What a cube holds of a product: its scenes, their samples, and where each scene was looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from catalog.recipes import ProductRequest
from catalog.scenes import Scene
from tasks.cube.choose_scenes import Served
from tasks.cube.footprints import PlaceIndex

if TYPE_CHECKING:
    import pandas as pd

    from catalog.cubes import Cube


@dataclass(frozen=True)
class HeldScenes:
    """Of one product, at one snapshot."""

    scenes: Mapping[str, Scene]
    samples: Mapping[str, int]
    """Scene id → its samples."""
    judged: Mapping[str, frozenset[str]]
    """Scene id → locations that were looked at when it was written, whether a sample came of them or not."""
    columns: pd.DataFrame | None = None

    def served(self, places: PlaceIndex, request: ProductRequest) -> Iterator[Served]:
        """The samples that count for a choice of dates: not superseded, and within the recipe's limits."""
        if self.columns is None:
            return
        table = self.columns
        table = table[
            (table["superseded_by"] == "")
            & ~(table["nodata_fraction"] > request.sample_max_nodata_fraction)
            & ~(table["cloud_fraction"] > request.sample_max_cloud_fraction)
        ]
        for scene, locations in table.groupby("scene", sort=True)["location"]:
            rows = [places.row_of[name] for name in locations if name in places.row_of]
            yield Served(self.scenes[str(scene)], np.asarray(sorted(rows), np.int64))


def held_scenes(cube: Cube, product: str, scenes: Sequence[Scene]) -> HeldScenes:
    """What the cube holds of a product; ``judged`` covers those of ``scenes`` that it holds."""
    if product not in cube.products():
        return HeldScenes({}, {}, {})
    columns = cube.columns(product)
    held = cube.scenes(product)
    wanted = {scene.id for scene in scenes} & held.keys()
    judged: dict[str, frozenset[str]] = {}
    for version in reversed(cube.history()) if wanted else ():
        if product in version.appended:
            new = (wanted - judged.keys()) & cube.scenes(product, version.id).keys()
            if new:
                known = frozenset(location.id for location in cube.locations(version.id))
                judged |= dict.fromkeys(new, known)
    # A cube whose history was folded together tells no more than where the product has samples.
    judged |= dict.fromkeys(wanted - judged.keys(), frozenset(columns["location"]))
    return HeldScenes(held, Counter(columns["scene"]), judged, columns)


def replaced(old: Sequence[Scene], new: Sequence[Scene]) -> dict[str, str]:
    """Scene of ``old`` → the best of ``new`` that shows the same observation in a higher version."""
    best: dict[str, Scene] = {}
    for scene in new:
        other = best.get(scene.key)
        if other is None or scene.version > other.version:
            best[scene.key] = scene
    return {
        scene.id: best[scene.key].id
        for scene in old
        if scene.key in best and best[scene.key].version > scene.version
    }
