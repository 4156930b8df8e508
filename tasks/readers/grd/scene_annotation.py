"""The annotation of one ground-range scene, fetched and checked: what its pixels mean and where they lie."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from catalog.errors import SceneError
from catalog.normalise.sentinel1_annotation import (
    LineVector,
    NoiseAnnotation,
    ProductAnnotation,
    product_annotation_href,
    read_calibration,
    read_noise,
    read_product_annotation,
)
from catalog.scenes import Scene, SceneAsset
from tasks.readers.text_files import fetch_text

if TYPE_CHECKING:
    from catalog.archives import Archive

LIMIT_BYTES = 32 * 2**20
"""Real annotations hold up to 2 MB."""


@dataclass(frozen=True)
class SceneAnnotation:
    """By asset key of the measurement, e.g. ``vv``."""

    product: ProductAnnotation
    calibration: Mapping[str, Sequence[LineVector]]
    noise: Mapping[str, NoiseAnnotation]

    def check_shape(self, shape: tuple[int, int], scene_id: str) -> None:
        """Refuse a raster that the annotation does not describe.

        Raises
        ------
        SceneError: ``annotation-contradicts``.
        """
        if shape != (self.product.lines, self.product.samples):
            raise SceneError(
                "annotation-contradicts",
                f"the raster has {shape[0]} lines of {shape[1]} pixels, its annotation says "
                f"{self.product.lines} of {self.product.samples}",
                subject=scene_id,
                next_step="report it to the archive: measurement and annotation are of two products",
            )


def read_annotation(scene: Scene, measurements: Sequence[str], archive: Archive) -> SceneAnnotation:
    """Fetch and parse the annotation of ``measurements`` (asset keys).

    Raises
    ------
    SceneError: ``calibration-missing`` where the item names no such file, ``unreadable-annotation``, or what
        the fetch raises (``ReadFailure``).
    """
    wanted: dict[tuple[str, str], SceneAsset] = {}
    missing: list[str] = []
    for key in measurements:
        for part in ("calibration", "noise", "product"):
            if part == "product" and any(kind == "product" for kind, _ in wanted):
                continue  # the geometry is the same for all polarisations
            name = f"schema-{part}-{key}"
            if name in scene.assets:
                wanted[part, key] = scene.assets[name]
            else:
                missing.append(name)
    if missing:
        raise SceneError(
            "calibration-missing",
            f"ground-range amplitudes mean nothing without their annotation; the item has no "
            f"{', '.join(missing)}",
            subject=scene.id,
            next_step="take the scene from an archive that has it, or use sentinel-1-rtc",
        )

    def fetch(pair: tuple[tuple[str, str], SceneAsset]) -> bytes:
        (part, _), asset = pair
        if part == "product":
            asset = dataclasses.replace(asset, href=product_annotation_href(asset.href))
        return fetch_text(asset, scene.id, archive, limit_bytes=LIMIT_BYTES)

    with ThreadPoolExecutor(len(wanted), thread_name_prefix="swath-annotation") as pool:
        contents = dict(zip(wanted, pool.map(fetch, wanted.items()), strict=True))
    try:
        return SceneAnnotation(
            next(read_product_annotation(text) for (part, _), text in contents.items() if part == "product"),
            {key: read_calibration(text) for (part, key), text in contents.items() if part == "calibration"},
            {key: read_noise(text) for (part, key), text in contents.items() if part == "noise"},
        )
    except SceneError as error:
        error.subject = error.subject or scene.id
        raise
