"""Per-scene pixel statistics: one flat row per scene, from the overviews of its files.

What the gate judges. Each file is opened once and read at about 256 pixels a side (128 where a file holds
more than 32 bands) from its overviews: for a Sentinel-2 tile about one per cent of its bytes, in three
requests per file. The windows that are cubed later are read from the full resolution, so no pixel is fetched
twice. A file without overviews is sampled at a lattice of small windows instead of being read whole.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from catalog.errors import SceneError
from catalog.products import Band, Product
from catalog.quality import FLAGS
from catalog.radiometry import Calibration, calibrate, conversion, to_physical
from catalog.scenes import Scene
from tasks.gate.pixel_evidence import pixel_evidence
from tasks.gate.pixel_structure import equivalent_looks
from tasks.readers.assets import OpenAsset
from tasks.readers.flags import cloud_fraction, empty_pixels, window_flags
from tasks.readers.grd import decimated_sigma0, is_ground_range
from tasks.readers.http_ranges import ATTEMPTS
from tasks.readers.plan import BandFile, QualityFile, band_files, quality_files
from tasks.readers.window import check_bands

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

    from catalog.archives import Archive

SIDE_PX = 256
MANY_BANDS = 32
MANY_BANDS_SIDE_PX = 128
LATTICE = 4
"""Windows a side, for a file without overviews."""
SPECKLE_PX = 96
"""Side of the window at full resolution that speckle is measured in."""
FULL_READ_PX = 1024
"""A raster no larger than this is read as it is."""

PLAUSIBLE: dict[str, tuple[float, float]] = {
    "reflectance": (-0.3, 2.0),
    "gamma0_db": (-60.0, 35.0),
    "sigma0_db": (-60.0, 35.0),
    "kelvin": (150.0, 400.0),
}
"""Quantity → where the 1st and the 99th percentile of any scene on Earth lie."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class SceneStatistics:
    """Rows of the scenes that could be read, and why the others could not."""

    rows: tuple[dict[str, Any], ...]
    failures: dict[str, SceneError]


def measure_scenes(
    scenes: Sequence[Scene],
    product: Product,
    archive: Archive,
    *,
    in_flight: int = 4,
    progress: Progress | None = None,
    attempts: int = ATTEMPTS,
    pause_s: float = 0.5,
) -> SceneStatistics:
    """``scene_statistics`` of many scenes, in their order; a scene that fails does not stop the others."""
    rows: dict[str, dict[str, Any]] = {}
    failures: dict[str, SceneError] = {}
    what = f"measure {product.id}"
    with ThreadPoolExecutor(in_flight, thread_name_prefix="swath-measure") as pool:
        jobs = {
            pool.submit(scene_statistics, scene, product, archive, attempts=attempts, pause_s=pause_s): scene
            for scene in scenes
        }
        try:
            for done, job in enumerate(as_completed(jobs), start=1):
                scene = jobs[job]
                try:
                    rows[scene.id] = job.result()
                except SceneError as error:
                    failures[scene.id] = error
                if progress:
                    progress(what, done, len(jobs))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return SceneStatistics(tuple(rows[scene.id] for scene in scenes if scene.id in rows), failures)


def scene_statistics(
    scene: Scene, product: Product, archive: Archive, *, attempts: int = ATTEMPTS, pause_s: float = 0.5
) -> dict[str, Any]:
    """One flat row about a scene's pixels.

    Fractions are of the scene's raster (``nodata_fraction``, ``valid_fraction``) or of its valid pixels.
    ``p1_<band>``, ``p50_<band>`` and ``p99_<band>`` are percentiles of valid pixels in physical units, NaN
    for an empty band. ``empty_bands``, ``constant_bands``, ``duplicate_bands`` and ``implausible_bands`` name
    the bands in question, None where all is well. The rest is what ``tasks.gate.pixel_evidence`` finds: the
    radiometric verdict, band order, stripes, speckle, histograms and a small picture.

    Raises
    ------
    SceneError: a file cannot be read, or the scene cannot be calibrated.
    """
    calibration = calibrate(product, scene)
    values, flags, looks = decimated(scene, product, archive, attempts, pause_s)
    return describe(scene, product, calibration, values, flags, looks)


def describe(
    scene: Scene,
    product: Product,
    calibration: Calibration,
    values: NDArray[Any],
    flags: NDArray[np.uint8],
    looks: float = math.nan,
) -> dict[str, Any]:
    """The row of a scene whose decimated pixels are at hand: see ``scene_statistics`` and ``decimated``."""
    nothing = (flags & FLAGS["nodata"]) != 0
    row: dict[str, Any] = {
        "scene": scene.id,
        "product": product.id,
        "nodata_fraction": float(nothing.mean()),
        "valid_fraction": float(1 - nothing.mean()),
        "cloud_fraction": cloud_fraction(product, flags, scene),
        "saturated_fraction": _saturated(product, values, flags, nothing),
    }
    row |= _percentiles(product, values, calibration)
    row |= _findings(product, values, row)
    row |= pixel_evidence(product, calibration, values, flags, looks)
    return row


