"""Right and wrong radiometry, made from scenes whose own is known, and what the verdict should be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.products import Product
from catalog.radiometric_bands import visible_bands
from catalog.radiometric_truth import (
    FEWEST_PIXELS,
    FEWEST_RADAR_PIXELS,
    Judgement,
    gather_evidence,
    judge_radiometry,
)
from catalog.radiometry import Calibration, calibrate
from tests.catalog.made_up import scene_of
from tests.real_scenes import RealScene
from tests.tasks.scene_files import built_in

HELD_OUT = {
    *("nantes", "paris", "rennes"),  # OSCD, Sentinel-2 L1C
    *("AnnualCrop_1", "AnnualCrop_2", "AnnualCrop_3", "Forest_1", "Forest_2", "Forest_3"),  # EuroSAT, L1C
    *("29UNU", "exeter", "jaca"),  # Sentinel-2 L2A; the first two have the offset
    *("0000280849BAC91C", "000028085BF08E7E"),  # WorldCereal: Sentinel-1, Sentinel-2 and Landsat 8
    *("005009", "017036", "alabama", "para", "illinois"),  # Landsat
}
"""Places whose scenes score the thresholds."""
CALIBRATION = {
    *("aguasclaras", "bercy", "bordeaux", "slovenia", "barbellino", "boadella"),
    *("87_48", "36_85", "_4_55", "56_35", "69_24", "57_38"),  # BigEarthNet: Sentinel-1 and Sentinel-2
    *("00002806639B424A", "2021_TZA_COPERNICUS-GEOGLAM_POLY_1101950"),  # WorldCereal
    *("008059", "099120", "new-york"),  # Landsat
    "potsdam",  # EnMAP: the only real place there is
}
"""Places whose scenes set them."""
WEDGE = 0.2
"""Of the raster's columns that are made nodata, as at the edge of an orbit."""
MOST_CLOUD = 0.95
"""A scene under more cloud is refused for that, before its radiometry matters."""


@dataclass(frozen=True)
class Case:
    """One scene under one calibration."""

    scene: str
    family: str
    case: str
    truth: str
    """``agrees`` or ``contradicts``."""
    judgement: Judgement
    large_enough: bool
    """Whether the scene has what it must have to be judged at all."""

    @property
    def wrong(self) -> bool:
        return self.judgement.verdict not in (self.truth, "undecidable")


@dataclass(frozen=True)
class _Variant:
    case: str
    right: bool
    bands: dict[str, NDArray[Any]]
    calibration: Calibration


def cases_of(scene: RealScene) -> Iterator[Case]:
    """Every case that can be made of a scene; none of one that is all cloud."""
    product = built_in(scene.product)
    held = np.logical_or.reduce([values != product.nodata for values in scene.bands.values()])
    if not held.any() or (scene.cloud is not None and scene.cloud[held].mean() > MOST_CLOUD):
        return
    clear = held & ~scene.cloud if scene.cloud is not None else held
    told = "cirrus" in [product.band(name).common_name for name in scene.bands]
    pixels = (1 - WEDGE) * np.count_nonzero(clear)
    if product.id.startswith("sentinel-1"):
        large = bool(pixels >= FEWEST_RADAR_PIXELS)
    else:
        seen = any(name in scene.bands for name in visible_bands(product))
        large = told or (seen and bool(pixels >= FEWEST_PIXELS))
    for variant in _variants(scene, product):
        evidence = gather_evidence(
            product, variant.calibration, variant.bands, scene.cloud, looks=_looks(variant, scene)
        )
        yield Case(
            scene.name,
            scene.product,
            variant.case,
            "agrees" if variant.right else "contradicts",
            judge_radiometry(product, variant.calibration, evidence),
            large,
        )


def _variants(scene: RealScene, product: Product) -> Iterator[_Variant]:
    match product.radiometry.rule:
        case "sentinel-2-offset":
            yield from _sentinel_2(scene, product)
        case "power-to-db":
            yield from _radar(scene, product)
        case "landsat-toa":
            yield from _landsat_toa(scene, product)
        case _:
            yield from _linear(scene, product)


