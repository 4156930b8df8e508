"""The ``direct`` reader: each file of a scene is opened once, and every window read from it (rasterio, GDAL).

Measured before it was written: over HTTP with 30 ms latency, asset by asset beats window by window three to
five times, because a header is fetched once per file and several ranges of a file are in flight.
"""

from __future__ import annotations

import concurrent.futures
import functools
import itertools
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from catalog.grids import Grid
from catalog.products import Product
from catalog.scenes import Scene, SceneAsset
from tasks.readers.assembly import Part, assembled
from tasks.readers.assets import OpenAsset, live_under
from tasks.readers.blocks import (
    Layout,
    Run,
    Span,
    give_out,
    layout_of,
    plan_runs,
    read_run,
    stored_at,
    target_of,
    with_margin,
)
from tasks.readers.contract import WindowPixels, WindowRequest
from tasks.readers.deflated import DeflatedTiles, deflated_tiles
from tasks.readers.grd import is_ground_range, read_ground_range
from tasks.readers.http_ranges import ATTEMPTS, PAUSE_S
from tasks.readers.plan import (
    BandFile,
    QualityFile,
    band_files,
    batches,
    quality_files,
    quality_gsd_m,
    touches,
)
from tasks.readers.window import check_bands, fill_value, read_window

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

    from catalog.archives import Archive

_Key = tuple[str, str, float | None]
"""(location, asset, native ground sampling; None for a file of the QA layer)"""

JOB_BYTES = 16 * 2**20
"""Decoded bytes of the blocks that one thread fetches and decodes, one block at least."""
DECODING_BYTES = 512 * 2**20
"""Decoded blocks of a scene in the making: one of a 224-band file can take 100 MB."""
RUNS_OF_JOB = 4
"""Neighbourhoods of blocks that one thread fetches and decodes, at least where there are so many."""


@dataclass(frozen=True)
class _Layer:
    """Bands of one file that are wanted at one ground sampling."""

    asset: OpenAsset
    name: str
    gsd: float | None
    gsd_m: float
    """Which of a window's grids they go to."""
    numbers: list[int]
    """Of the bands in the file, from 1."""

    def key(self, window: WindowRequest) -> _Key:
        return window.location, self.name, self.gsd


@dataclass(frozen=True)
class DirectReader:
    """Reads with many ranges in flight; GDAL decodes what ``remote_file`` fetched."""

    name: str = "direct"
    threads: int = 16
    """At work on the scenes of this process; they wait for the network most of the time."""
    memory_bytes: int = 256 * 2**20
    """Raw pixels held at a time, beyond which a scene's windows are read in several batches."""
    attempts: int = ATTEMPTS
    """Tries of one request."""
    pause_s: float = PAUSE_S
    """Before the second try; doubled each time."""
    gdal_options: Mapping[str, Any] | None = None
    verify_checksums: bool = False
    """Fetch every file whole and compare it with its item's checksum, where there is one."""

    def read(
        self, scene: Scene, product: Product, windows: Sequence[WindowRequest], archive: Archive
    ) -> Iterator[WindowPixels]:
        """See ``tasks.readers.contract.Reader``; windows come in batches of neighbours."""
        bands, quality = band_files(scene, product), quality_files(scene, product)
        if not windows:
            return
        with ExitStack() as stack:
            options = tuple(sorted((self.gdal_options or {}).items()))
            pool = stack.enter_context(_SceneThreads(_threads(self.threads, options)))

            def opened(asset: SceneAsset, label: str) -> OpenAsset:
                file = OpenAsset(
                    scene.id,
                    asset,
                    label,
                    archive,
                    attempts=self.attempts,
                    pause_s=self.pause_s,
                    gdal_options=dict(self.gdal_options or {}),
                    verify=self.verify_checksums,
                )
                stack.callback(file.close)
                return file

            measured = [(file, opened(file.asset, file.label)) for file in bands]
            if is_ground_range(product):
                yield from read_ground_range(
                    scene, product, windows, archive, measured, pool, self.memory_bytes
                )
                return
            job = _SceneJob(
                scene,
                product,
                measured,
                [(file, opened(file.asset, file.asset.key)) for file in quality],
                self.threads,
            )
            # Left early (an error, or a caller that stops), the pool must not go on reading.
            stack.callback(job.stop.set)
            job.open_all(pool)
            finest = product.resolutions_m[0]
            wanted = [window for window in windows if job.touches(window.grids[finest])]
            for batch in batches(product, wanted, self.memory_bytes):
                yield from job.read(batch, pool)


