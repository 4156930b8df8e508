"""The ``direct`` reader: each file of a scene is opened once, and every window read from it (rasterio, GDAL).

Measured before it was written: over HTTP with 30 ms latency, asset by asset beats window by window three to
five times, because a header is fetched once per file and several ranges of a file are in flight.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from catalog.grids import Grid
from catalog.products import Product
from catalog.scenes import Scene, SceneAsset
from tasks.readers.assets import OpenAsset
from tasks.readers.contract import WindowPixels, WindowRequest
from tasks.readers.flags import empty_pixels, window_flags
from tasks.readers.grd import is_ground_range, read_ground_range
from tasks.readers.http_ranges import ATTEMPTS, PAUSE_S
from tasks.readers.plan import (
    BandFile,
    QualityFile,
    band_files,
    batches,
    by_tile,
    quality_files,
    quality_gsd_m,
    touches,
)
from tasks.readers.window import check_bands, fill_value, read_window

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

    from catalog.archives import Archive

Part = tuple[NDArray[Any], NDArray[np.bool_], bool]


@dataclass(frozen=True)
class DirectReader:
    """Reads with many ranges in flight; GDAL decodes what ``remote_file`` fetched."""

    name: str = "direct"
    threads: int = 16
    """Requests in flight per scene; they wait for the network most of the time."""
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
            pool = stack.enter_context(ThreadPoolExecutor(self.threads, thread_name_prefix="swath-read"))

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

    def open_all(self, pool: ThreadPoolExecutor) -> None:
        """Open every file at once, and check that it holds what the product says."""

        def check(file: BandFile, asset: OpenAsset) -> None:
            numbers = [number for pairs in file.layers.values() for _, number in pairs]
            asset.use(lambda dataset: check_bands(dataset, self.product, numbers, self.scene.id))
            asset.grid()

        self._finish(
            [
                *(pool.submit(check, file, asset) for file, asset in self.bands),
                *(pool.submit(asset.grid) for _, asset in self.quality),
            ]
        )

    def touches(self, window: Grid) -> bool:
        return any(touches(asset.grid(), window) for _, asset in self.bands)

    def read(self, batch: Sequence[WindowRequest], pool: ThreadPoolExecutor) -> Iterator[WindowPixels]:
        """Read one batch of windows from all files and put the parts together."""
        parts: dict[tuple[str, str, Any], Part] = {}
        jobs: list[Future[None]] = []
        for file, asset in self.bands:
            for chunk in self._chunks(batch, asset, min(file.layers)):
                jobs.append(pool.submit(self._read_bands, file, asset, chunk, parts))
        for layer, asset in self.quality:
            for chunk in self._chunks(batch, asset, quality_gsd_m(self.product)):
                jobs.append(pool.submit(self._read_quality, layer, asset, chunk, parts))
        self._finish(jobs)
        for window in batch:
            yield self._assemble(window, parts)

    def _chunks(
        self, batch: Sequence[WindowRequest], asset: OpenAsset, gsd: float
    ) -> Iterator[Sequence[WindowRequest]]:
        """Windows for one handle each, so that all threads are busy and a tile is fetched by one of them."""
        files = len(self.bands) + len(self.quality)
        wanted = min(math.ceil(2 * self.threads / files), asset.use(handles_that_fit))
        size = math.ceil(len(batch) / wanted)
        tiles = by_tile(batch, asset.grid(), asset.use(lambda dataset: dataset.block_shapes[0]), gsd)
        chunk: list[WindowRequest] = []
        for tile in tiles:
            chunk += tile
            if len(chunk) >= size:
                yield chunk
                chunk = []
        if chunk:
            yield chunk

    def _read_bands(
        self, file: BandFile, asset: OpenAsset, chunk: Sequence[WindowRequest], parts: dict[Any, Part]
    ) -> None:
        source = asset.grid()
        for window in chunk:
            for gsd, pairs in file.layers.items():
                if self.stop.is_set():
                    return
                parts[window.location, file.asset.key, gsd] = asset.use(
                    _reading(
                        [number for _, number in pairs],
                        source,
                        window.grids[gsd],
                        dtype=self.product.dtype,
                        fill=fill_value(self.product),
                        nodata=self.product.nodata,
                        kernel=self.product.grid.kernel,
                    )
                )

    def _read_quality(
        self, layer: QualityFile, asset: OpenAsset, chunk: Sequence[WindowRequest], parts: dict[Any, Part]
    ) -> None:
        source, gsd = asset.grid(), quality_gsd_m(self.product)
        for window in chunk:
            if self.stop.is_set():
                return
            parts[window.location, layer.asset.key, None] = asset.use(
                _reading([1], source, window.grids[gsd], dtype=None, fill=0, nodata=None, kernel="nearest")
            )

    def _assemble(self, window: WindowRequest, parts: dict[Any, Part]) -> WindowPixels:
        product = self.product
        pixels: dict[float, NDArray[Any]] = {}
        empty: dict[float, NDArray[np.bool_]] = {}
        resampled = False
        for gsd in product.resolutions_m:
            values = np.empty((len(product.bands_at(gsd)), *window.grids[gsd].shape), product.dtype)
            nowhere = np.ones(window.grids[gsd].shape, np.bool_)
            for file, _ in self.bands:
                if gsd not in file.layers:
                    continue
                read, outside, interpolated = parts.pop((window.location, file.asset.key, gsd))
                values[[place for place, _ in file.layers[gsd]]] = read
                nowhere &= outside
                resampled |= interpolated
            pixels[gsd] = values
            empty[gsd] = empty_pixels(values, product.nodata) | nowhere
        gsd = quality_gsd_m(product)
        raw: dict[str | None, NDArray[Any]] = {}
        outside_all: NDArray[np.bool_] | None = None
        for layer, _ in self.quality:
            read, outside, _ = parts.pop((window.location, layer.asset.key, None))
            raw.update((meaning, read[0]) for meaning in layer.meanings)
            outside_all = outside if outside_all is None else outside_all | outside
        flags = window_flags(product, empty, raw, outside_all, window.grids[gsd].shape)
        return WindowPixels(window.location, window.grids, pixels, flags, gsd, resampled)

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


def _reading(
    numbers: list[int], source: Grid | None, target: Grid, **options: Any
) -> Callable[[DatasetReader], Part]:
    return lambda dataset: read_window(dataset, numbers, source, target, **options)


def handles_that_fit(dataset: DatasetReader, limit_bytes: int = 512 * 2**20) -> int:
    """How many handles of a file may decode at once: a tile of a 224-band file can take 100 MB."""
    height, width = dataset.block_shapes[0]
    bands = dataset.count if str(dataset.interleaving).lower().endswith("pixel") else 1
    return max(1, int(limit_bytes // (height * width * bands * np.dtype(dataset.dtypes[0]).itemsize)))
