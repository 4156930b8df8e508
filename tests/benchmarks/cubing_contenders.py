"""The contenders of the cubing benchmark, each a process of its own that is told what to read.

``python -m tests.benchmarks.cubing_contenders NAME FOLDER`` answers each JSON line on its standard input
(``url``, ``label``, ``windows``) with one of its own: seconds on the wall, seconds of CPU of all its threads,
and a digest of every pixel in a fixed order.
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.scenes import Scene
from tasks.readers import WindowRequest
from tests.benchmarks.cubing_scenes import BLOCK, EPSG, grid, product, scenes, windows

THREADS = 16
"""Requests in flight, for all of them."""
FILL = np.uint16(0)
REMOTE: dict[str, Any] = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MULTIPLEX": "YES",
    "GDAL_HTTP_TCP_KEEPALIVE": "YES",
    "GDAL_HTTP_MAX_RETRY": "5",
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".tif",
    "CPL_VSIL_CURL_USE_HEAD": "NO",
    "VSI_CACHE": "YES",
    "GDAL_CACHEMAX": 512 * 2**20,
}
"""What GDAL is told by those who leave the fetching to it."""

Sample = dict[float, NDArray[np.uint16]]
Reading = Iterable[tuple[str, Sample]]
"""(location, native ground sampling → pixels ``(band, y, x)``)"""
Contender = Callable[[Scene, list[WindowRequest]], Reading]


def direct(url: str) -> Contender:
    from catalog.archives import load_archive
    from tasks.readers.registry import load_reader

    archive, reader = load_archive("sandbox", url=url), load_reader("direct")

    def read(scene: Scene, wanted: list[WindowRequest]) -> Reading:
        for window in reader.read(scene, product(), wanted, archive):
            yield window.location, dict(window.pixels)

    return read


def stackstac_windows(url: str) -> Contender:
    """One stack for each window and ground sampling, computed together."""
    import dask

    def read(scene: Scene, wanted: list[WindowRequest]) -> Reading:
        item = as_item(scene)
        stacks = {
            (window.location, gsd): _stack(item, gsd, target.bounds, -1).data[0]
            for window in wanted
            for gsd, target in window.grids.items()
        }
        found = dask.compute(stacks, scheduler="threads", num_workers=THREADS)[0]
        return _by_location(found)

    return read


def stackstac_slices(url: str) -> Contender:
    """One stack for each ground sampling, chunked as the files are; windows are slices of it."""
    import dask

    def read(scene: Scene, wanted: list[WindowRequest]) -> Reading:
        item, slices = as_item(scene), {}
        for gsd in product().resolutions_m:
            stack = _stack(item, gsd, grid(gsd).bounds, BLOCK).data[0]
            for window in wanted:
                slices[window.location, gsd] = stack[(slice(None), *_slices(gsd, window))]
        return _by_location(dask.compute(slices, scheduler="threads", num_workers=THREADS)[0])

    return read


def _stack(item: dict[str, Any], gsd: float, bounds: tuple[float, ...], chunk: int) -> Any:
    import stackstac
    from stackstac.rio_env import LayeredEnv

    return stackstac.stack(
        [item],
        assets=[band.name for band in product().bands_at(gsd)],
        epsg=EPSG,
        resolution=gsd,
        bounds=bounds,
        snap_bounds=False,
        dtype="uint16",
        fill_value=FILL,
        rescale=False,
        errors_as_nodata=(),
        chunksize=chunk,
        gdal_env=LayeredEnv(always=REMOTE, open={}, read={}),
        properties=False,
        band_coords=False,
    )


def odc_graph(url: str) -> Contender:
    """One lazy load for each window and ground sampling, computed together."""
    import dask

    _odc_settings()

    def read(scene: Scene, wanted: list[WindowRequest]) -> Reading:
        item = as_item(scene)
        loads = {
            (window.location, gsd): _odc_load(item, gsd, window, chunks={})
            for window in wanted
            for gsd in window.grids
        }
        found = dask.compute(loads, scheduler="threads", num_workers=THREADS)[0]
        return _by_location({key: _bands(data, key[1]) for key, data in found.items()})

    return read


def odc_samples(url: str) -> Contender:
    """Window after window, the bands of one side by side."""
    _odc_settings()

    def read(scene: Scene, wanted: list[WindowRequest]) -> Reading:
        item = as_item(scene)
        for window in wanted:
            loads = {gsd: _odc_load(item, gsd, window, pool=THREADS) for gsd in window.grids}
            yield window.location, {gsd: _bands(data, gsd) for gsd, data in loads.items()}

    return read


def odc_samples_at_once(url: str) -> Contender:
    """As many windows side by side as there may be requests in flight."""
    _odc_settings()
    pool = _threads()

    def read(scene: Scene, wanted: list[WindowRequest]) -> Reading:
        item = as_item(scene)

        def load(job: tuple[WindowRequest, float]) -> tuple[tuple[str, float], NDArray[np.uint16]]:
            window, gsd = job
            return (window.location, gsd), _bands(_odc_load(item, gsd, window), gsd)

        return _by_location(dict(pool.map(load, [(w, gsd) for w in wanted for gsd in w.grids])))

    return read


def _odc_settings() -> None:
    from odc.stac import configure_rio

    configure_rio(cloud_defaults=True, **REMOTE)


def _odc_load(item: dict[str, Any], gsd: float, window: WindowRequest, **options: Any) -> Any:
    import odc.stac
    import pystac
    from odc.geo.geobox import GeoBox
    from rasterio.transform import Affine

    target = window.grids[gsd]
    return odc.stac.load(
        [pystac.Item.from_dict(item)],
        bands=[band.name for band in product().bands_at(gsd)],
        geobox=GeoBox(target.shape, Affine(*target.affine), f"EPSG:{EPSG}"),
        dtype="uint16",
        nodata=0,
        **options,
    )


def _bands(data: Any, gsd: float) -> NDArray[np.uint16]:
    return np.stack([data[band.name].values[0] for band in product().bands_at(gsd)])


def local_decode(folder: Path) -> Contender:
    """The limit: each block that the windows touch, once, from files on this machine; no samples."""
    import rasterio
    from rasterio.windows import Window

    def read(scene: Scene, wanted: list[WindowRequest]) -> Reading:
        blocks = {
            gsd: sorted({b for w in wanted for b in _blocks(gsd, w)}) for gsd in product().resolutions_m
        }

        def decode(band: Any) -> None:
            height, width = grid(band.gsd_m).shape
            with rasterio.open(folder / f"{band.name}.tif", sharing=False) as file:
                for row, col in blocks[band.gsd_m]:
                    top, left = row * BLOCK, col * BLOCK
                    window = Window(left, top, min(BLOCK, width - left), min(BLOCK, height - top))
                    file.read(1, window=window)

        with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", GDAL_CACHEMAX=512 * 2**20):
            list(_threads().map(decode, product().bands))
        return ()

    return read


@cache
def _threads() -> ThreadPoolExecutor:
    """Threads that live as long as the process: each new one costs milliseconds in PROJ."""
    return ThreadPoolExecutor(THREADS)


def _slices(gsd: float, window: WindowRequest) -> tuple[slice, slice]:
    target = window.grids[gsd]
    offset = grid(gsd).window_offset(target)
    assert offset is not None
    return slice(offset[0], offset[0] + target.shape[0]), slice(offset[1], offset[1] + target.shape[1])


def _blocks(gsd: float, window: WindowRequest) -> Iterator[tuple[int, int]]:
    rows, cols = _slices(gsd, window)
    for row in range(rows.start // BLOCK, (rows.stop - 1) // BLOCK + 1):
        for col in range(cols.start // BLOCK, (cols.stop - 1) // BLOCK + 1):
            yield row, col


def _by_location(found: dict[tuple[str, float], NDArray[np.uint16]]) -> Reading:
    samples: dict[str, Sample] = {}
    for (location, gsd), values in found.items():
        samples.setdefault(location, {})[gsd] = np.asarray(values)
    return samples.items()


def as_item(scene: Scene) -> dict[str, Any]:
    """The scene as a STAC item, its projection in the older and in the newer field."""
    assets = {}
    for key, asset in scene.assets.items():
        assert asset.grid is not None
        assets[key] = {
            "href": asset.href,
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "roles": ["data"],
            "proj:epsg": EPSG,
            "proj:code": f"EPSG:{EPSG}",
            "proj:shape": list(asset.grid.shape),
            "proj:transform": list(asset.grid.affine),
            "raster:bands": [{"data_type": "uint16", "nodata": 0}],
        }
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": ["https://stac-extensions.github.io/projection/v1.1.0/schema.json"],
        "id": scene.id,
        "collection": scene.collection,
        "geometry": dict(scene.geometry),
        "bbox": list(scene.bbox),
        "properties": {"datetime": f"{scene.sensed:%Y-%m-%dT%H:%M:%SZ}", "proj:epsg": EPSG},
        "links": [],
        "assets": assets,
    }


CONTENDERS: dict[str, Callable[[str], Contender]] = {
    "direct": direct,
    "stackstac, one graph of windows": stackstac_windows,
    "stackstac, one graph of slices": stackstac_slices,
    "odc-stac, one graph": odc_graph,
    "odc-stac, sample by sample": odc_samples,
    "odc-stac, samples side by side": odc_samples_at_once,
}
LIMIT = "local decode"


TWO = ", two scenes at a time"
"""Ending of a contender's name: as ``tasks.cube`` reads scenes, and as anybody may compute two graphs."""