def decimated(
    scene: Scene, product: Product, archive: Archive, attempts: int = ATTEMPTS, pause_s: float = 0.5
) -> tuple[NDArray[Any], NDArray[np.uint8], float]:
    """All bands ``(band, y, x)`` and the quality flags ``(y, x)``, decimated to one common shape; of radar
    power also the equivalent number of looks of its first band."""
    if is_ground_range(product):
        sigma0, flags = decimated_sigma0(
            scene, product, archive, _thinned, side_px=SIDE_PX, attempts=attempts, pause_s=pause_s
        )
        return sigma0, flags, math.nan
    bands, quality = band_files(scene, product), quality_files(scene, product)
    side = MANY_BANDS_SIDE_PX if any(len(f.asset.bands) > MANY_BANDS for f in bands) else SIDE_PX
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(16, thread_name_prefix="swath-overview"))
        opened: list[tuple[Any, OpenAsset]] = []
        files: list[BandFile | QualityFile] = [*bands, *quality]
        for file in files:
            label = file.label if isinstance(file, BandFile) else file.asset.key
            asset = OpenAsset(scene.id, file.asset, label, archive, attempts=attempts, pause_s=pause_s)
            stack.callback(asset.close)
            opened.append((file, asset))
        shapes = list(pool.map(lambda pair: pair[1].use(lambda dataset: dataset.shape), opened))
        # That of the finest band: a small scene's coarse bands are repeated, its fine ones stay whole.
        shape = (min(side, max(s[0] for s in shapes)), min(side, max(s[1] for s in shapes)))
        lattice = any(pool.map(lambda pair: pair[1].use(_lacks_overviews), opened))

        def of_bands(pair: tuple[Any, OpenAsset]) -> NDArray[Any]:
            numbers = list(range(1, len(pair[0].asset.bands) + 1))

            def work(dataset: DatasetReader) -> NDArray[Any]:
                check_bands(dataset, product, numbers, scene.id)
                return _read(dataset, numbers, shape, lattice)

            return pair[1].use(work)

        def of_quality(pair: tuple[Any, OpenAsset]) -> NDArray[Any]:
            return pair[1].use(lambda dataset: _read(dataset, [1], shape, lattice))

        read = list(pool.map(of_bands, opened[: len(bands)]))
        layers = list(pool.map(of_quality, opened[len(bands) :]))
        looks = math.nan
        if product.radiometry.rule == "power-to-db":
            looks = opened[0][1].use(lambda dataset: _looks(dataset, read[0][0], product.nodata))
    by_name = {
        name: stack_of[place]
        for file, stack_of in zip(bands, read, strict=True)
        for place, name in enumerate(file.asset.bands)
    }
    values = np.stack([by_name[name] for name in product.band_names]).astype(product.dtype, copy=False)
    raw = {
        meaning: layer[0] for file, layer in zip(quality, layers, strict=True) for meaning in file.meanings
    }
    empty = {0.0: empty_pixels(values, product.nodata)}
    return values, window_flags(product, empty, raw, None, (values.shape[1], values.shape[2])), looks


def _thinned(dataset: DatasetReader, numbers: list[int], shape: tuple[int, int]) -> NDArray[Any]:
    """Bands of a file from its overviews; of one without, whatever pixels lie at the lattice of ``shape``."""
    return _nearest(_whole(dataset, numbers, shape), shape)


def _looks(dataset: DatasetReader, decimated: NDArray[Any], nodata: float | None) -> float:
    """Equivalent number of looks in one window at full resolution, where data lie nearest to the centre.

    Overviews average speckle away, so it cannot be told from them.
    """
    held = np.argwhere(~empty_pixels(decimated[None], nodata))
    if not len(held):
        return math.nan
    centre = (np.array(decimated.shape) - 1) / 2
    nearest = held[np.abs(held - centre).sum(axis=1).argmin()]
    sides = [min(SPECKLE_PX, length) for length in dataset.shape]
    top, left = (
        int(np.clip(round((at + 0.5) / count * length - side / 2), 0, length - side))
        for at, count, length, side in zip(nearest, decimated.shape, dataset.shape, sides, strict=True)
    )
    raw = dataset.read(1, window=Window(left, top, sides[1], sides[0]))
    return equivalent_looks(np.where(empty_pixels(raw[None], nodata), np.nan, raw))


def _lacks_overviews(dataset: DatasetReader) -> bool:
    return max(dataset.shape) > FULL_READ_PX and not dataset.overviews(1)


