"""The gate over real scenes: how many it refuses and for what, and how many made faults it finds.

Real scenes are those of ``SWATH_REALDATA`` (or ``shared/data`` beside the repository).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from catalog.products import Product
from catalog.quality import FLAGS
from catalog.radiometry import calibrate
from catalog.recipes import GateLimits
from catalog.scenes import SceneAsset
from tasks.gate.judge import gate_scenes
from tasks.gate.pixel_structure import equivalent_looks
from tasks.gate.result import GateResult
from tasks.gate.statistics import describe
from tests.benchmarks.table import arguments, show
from tests.catalog.made_up import scene_of
from tests.conftest import REPOSITORY
from tests.real_scenes import RealScene, all_scenes
from tests.tasks.scene_files import built_in

SWAPS = (("B04", "B08"), ("B02", "B08"), ("B08", "B11"), ("B8A", "B12"), ("B03", "B12"))
STRIPES = (0.03, 0.1)


def gate_of(scenes: Sequence[RealScene]) -> GateResult:
    """Judge scenes that hold the same bands of one product."""
    product = _product(scenes)
    rows = [_row(scene, product) for scene in scenes]
    items = [
        scene_of(product, id=scene.name, platform=(product.platforms or ("any",))[0]) for scene in scenes
    ]
    return gate_scenes(product, items, rows, GateLimits())


def row_of(scene: RealScene) -> dict[str, Any]:
    """A scene's row of ``tasks.gate.statistics``."""
    return _row(scene, _product([scene]))


def _product(scenes: Sequence[RealScene]) -> Product:
    """The product with the bands that the scenes hold."""
    whole = built_in(scenes[0].product)
    names = tuple(scenes[0].bands)
    update: dict[str, Any] = {"bands": tuple(whole.band(n) for n in whole.band_names if n in names)}
    if scenes[0].cloud is None:
        update["qa"] = None
    return whole.model_copy(update=update)


def _row(scene: RealScene, product: Product) -> dict[str, Any]:
    baseline = "05.00" if scene.offset_dn else "02.14"
    item = scene_of(product, id=scene.name, baseline=baseline, radiometry=scene.radiometry)
    # The layer itself is at hand already; its asset is only asked whether there is one.
    layers = {
        *((product.qa.flags.values() or [product.qa.asset]) if product.qa and scene.cloud is not None else ())
    }
    item = replace(item, assets={key: SceneAsset(key, "", ()) for key in layers if key})
    values = np.stack([scene.bands[name] for name in product.band_names]).astype(product.dtype)
    flags = np.zeros(values.shape[1:], np.uint8)
    if scene.cloud is not None:
        flags[scene.cloud] |= FLAGS["cloud"]
    flags[(values == product.nodata).all(axis=0)] = FLAGS["nodata"]
    return describe(item, product, calibrate(product, item), values, flags, scene.looks)


def _faulty(scene: RealScene) -> Iterator[tuple[str, RealScene]]:
    bands = scene.bands
    for one, other in SWAPS:
        if one in bands and other in bands:
            yield (
                f"{one} and {other} exchanged",
                replace(scene, bands=bands | {one: bands[other], other: bands[one]}),
            )
    names = list(bands)
    if len(names) > 3:
        backwards = dict(zip(names, [bands[name] for name in reversed(names)], strict=True))
        yield "all bands in reverse", replace(scene, bands=backwards)
        yield "one band twice", replace(scene, bands=bands | {names[1]: bands[names[2]]})
        if bands[names[1]].shape[1] >= 64:
            rng = np.random.default_rng(0)
            for strength in STRIPES:
                gain = 1 + strength * rng.standard_normal(bands[names[1]].shape[1])
                striped = np.rint(bands[names[1]] * gain).astype(bands[names[1]].dtype)
                yield (
                    f"columns of one band differ by {strength:.0%}",
                    replace(scene, bands=bands | {names[1]: striped}),
                )
    if scene.product == "sentinel-1-rtc":
        power = np.where(bands["VV"] == -32768, np.nan, bands["VV"])
        yield (
            "speckle filtered twice over 5 pixels",
            _radar(scene, uniform_filter(uniform_filter(power, 5), 5)),
        )
        rng = np.random.default_rng(0)
        yield "one look only", _radar(scene, uniform_filter(power, 5) * rng.exponential(size=power.shape))


def _radar(scene: RealScene, power: NDArray[Any]) -> RealScene:
    return replace(scene, looks=equivalent_looks(power))


def _grouped(scenes: Sequence[RealScene]) -> Iterator[list[RealScene]]:
    groups: dict[Any, list[RealScene]] = {}
    for scene in scenes:
        groups.setdefault((scene.source, scene.product, tuple(scene.bands), scene.cloud is None), []).append(
            scene
        )
    yield from groups.values()


def refusals(scenes: Sequence[RealScene]) -> list[dict[str, Any]]:
    """One row per source and product: how many are refused, and for what."""
    counted: dict[tuple[str, str], tuple[int, Counter[str]]] = {}
    for group in _grouped(scenes):
        result = gate_of(group)
        key = (group[0].source, group[0].product)
        total, why = counted.get(key, (0, Counter()))
        for scene in result.quarantined:
            why.update(
                [" and ".join(row.check for row in result.table if row.scene == scene and not row.passed)]
            )
        counted[key] = (total + len(group), why)
    return [
        {
            "source": source,
            "product": product,
            "scenes": total,
            "refused": sum(why.values()),
            "for": ", ".join(f"{reason} {count}" for reason, count in why.most_common()) or "nothing",
        }
        for (source, product), (total, why) in sorted(counted.items())
    ]


def detections(scenes: Sequence[RealScene]) -> list[dict[str, Any]]:
    """One row per made fault: in how many scenes it is found, of those that are accepted without it."""
    found: dict[str, Counter[bool]] = {}
    for group in _grouped(scenes):
        good = set(gate_of(group).accepted)
        made = [(fault, scene) for one in group if one.name in good for fault, scene in _faulty(one)]
        for fault in dict.fromkeys(name for name, _ in made):
            result = gate_of([scene for name, scene in made if name == fault])
            found.setdefault(fault, Counter()).update(
                {True: len(result.quarantined), False: len(result.accepted)}
            )
    return [
        {"fault": fault, "scenes": sum(counts.values()), "found": counts[True]}
        for fault, counts in found.items()
    ]


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(__doc__, argv)
    folder = Path(os.environ.get("SWATH_REALDATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        print(f"no real scenes: {folder} is missing; name their folder in SWATH_REALDATA")
        return
    scenes = all_scenes(folder)
    packages = ("great-expectations", "numpy")
    show("The gate over real scenes", refusals(scenes), packages, as_json=options.json)
    show("Faults made in them", detections(scenes), packages, as_json=options.json)


if __name__ == "__main__":
    main()
