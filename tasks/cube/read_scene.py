"""Reads one scene whole: every sample of it that passes the recipe's limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from catalog.cubes.spool import Spooled
from catalog.locations import sample_grid
from catalog.products import Product
from catalog.radiometry import Calibration, calibrate
from catalog.recipes import ProductRequest
from catalog.samples import Location, Sample
from catalog.scenes import Scene
from tasks.cube.spool import SceneSpool
from tasks.readers.contract import Reader, WindowPixels, WindowRequest
from tasks.readers.flags import cloud_fraction, nodata_fraction
from tasks.readers.plan import band_files, quality_files, quality_gsd_m

if TYPE_CHECKING:
    from catalog.archives import Archive


class SceneSamples(Protocol):
    """A scene's samples until a writer has taken them: with their pixels, or with where those lie."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Sample | Spooled]: ...

    def close(self) -> None:
        """Drop everything."""
        ...


@dataclass(frozen=True)
class SceneRead:
    """One scene, read whole."""

    scene: Scene
    spool: SceneSamples
    wanted: int
    """Places that need the scene."""
    assets_read: int
    dropped: Counter[str]
    resampled: int
    taken: tuple[str, ...] = ()
    """Locations that have a sample of it now."""


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


def _terrain(request: ProductRequest) -> str | None:
    return None if request.dem is None else str(request.dem)