def _read(dataset: DatasetReader, numbers: list[int], shape: tuple[int, int], lattice: bool) -> NDArray[Any]:
    if not lattice:
        return _nearest(_whole(dataset, numbers, shape), shape)
    # The same ground from every band: each window covers the same share of the raster, whatever its pixels.
    rows, cols = max(1, shape[0] // LATTICE), max(1, shape[1] // LATTICE)
    height, width = dataset.shape
    share = min(1.0 / LATTICE, rows / FULL_READ_PX)
    strips = []
    for i in range(LATTICE):
        cells = []
        for j in range(LATTICE):
            top, left = ((k + 0.5) / LATTICE - share / 2 for k in (i, j))
            window = Window(
                round(left * width),
                round(top * height),
                max(1, round(share * width)),
                max(1, round(share * height)),
            )
            cells.append(_nearest(np.asarray(dataset.read(numbers, window=window)), (rows, cols)))
        strips.append(np.concatenate(cells, axis=2))
    return np.concatenate(strips, axis=1)


def _whole(dataset: DatasetReader, numbers: list[int], shape: tuple[int, int]) -> NDArray[Any]:
    """The raster at its coarsest level that is not coarser than ``shape``.

    Asked for any other shape, GDAL decodes every block of a pixel-interleaved file once per band: minutes
    instead of tenths of a second for 224 bands.
    """
    height, width = dataset.shape
    level = max(
        (f for f in dataset.overviews(1) if height // f >= shape[0] and width // f >= shape[1]), default=1
    )
    if level == 1:
        return np.asarray(dataset.read(numbers))
    return np.asarray(
        dataset.read(numbers, out_shape=(len(numbers), -(-height // level), -(-width // level)))
    )


def _nearest(values: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """``(band, y, x)`` thinned out to ``shape``."""
    picked = [
        ((np.arange(count) + 0.5) * size / count).astype(int)
        for count, size in zip(shape, values.shape[1:], strict=True)
    ]
    return values[:, picked[0][:, None], picked[1]]


def _saturated(
    product: Product, values: NDArray[Any], flags: NDArray[np.uint8], nothing: NDArray[np.bool_]
) -> float:
    """Of the valid pixels: by the QA layer, or by values at the end of the data type, whichever is more."""
    if nothing.all():
        return 0.0
    by_layer = float(np.mean((flags[~nothing] & FLAGS["saturated"]) != 0))
    if values.dtype.kind == "f" or product.nodata == np.iinfo(values.dtype).max:
        return by_layer
    return max(by_layer, float(np.mean(values[:, ~nothing] == np.iinfo(values.dtype).max)))


def _percentiles(product: Product, values: NDArray[Any], calibration: Calibration) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for place, band in enumerate(product.bands):
        physical, valid = to_physical(
            values[place],
            conversion=conversion(product, band),
            scale=calibration.scale[place],
            offset=calibration.offset[place],
            nodata=product.nodata,
            k1=calibration.k1[place],
            k2=calibration.k2[place],
        )
        if valid.any():
            low, middle, high = (float(v) for v in np.percentile(physical[valid], (1, 50, 99)))
        else:
            low = middle = high = math.nan
        row |= {f"p1_{band.name}": low, f"p50_{band.name}": middle, f"p99_{band.name}": high}
    return row


def _findings(product: Product, values: NDArray[Any], row: dict[str, Any]) -> dict[str, Any]:
    empty: list[str] = []
    constant: list[str] = []
    duplicate: list[str] = []
    implausible: list[str] = []
    first_with: dict[bytes, Band] = {}
    for place, band in enumerate(product.bands):
        valid = values[place][~empty_pixels(values[place][None], product.nodata)]
        if valid.size == 0:
            empty.append(band.name)
            continue
        if valid.size > 1 and valid.min() == valid.max():
            constant.append(band.name)
            continue
        digest = hashlib.sha256(values[place].tobytes()).digest()
        twin = first_with.setdefault(digest, band)
        if twin is not band and not _seen_by_two_detectors(band, twin):
            duplicate.append(f"{band.name} = {twin.name}")
        low, high = PLAUSIBLE[band.quantity]
        if row[f"p1_{band.name}"] < low or row[f"p99_{band.name}"] > high:
            span = f"{row[f'p1_{band.name}']:.3g} to {row[f'p99_{band.name}']:.3g}"
            implausible.append(f"{band.name} {span}")
    return {
        "empty_share": len(empty) / len(product.bands),
        "empty_bands": _listed(empty),
        "constant_bands": _listed(constant),
        "duplicate_bands": _listed(duplicate),
        "implausible_bands": _listed(implausible),
    }


def _seen_by_two_detectors(one: Band, other: Band) -> bool:
    """EnMAP's detectors overlap: three pairs of bands lie less than 1 nm apart and are no copies."""
    if one.center_nm is None or other.center_nm is None:
        return False
    return abs(one.center_nm - other.center_nm) < 1


def _listed(names: list[str]) -> str | None:
    if not names:
        return None
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