def measured(read: Contender, url: str, label: str, count: int, at_a_time: int) -> dict[str, Any]:
    """Read the windows of all scenes, so many scenes at a time."""
    jobs = [(scene, windows(count, number)) for number, scene in enumerate(scenes(url, label))]
    cpu, began = _cpu_s(), time.perf_counter()
    with ThreadPoolExecutor(at_a_time) as pool:
        found = list(pool.map(lambda job: dict(read(*job)), jobs))
    wall, cpu = time.perf_counter() - began, _cpu_s() - cpu
    digest = hashlib.sha256()
    for (_, wanted), samples in zip(jobs, found, strict=True):
        for window in wanted if samples else ():
            for gsd in product().resolutions_m:
                values = samples[window.location][gsd]
                assert values.dtype == np.uint16, values.dtype
                digest.update(np.ascontiguousarray(values))
    return {"wall_s": wall, "cpu_s": cpu, "pixels": digest.hexdigest()}


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main(name: str, folder: Path) -> None:
    for line in sys.stdin:
        task = json.loads(line)
        read = local_decode(folder) if name == LIMIT else CONTENDERS[name.removesuffix(TWO)](task["url"])
        at_a_time = 2 if name.endswith(TWO) else 1
        print(json.dumps(measured(read, task["url"], task["label"], task["windows"], at_a_time)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
