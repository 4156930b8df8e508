"""Cubes scenes: reads the samples of many scenes in parallel and writes them in one commit."""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from catalog.errors import SceneError
from catalog.products import Product
from catalog.radiometry import Calibration, calibrate
from catalog.recipes import ProductRequest, Recipe
from catalog.samples import Location, Sample
from catalog.scenes import Scene
from tasks.readers import Reader, WindowPixels, WindowRequest
from tasks.readers.flags import cloud_fraction, nodata_fraction
from tasks.readers.plan import band_files, plan_windows, quality_files
from tasks.spool import SceneSpool

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
    empty: dict[str, str] = field(default_factory=dict)
    """Scene id → why it gave no sample. The cube knows nothing of it: quarantine it with this reason, or
    every refresh reads it again."""
    failures: dict[str, SceneError] = field(default_factory=dict)
    """Scene id → why nothing of it was taken; a ``ReadFailure`` names file, status and attempts."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Reason → samples left out for it: ``nodata``, ``cloud``, ``outside``."""
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
    """Places that the scene's footprint touches."""
    assets_read: int
    dropped: Counter[str]
    resampled: int


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

    A scene that fails is left out whole, and the others go on. Of a scene that the cube holds already, only
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
    known: frozenset[str] = frozenset(),
) -> SceneRead:
    """All samples of one scene that pass the recipe's limits; the caller closes the spool.

    Parameters
    ----------
    known: locations that need not be read for this scene

    Raises
    ------
    SceneError: anything of it cannot be read, or it cannot be calibrated; nothing of it is kept then.
    """
    calibration = calibrate(product, scene)
    new = [window for window in windows if window.location not in known]
    dropped: Counter[str] = Counter()
    resampled = found = 0
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
            resampled += sample.resampled
    except BaseException:
        spool.close()
        raise
    dropped["outside"] += len(new) - found
    files = len(band_files(scene, product)) + len(quality_files(scene, product)) if new else 0
    return SceneRead(scene, spool, len(windows), files, +dropped, resampled)


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
        cloud_fraction=cloud_fraction(product, pixels.quality),
        resampled=pixels.resampled,
    )


def too_little(sample: Sample, request: ProductRequest) -> str | None:
    """Which limit of the recipe a sample is beyond, or None. An unknown cloud fraction (NaN) passes."""
    if sample.nodata_fraction > request.sample_max_nodata_fraction:
        return "nodata"
    if sample.cloud_fraction > request.sample_max_cloud_fraction:
        return "cloud"
    return None


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
    held = _held(cube, product, scenes)
    writer.add_locations(locations)
    what = f"cube {product.id}"
    with ExitStack() as stack:
        reads = stack.enter_context(
            _ReadAhead(scenes, product, request, locations, reader, archive, held, in_flight)
        )
        for done, (scene, read) in enumerate(reads, start=1):
            if isinstance(read, SceneError):
                result.failures[scene.id] = read
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
class _Held:
    """What the cube holds of a product before this refresh."""

    scenes: Mapping[str, Scene]
    samples: Mapping[str, int]
    """Scene id → its samples."""
    judged: Mapping[str, frozenset[str]]
    """Scene id → locations that were looked at when it was written, whether a sample came of them or not."""


def _held(cube: Cube, product: Product, scenes: Sequence[Scene]) -> _Held:
    if product.id not in cube.products():
        return _Held({}, {}, {})
    columns = cube.columns(product.id)
    held = cube.scenes(product.id)
    wanted = {scene.id for scene in scenes} & held.keys()
    judged: dict[str, frozenset[str]] = {}
    for version in reversed(cube.history()) if wanted else ():
        if product.id in version.appended:
            new = (wanted - judged.keys()) & cube.scenes(product.id, version.id).keys()
            if new:
                known = frozenset(location.id for location in cube.locations(version.id))
                judged |= dict.fromkeys(new, known)
    # A cube whose history was folded together tells no more than where the product has samples.
    judged |= dict.fromkeys(wanted - judged.keys(), frozenset(columns["location"]))
    return _Held(held, Counter(columns["scene"]), judged)


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


class _ReadAhead:
    """Scenes with what came of them, in their order, a few of them being read at a time."""

    def __init__(
        self,
        scenes: Sequence[Scene],
        product: Product,
        request: ProductRequest,
        locations: Sequence[Location],
        reader: Reader,
        archive: Archive,
        held: _Held,
        in_flight: int,
    ) -> None:
        self._scenes = iter(scenes)
        self._pool = ThreadPoolExecutor(in_flight, thread_name_prefix="swath-cube")
        self._in_flight = in_flight
        self._queue: deque[tuple[Scene, Future[SceneRead]]] = deque()

        def read(scene: Scene) -> SceneRead:
            windows = plan_windows(product, scene, locations)
            known = held.judged.get(scene.id, frozenset())
            return read_scene(scene, product, request, windows, reader, archive, known)

        self._read = read

    def __enter__(self) -> Iterator[tuple[Scene, SceneRead | SceneError]]:
        return self._results()

    def __exit__(self, *error: object) -> None:
        for _, job in self._queue:
            job.cancel()
        self._pool.shutdown(wait=True)
        for _, job in self._queue:
            if job.done() and not job.cancelled() and job.exception() is None:
                job.result().spool.close()

    def _results(self) -> Iterator[tuple[Scene, SceneRead | SceneError]]:
        self._start(self._in_flight)
        while self._queue:
            scene, job = self._queue.popleft()
            try:
                read: SceneRead | SceneError = job.result()
            except SceneError as error:
                read = error
            self._start(1)
            yield scene, read

    def _start(self, count: int) -> None:
        for scene in itertools.islice(self._scenes, count):
            self._queue.append((scene, self._pool.submit(self._read, scene)))


def _count(result: CubeResult, read: SceneRead, held: _Held) -> None:
    samples = len(read.spool) + held.samples.get(read.scene.id, 0)
    if samples:
        result.cubed[read.scene.id] = samples
    else:
        result.empty[read.scene.id] = why_empty(read)
    result.samples_written += len(read.spool)
    result.assets_read += read.assets_read
    result.dropped += read.dropped
    result.resampled += read.resampled


def why_empty(read: SceneRead) -> str:
    """Why a scene that could be read gave no sample."""
    if not read.wanted:
        return "no location lies in its footprint"
    words = {
        "nodata": "with too little data",
        "cloud": "with too much cloud",
        "outside": "outside the raster",
    }
    parts = [f"{count} {words[reason]}" for reason, count in sorted(read.dropped.items())]
    return f"none of {read.wanted} samples passes: {', '.join(parts)}"
