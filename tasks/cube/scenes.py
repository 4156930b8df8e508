"""Cubes scenes: reads the samples of many scenes in parallel and writes them in one commit."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from catalog.errors import SceneError
from catalog.locations import sample_grid
from catalog.products import Product
from catalog.radiometry import Calibration, calibrate
from catalog.recipes import ProductRequest, Recipe
from catalog.samples import Location, Sample
from catalog.scenes import Scene
from tasks.cube.choose_scenes import Choice, choose_scenes
from tasks.cube.footprints import PlaceIndex, Rows
from tasks.cube.held_scenes import HeldScenes, held_scenes, replaced
from tasks.cube.spool import SceneSpool
from tasks.readers.contract import Reader, WindowPixels, WindowRequest
from tasks.readers.flags import cloud_fraction, nodata_fraction
from tasks.readers.plan import band_files, quality_files, quality_gsd_m

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


@dataclass(frozen=True)
class SceneRead:
    """One scene, read whole."""

    scene: Scene
    spool: SceneSpool
    wanted: int
    """Places that need the scene."""
    assets_read: int
    dropped: Counter[str]
    resampled: int
    taken: tuple[str, ...] = ()
    """Locations that have a sample of it now."""


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
    in_flight: int = SCENES_IN_FLIGHT,
) -> CubeResult:
    """Read ``scenes`` at ``locations`` and add them to ``cube`` in one commit.

    Which scenes serve which places is chosen as ``recipe.products[…].dates`` says (see ``choose_scenes``);
    each scene is opened at most once, and only where a place needs it. A scene that fails is left out whole,
    and the others go on. Of a scene that the cube holds already, only
    locations are read that the cube did not know when the scene was written, so that a run killed after its
    commit costs nothing when repeated. Scenes that one of ``scenes`` replaces (same ``Scene.key``, higher
    ``Scene.version``) are marked as superseded.

    Parameters
    ----------
    writer: an open ``cube.write(...)``, for several products in one commit; the caller then takes the
        snapshot from its ``result``
    """
    result = CubeResult(product.id)
    if writer is not None:
        _fill(result, recipe, product, scenes, locations, cube, reader, archive, progress, writer, in_flight)
        return result
    with cube.write(f"{recipe.name}: {product.id}, {len(scenes)} scenes") as own:
        _fill(result, recipe, product, scenes, locations, cube, reader, archive, progress, own, in_flight)
    result.snapshot = own.result.snapshot
    return result


def read_scene(
    scene: Scene,
    product: Product,
    request: ProductRequest,
    windows: Sequence[WindowRequest],
    reader: Reader,
    archive: Archive,
) -> SceneRead:
    """All samples of one scene that pass the recipe's limits; the caller closes the spool.

    Raises
    ------
    SceneError: anything of it cannot be read, or it cannot be calibrated; nothing of it is kept then.
    """
    calibration = calibrate(product, scene)
    new = [replace(window, terrain=_terrain(request)) for window in windows]
    dropped: Counter[str] = Counter()
    resampled = found = 0
    taken: list[str] = []
    spool = SceneSpool()
    try:
        for pixels in reader.read(scene, product, new, archive) if new else ():
            found += 1
            sample = make_sample(scene, product, pixels, calibration)
            reason = too_little(sample, request)
            if reason:
                dropped[reason] += 1
                continue
            spool.add(sample)
            taken.append(sample.location)
            resampled += sample.resampled
    except BaseException:
        spool.close()
        raise
    dropped["outside"] += len(new) - found
    files = len(band_files(scene, product)) + len(quality_files(scene, product)) if new else 0
    return SceneRead(scene, spool, len(windows), files, +dropped, resampled, tuple(taken))


def make_sample(scene: Scene, product: Product, pixels: WindowPixels, calibration: Calibration) -> Sample:
    """A sample from what a reader found at one place."""
    finest = pixels.grids[product.resolutions_m[0]]
    thermal = product.radiometry.rule == "landsat-toa"
    return Sample(
        product=product.id,
        scene=scene.id,
        location=pixels.location,
        sensed=scene.sensed,
        epsg=finest.epsg,
        pixels=pixels.pixels,
        affines={gsd: pixels.grids[gsd].affine for gsd in product.resolutions_m},
        quality=pixels.quality,
        scale=calibration.scale,
        offset=calibration.offset,
        k1=calibration.k1 if thermal else None,
        k2=calibration.k2 if thermal else None,
        nodata_fraction=nodata_fraction(pixels.quality),
        cloud_fraction=cloud_fraction(product, pixels.quality, scene),
        resampled=pixels.resampled,
        position_error_m=pixels.position_error_m,
    )


def too_little(sample: Sample, request: ProductRequest) -> str | None:
    """Which limit of the recipe a sample is beyond, or None. An unknown cloud fraction (NaN) passes."""
    if sample.nodata_fraction > request.sample_max_nodata_fraction:
        return "nodata"
    if sample.cloud_fraction > request.sample_max_cloud_fraction:
        return "cloud"
    if request.max_position_error_m is not None and sample.position_error_m > request.max_position_error_m:
        return "position"
    return None


def windows_at(product: Product, locations: Sequence[Location]) -> list[WindowRequest]:
    """The windows of a product at some places."""
    sizes = sorted({*product.resolutions_m, quality_gsd_m(product)})
    return [
        WindowRequest(location.id, {gsd: sample_grid(product, location, gsd) for gsd in sizes})
        for location in locations
    ]


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


def _terrain(request: ProductRequest) -> str | None:
    return None if request.dem is None else str(request.dem)


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
    in_flight: int,
) -> None:
    request = recipe.products[product.id]
    held = held_scenes(cube, product.id, scenes)
    writer.add_locations(locations)
    places = PlaceIndex(locations)
    choice = choose_scenes(request.dates, places, held.served(places, request), held.judged)
    what = f"cube {product.id}"
    with ExitStack() as stack:
        reads = stack.enter_context(
            _ReadAhead(scenes, product, request, places, choice, reader, archive, held, in_flight)
        )
        for done, (scene, read) in enumerate(reads, start=1):
            if isinstance(read, SceneError):
                result.failures[scene.id] = read
            elif isinstance(read, str):
                _count_unread(result, scene, read, held)
            else:
                with read.spool:
                    writer.append(product, read.spool, [scene])
                    _count(result, read, held)
            if progress:
                progress(what, done, len(scenes))
    cubed = [scene for scene in scenes if scene.id in result.cubed]
    for old, new in replaced([*held.scenes.values(), *cubed], cubed).items():
        writer.supersede(old, new, product.id)
        result.superseded[old] = new


@dataclass(frozen=True)
class _Job:
    """One scene on its way."""

    scene: Scene
    touched: Rows
    result: Future[SceneRead] | str
    """Its read, or why it is not read."""


class _ReadAhead:
    """Scenes with what came of them, in the choice's order, a few of them being read at a time.

    Where what a scene gives decides what others are needed for, those wait that show the same places.
    """

    def __init__(
        self,
        scenes: Sequence[Scene],
        product: Product,
        request: ProductRequest,
        places: PlaceIndex,
        choice: Choice,
        reader: Reader,
        archive: Archive,
        held: HeldScenes,
        in_flight: int,
    ) -> None:
        self._scenes = deque(choice.order(scenes))
        self._pool = ThreadPoolExecutor(in_flight, thread_name_prefix="swath-cube")
        self._in_flight = in_flight
        self._queue: deque[_Job] = deque()
        self._places = places
        self._choice = choice
        self._held = held

        def read(scene: Scene, rows: Rows) -> SceneRead:
            windows = windows_at(product, places.at(rows))
            return read_scene(scene, product, request, windows, reader, archive)

        self._read = read

    def __enter__(self) -> Iterator[tuple[Scene, SceneRead | SceneError | str]]:
        return self._results()

    def __exit__(self, *error: object) -> None:
        jobs = [job.result for job in self._queue if isinstance(job.result, Future)]
        for job in jobs:
            job.cancel()
        self._pool.shutdown(wait=True)
        for job in jobs:
            if job.done() and not job.cancelled() and job.exception() is None:
                job.result().spool.close()

    def _results(self) -> Iterator[tuple[Scene, SceneRead | SceneError | str]]:
        self._start()
        while self._queue:
            job = self._queue.popleft()
            yield job.scene, self._outcome(job)
            self._start()

    def _outcome(self, job: _Job) -> SceneRead | SceneError | str:
        if isinstance(job.result, str):
            return job.result
        try:
            read = job.result.result()
        except SceneError as error:
            return error
        taken = sorted(self._places.row_of[name] for name in read.taken)
        self._choice.took(job.scene, np.asarray(taken, np.int64))
        self._start()
        return read

    def _start(self) -> None:
        while self._scenes and len(self._queue) < self._in_flight:
            scene = self._scenes[0]
            touched = self._places.touched(scene)
            if not self._choice.independent and any(
                len(np.intersect1d(touched, job.touched, assume_unique=True)) for job in self._queue
            ):
                return
            self._scenes.popleft()
            needed = self._choice.needed(scene, touched)
            known = self._held.judged.get(scene.id, frozenset())
            if known:
                new = [row for row in needed.tolist() if self._places.locations[row].id not in known]
                needed = np.asarray(new, np.int64)
            if len(needed):
                self._queue.append(_Job(scene, touched, self._pool.submit(self._read, scene, needed)))
            else:
                self._queue.append(_Job(scene, touched[:0], self._choice.why_not(scene, touched)))


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