@functools.cache
def _threads(count: int, options: tuple[tuple[str, Any], ...]) -> ThreadPoolExecutor:
    """Threads that outlive a scene: each new one that opens a file costs several milliseconds in PROJ."""
    return ThreadPoolExecutor(count, "swath-read", live_under, (dict(options),))


class _SceneThreads(Executor):
    """The shared threads as one scene sees them: at its end nothing of it is left running."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads
        self._jobs: list[Future[Any]] = []

    def submit[**P, T](self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        job = self._threads.submit(work, *args, **kwargs)
        self._jobs = [*(each for each in self._jobs if not each.done()), job]
        return job

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Call off what has not begun, and wait for what has."""
        for job in self._jobs:
            job.cancel()
        if wait:
            concurrent.futures.wait(self._jobs)


class _SceneJob:
    """One scene while it is being read."""

    def __init__(
        self,
        scene: Scene,
        product: Product,
        bands: list[tuple[BandFile, OpenAsset]],
        quality: list[tuple[QualityFile, OpenAsset]],
        threads: int,
    ) -> None:
        self.scene = scene
        self.product = product
        self.bands = bands
        self.quality = quality
        self.threads = threads
        self.stop = threading.Event()
        self._layouts: dict[OpenAsset, Layout] = {}
        self._tiles: dict[OpenAsset, DeflatedTiles] = {}
        self._decoding = threading.BoundedSemaphore(1)  # until it is known how large the blocks are

    def open_all(self, pool: Executor) -> None:
        """Open every file at once, and check that it holds what the product says."""

        def check(asset: OpenAsset, numbers: Sequence[int]) -> None:
            def looked_at(dataset: DatasetReader) -> Layout:
                if numbers:
                    check_bands(dataset, self.product, numbers, self.scene.id)
                return layout_of(dataset)

            self._layouts[asset] = asset.use(looked_at)
            if beginning := b"".join(asset.stored([(0, 2)])):
                tiles = asset.use(lambda dataset: deflated_tiles(dataset, beginning))
                if tiles is not None:
                    self._tiles[asset] = tiles
            asset.grid()

        files = [
            (asset, [number for pairs in file.layers.values() for _, number in pairs])
            for file, asset in self.bands
        ] + [(asset, []) for _, asset in self.quality]
        self._finish([pool.submit(check, asset, numbers) for asset, numbers in files])
        largest = max(layout.block_bytes for layout in self._layouts.values())
        fitting = min(self.threads, os.cpu_count() or 1, DECODING_BYTES // largest)
        self._decoding = threading.BoundedSemaphore(max(1, fitting))

    def touches(self, window: Grid) -> bool:
        return any(touches(asset.grid(), window) for _, asset in self.bands)

    def read(self, batch: Sequence[WindowRequest], pool: Executor) -> Iterator[WindowPixels]:
        """Read one batch of windows from all files and put the parts together."""
        parts: dict[_Key, Part] = {}
        product = self.product
        planning = []
        for file, asset in self.bands:
            options: dict[str, Any] = {
                "dtype": product.dtype,
                "fill": fill_value(product),
                "nodata": product.nodata,
                "kernel": product.grid.kernel,
            }
            for gsd, pairs in file.layers.items():
                layer = _Layer(asset, file.asset.key, gsd, gsd, [number for _, number in pairs])
                planning.append(pool.submit(self._layer_work, layer, batch, parts, options))
        for quality, asset in self.quality:
            layer = _Layer(asset, quality.asset.key, None, quality_gsd_m(product), [1])
            options = {"dtype": None, "fill": 0, "nodata": None, "kernel": "nearest"}
            planning.append(pool.submit(self._layer_work, layer, batch, parts, options))
        self._finish(planning)
        self._finish([pool.submit(each) for plan in planning for each in plan.result()])
        for window in batch:
            yield self._assemble(window, parts)

    def _layer_work(
        self, layer: _Layer, batch: Sequence[WindowRequest], parts: dict[_Key, Part], options: dict[str, Any]
    ) -> list[Callable[[], None]]:
        """What is to be done for one file's bands: by blocks where pixels are copied, else by windows."""
        asset, source, layout = layer.asset, layer.asset.grid(), self._layouts[layer.asset]
        targets, rest = [], []
        for window in batch:
            grid = window.grids[layer.gsd_m]
            offset = source.window_offset(grid) if source else None
            if source is None or offset is None:
                rest.append(window)
                continue
            dtype = options["dtype"] or layout.dtype
            target, outside = target_of(source, grid, offset, len(layer.numbers), dtype, options["fill"])
            parts[layer.key(window)] = (target.values, outside, False)
            targets.append(target)
        runs = plan_runs(layout, targets)
        places = asset.use(lambda dataset: [stored_at(dataset, run, layer.numbers) for run in runs])
        files = len(self.bands) + len(self.quality)
        # Ranges of one job are fetched side by side; a second job of a file costs another handle.
        share = max(RUNS_OF_JOB, math.ceil(len(runs) * files / (2 * self.threads)))
        share = min(share, max(1, JOB_BYTES // (layout.block_bytes * len(layer.numbers))))
        work: list[Callable[[], None]] = [
            functools.partial(
                self._read_runs,
                layer,
                runs[start : start + share],
                places[start : start + share],
            )
            for start in range(0, len(runs), share)
        ]
        return work + [functools.partial(self._read_window, layer, w, parts, options) for w in rest]

    def _read_runs(self, layer: _Layer, runs: Sequence[Run], places: Sequence[Sequence[Span | None]]) -> None:
        def decode(dataset: DatasetReader) -> None:
            for run, stored in zip(runs, places, strict=True):
                if self.stop.is_set():
                    return
                if not self._inflated(layer, run, stored):
                    read_run(dataset, run, layer.numbers)

        if not self.stop.is_set():
            spans = with_margin(list(itertools.chain.from_iterable(places)))
            layer.asset.use(decode, spans=spans, decoding=self._decoding)

    def _inflated(self, layer: _Layer, run: Run, places: Sequence[Span | None]) -> bool:
        """Decode a run without GDAL, whole or not at all."""
        tiles = self._tiles.get(layer.asset)
        if tiles is None or not places:
            return False
        known = [place for place in places if place is not None]
        if len(known) < len(places):
            return False  # left out of the file: GDAL knows what stands there
        blocks = []
        for stored in layer.asset.stored(known):
            block = tiles.decode(stored)
            if block is None:
                return False
            blocks.append(block)
        give_out(run, self._layouts[layer.asset], blocks, len(layer.numbers))
        return True

    def _read_window(
        self, layer: _Layer, window: WindowRequest, parts: dict[_Key, Part], options: dict[str, Any]
    ) -> None:
        grid, source = window.grids[layer.gsd_m], layer.asset.grid()
        if not self.stop.is_set():
            parts[layer.key(window)] = layer.asset.use(
                lambda dataset: read_window(dataset, layer.numbers, source, grid, **options)
            )

    def _assemble(self, window: WindowRequest, parts: dict[Any, Part]) -> WindowPixels:
        def part_of(key: str, gsd: float | None) -> Part:
            return parts.pop((window.location, key, gsd))

        bands, quality = [file for file, _ in self.bands], [file for file, _ in self.quality]
        return assembled(self.product, window, bands, quality, part_of)

    def _finish(self, jobs: Sequence[Future[Any]]) -> None:
        """Wait for jobs; the first that fails stops the others."""
        try:
            for job in as_completed(jobs):
                job.result()
        except BaseException:
            self.stop.set()
            for job in jobs:
                job.cancel()
            raise
