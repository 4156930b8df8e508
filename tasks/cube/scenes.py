"""Cubes scenes: reads the samples of many scenes in parallel and writes them in one commit."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from catalog.errors import SceneError
from catalog.products import Product
from catalog.recipes import ProductRequest, Recipe
from catalog.samples import Location
from catalog.scenes import Scene
from tasks.cube.choose_scenes import choose_scenes
from tasks.cube.footprints import PlaceIndex
from tasks.cube.held_scenes import HeldScenes, held_scenes, replaced
from tasks.cube.read_ahead import ReadAhead, Reading, ThreadReading
from tasks.cube.read_scene import SceneRead
from tasks.readers.contract import Reader

if TYPE_CHECKING:
    from catalog.archives import Archive
    from catalog.cubes import Cube
    from catalog.cubes.writer import CubeWriter

SCENES_IN_FLIGHT = 2
"""Read at a time; each has its own requests in flight, and holds a scene's samples."""

Progress = Callable[[str, int, int], None]


@dataclass
class CubeResult:
    """What came of a product's scenes."""

    product: str
    snapshot: str = ""
    """The cube's snapshot afterwards; the one before where nothing was to be added, empty while a caller's
    writer is still open."""
    cubed: dict[str, int] = field(default_factory=dict)
    """Scene id → its samples in the cube, of scenes with at least one."""
    passed_over: dict[str, str] = field(default_factory=dict)
    """Scene id → why it gave no sample under the present plan (``plan_identity``): no place lies in its
    footprint, none needs it, or none of its samples is within the limits. It was read only in the last case;
    until the plan changes it need not be offered again."""
    failures: dict[str, SceneError] = field(default_factory=dict)
    """Scene id → why nothing of it was taken; a ``ReadFailure`` names file, status and attempts."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Reason → samples left out for it: ``nodata``, ``cloud``, ``outside``, ``position``."""
    samples_written: int = 0
    assets_read: int = 0
    """Files opened."""
    resampled: int = 0
    """Samples written that could not be copied pixel by pixel."""
    superseded: dict[str, str] = field(default_factory=dict)
    """Older scene in the cube → the scene that replaces it."""


def cube_scenes(
    recipe: Recipe,
    product: Product,
    scenes: Sequence[Scene],
    locations: Sequence[Location],
    cube: Cube,
    reader: Reader,
    archive: Archive,
    progress: Progress | None = None,
    *,
    writer: CubeWriter | None = None,
    reading: Reading | None = None,
) -> CubeResult:
    """Read ``scenes`` at ``locations`` and add them to ``cube`` in one commit, or a few where they are many.

    Which scenes serve which places is chosen as ``recipe.products[…].dates`` says (see ``choose_scenes``);
    each scene is opened at most once, and only where a place needs it. A scene that fails is left out whole,
    and the others go on. Of a scene that the cube holds already, only
    locations are read that the cube did not know when the scene was written, so that a run killed after its
    commit costs nothing when repeated. Scenes that one of ``scenes`` replaces (same ``Scene.key``, higher
    ``Scene.version``) are marked as superseded.

    Parameters
    ----------
    writer:  an open ``cube.write(...)``, for several products in one commit; the caller then takes the
        snapshot from its ``result``
    reading: where scenes are read; by default in threads of this process (see ``tasks.cube.on_dask``)
    """
    result = CubeResult(product.id)
    with ExitStack() as stack:
        if reading is None:
            reading = stack.enter_context(closing(ThreadReading(SCENES_IN_FLIGHT)))
        if writer is not None:
            _fill(
                result, recipe, product, scenes, locations, cube, reader, archive, progress, writer, reading
            )
            return result
        with cube.write(f"{recipe.name}: {product.id}, {len(scenes)} scenes") as own:
            _fill(result, recipe, product, scenes, locations, cube, reader, archive, progress, own, reading)
        result.snapshot = own.result.snapshot
    return result


def plan_identity(request: ProductRequest, product: Product, locations: Sequence[Location]) -> str:
    """A digest of what decides which samples a scene gives: limits, dates, the product and the places.

    While it stays, a scene that was passed over would be passed over again.
    """
    plan = {
        "request": request.model_dump(mode="json", exclude={"gate", "max_scenes"}),
        "product": product.model_dump(mode="json"),
        "locations": sorted(location.id for location in locations),
    }
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()


def _fill(
    result: CubeResult,
    recipe: Recipe,
    product: Product,
    scenes: Sequence[Scene],
    locations: Sequence[Location],
    cube: Cube,
    reader: Reader,
    archive: Archive,
    progress: Progress | None,
    writer: CubeWriter,
    reading: Reading,
) -> None:
    request = recipe.products[product.id]
    held = held_scenes(cube, product.id, scenes)
    writer.add_locations(locations)
    places = PlaceIndex(locations)
    choice = choose_scenes(request.dates, places, held.served(places, request), held.judged)
    versions = _Versions(held.scenes.values())
    what = f"cube {product.id}"
    with ReadAhead(scenes, product, request, places, choice, reader, archive, held, reading) as reads:
        for done, (scene, read) in enumerate(reads, start=1):
            if isinstance(read, SceneError):
                result.failures[scene.id] = read
            elif isinstance(read, str):
                _count_unread(result, scene, read, held)
            else:
                with closing(read.spool):
                    writer.append(product, read.spool, [scene])
                    _count(result, read, held)
            if scene.id in result.cubed:
                for old, new in versions.cubed(scene).items():
                    writer.supersede(old, new, product.id)
                    result.superseded[old] = new
            writer.commit_if_full()
            if progress:
                progress(what, done, len(scenes))


class _Versions:
    """Which scene replaces which, told as scenes are cubed: a commit never holds one without its mark."""

    def __init__(self, held: Iterable[Scene]) -> None:
        self._all: dict[str, dict[str, Scene]] = {}
        self._new: dict[str, list[Scene]] = {}
        for scene in held:
            self._all.setdefault(scene.key, {})[scene.id] = scene

    def cubed(self, scene: Scene) -> dict[str, str]:
        """Older scene → newer one, of the observation that this scene shows."""
        versions, new = self._all.setdefault(scene.key, {}), self._new.setdefault(scene.key, [])
        versions[scene.id] = scene
        new.append(scene)
        return replaced(list(versions.values()), new)


def _count(result: CubeResult, read: SceneRead, held: HeldScenes) -> None:
    samples = len(read.spool) + held.samples.get(read.scene.id, 0)
    if samples:
        result.cubed[read.scene.id] = samples
    else:
        result.passed_over[read.scene.id] = why_empty(read)
    result.samples_written += len(read.spool)
    result.assets_read += read.assets_read
    result.dropped += read.dropped
    result.resampled += read.resampled


def _count_unread(result: CubeResult, scene: Scene, why: str, held: HeldScenes) -> None:
    samples = held.samples.get(scene.id, 0)
    if samples:
        result.cubed[scene.id] = samples
    else:
        result.passed_over[scene.id] = why


def why_empty(read: SceneRead) -> str:
    """Why a scene that could be read gave no sample."""
    words = {
        "nodata": "with too little data",
        "cloud": "with too much cloud",
        "outside": "outside the raster",
        "position": "placed too roughly",
    }
    parts = [f"{count} {words[reason]}" for reason, count in sorted(read.dropped.items())]
    return f"none of {read.wanted} samples passes: {', '.join(parts)}"