def _sentinel_2(scene: RealScene, product: Product) -> Iterator[_Variant]:
    without, withal = (_constant(product, 1e-4, offset) for offset in (0.0, -0.1))
    plain = _mapped(scene.bands, 0, lambda v: np.maximum(v - scene.offset_dn, 1))
    shifted = _mapped(scene.bands, 0, lambda v: v - scene.offset_dn + 1000)
    edge = _wedge(shifted, 0)
    late = scene.date >= "20220125"
    yield _Variant("right, without offset", True, plain, without)
    yield _Variant("right, with offset", True, shifted, withal)
    yield _Variant("right, with offset and nodata", True, edge, withal)
    yield _Variant("offset missed", False, shifted, without)
    yield _Variant("offset applied twice", False, plain, withal)
    taken = _mapped(plain, 0, lambda v: np.maximum(v - 1000, 1))
    yield _Variant("offset taken off by the archive, none was there", False, taken, without)
    # The date says one thing, the baseline (and so the pixels) the other.
    yield _Variant("offset by date", False, *((plain, withal) if late else (shifted, without)))
    everywhere = {name: np.where(values == 0, 1000, values) for name, values in edge.items()}
    yield _Variant("offset applied to nodata", False, everywhere, withal)


def _linear(scene: RealScene, product: Product) -> Iterator[_Variant]:
    right = calibrate(product, scene_of(product, radiometry=scene.radiometry))
    nodata = product.nodata or 0
    edge = _wedge(scene.bands, nodata)
    yield _Variant("right", True, scene.bands, right)
    yield _Variant("right, with nodata", True, edge, right)
    step = 0.2 if product.radiometry.offset else 0.1
    yield _Variant("offset applied twice", False, scene.bands, replace(right, offset=right.offset - step))
    if product.radiometry.offset:
        yield _Variant("offset missed", False, scene.bands, replace(right, offset=right.offset * 0))
        old = _mapped(scene.bands, 0, lambda v: np.maximum(np.rint((v * 2.75e-5 - 0.2) * 1e4), 1))
        yield _Variant("numbers of Collection 1", False, old, right)
        zero = round(0.2 / 2.75e-5)
        fill = {name: np.where(values == nodata, zero, values) for name, values in edge.items()}
    else:
        yield _Variant("offset missed", False, scene.bands, replace(right, offset=right.offset + step))
        yield _Variant(
            "scale ten times too large", False, scene.bands, replace(right, scale=right.scale * 10)
        )
        yield _Variant("scale missed", False, scene.bands, replace(right, scale=right.scale * 1e4))
        fill = {name: np.where(values == nodata, 0, values) for name, values in edge.items()}
    yield _Variant("offset applied to nodata", False, fill, right)


def _landsat_toa(scene: RealScene, product: Product) -> Iterator[_Variant]:
    right = calibrate(product, scene_of(product, radiometry=scene.radiometry))
    edge = _wedge(scene.bands, 0)
    yield _Variant("right", True, scene.bands, right)
    yield _Variant("right, with nodata", True, edge, right)
    reflects = np.isnan(right.k1)
    if right.offset[reflects].min() > -0.05:
        radiance = replace(right, scale=np.where(reflects, 0.75, right.scale))
        yield _Variant("radiance taken for reflectance", False, scene.bands, radiance)
        return
    for name, factor in (("offset missed", 0), ("offset applied twice", 2)):
        offset = np.where(reflects, right.offset * factor, right.offset)
        yield _Variant(name, False, scene.bands, replace(right, offset=offset))
    everywhere = {name: np.where(values == 0, 5000, values) for name, values in edge.items()}
    yield _Variant("offset applied to nodata", False, everywhere, right)


def _radar(scene: RealScene, product: Product) -> Iterator[_Variant]:
    right = calibrate(product, scene_of(product, radiometry=scene.radiometry))
    nodata = product.nodata or 0
    held = {name: np.where(values == nodata, np.nan, values) for name, values in scene.bands.items()}

    def stored(values: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return {n: np.where(np.isfinite(v), v, nodata).astype(np.float32) for n, v in values.items()}

    yield _Variant("right", True, scene.bands, right)
    yield _Variant("right, with nodata", True, _wedge(scene.bands, nodata), right)
    with np.errstate(invalid="ignore", divide="ignore"):
        decibels = {name: 10 * np.log10(values) for name, values in held.items()}
        amplitude = {name: np.sqrt(values) for name, values in held.items()}
    yield _Variant("decibels taken for power", False, stored(decibels), right)
    yield _Variant("amplitude taken for power", False, stored(amplitude), right)
    numbers = {name: values * 400 for name, values in amplitude.items()}
    yield _Variant("uncalibrated amplitude", False, stored(numbers), right)


def _looks(variant: _Variant, scene: RealScene) -> float:
    from tasks.gate.pixel_structure import equivalent_looks

    if "VV" not in variant.bands or np.isnan(scene.looks):
        return scene.looks
    values = variant.bands["VV"].astype(np.float64)
    return equivalent_looks(np.where(values == -32768, np.nan, values))


def _mapped(bands: dict[str, NDArray[Any]], nodata: float, work: Any) -> dict[str, NDArray[Any]]:
    mapped = {}
    for name, values in bands.items():
        moved = np.clip(work(values.astype(np.float64)), 0, 65535)
        mapped[name] = np.where(values == nodata, nodata, moved).astype(np.uint16)
    return mapped


def _wedge(bands: dict[str, NDArray[Any]], nodata: float) -> dict[str, NDArray[Any]]:
    cut = {}
    for name, values in bands.items():
        cut[name] = values.copy()
        cut[name][:, : max(1, round(values.shape[1] * WEDGE))] = nodata
    return cut


def _constant(product: Product, scale: float, offset: float) -> Calibration:
    count = len(product.bands)
    empty = np.full(count, np.nan)
    return Calibration(
        product.band_names, np.full(count, scale), np.full(count, offset), empty, empty, "made for a test"
    )


def real_cases(folder: Path) -> list[Case]:
    """Of every real scene."""
    from tests.real_scenes import all_scenes

    return [case for scene in all_scenes(folder) for case in cases_of(scene)]


def simulated_scenes(folder: Path) -> Iterator[RealScene]:
    """Every scene of a small sandbox archive of all products, read as the gate reads it."""
    from catalog.archives import load_archive
    from catalog.quality import FLAGS
    from catalog.recipes import Area, Period
    from deployments.sandbox import make_sandbox
    from deployments.sandbox.plan import ALL_PRODUCTS
    from deployments.stac_server import serve_archive
    from tasks.gate.statistics import decimated
    from tasks.search.scenes import search_scenes
    from tasks.search.side_files import complete_scenes

    info = make_sandbox(folder, size_m=1920, dates=2, products=ALL_PRODUCTS)
    with serve_archive(folder) as server:
        archive = load_archive("sandbox", url=server.url)
        for name in ALL_PRODUCTS:
            product = built_in(name)
            found = search_scenes(
                archive, product, Area(bbox=info.bbox), Period(start=info.start, end=info.end)
            )
            whole, _ = complete_scenes(found.scenes, product, archive)
            for scene in whole:
                values, flags, looks = decimated(scene, product, archive)
                cloud = (flags & (FLAGS["cloud"] | FLAGS["cirrus"])) != 0
                added = -calibrate(product, scene).offset[0] * 1e4 if "sentinel-2" in name else 0
                yield RealScene(
                    f"sandbox/{scene.id}",
                    "sandbox",
                    name,
                    f"{scene.sensed:%Y%m%d}",
                    dict(zip(product.band_names, values, strict=True)),
                    cloud,
                    round(added),
                    dict(scene.radiometry),
                    looks,
                )
