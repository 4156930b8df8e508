"""What a scene's files hold of a product, and which places are wanted from them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from catalog.errors import SceneError
from catalog.grids import Grid
from catalog.products import Product
from catalog.samples import Location
from catalog.scenes import Scene, SceneAsset
from tasks.readers.contract import WindowRequest

FOOTPRINT_MARGIN_DEG = 0.002
"""Catalogued footprints are outlines of a few points, and need not be exact to the pixel."""


@dataclass(frozen=True)
class BandFile:
    """A file that holds bands of the product."""

    asset: SceneAsset
    layers: dict[float, tuple[tuple[int, int], ...]]
    """Native ground sampling → (place among ``product.bands_at``, band number in the file from 1)."""

    @property
    def label(self) -> str:
        return self.asset.bands[0] if len(self.asset.bands) == 1 else self.asset.key


@dataclass(frozen=True)
class QualityFile:
    """A file of the QA layer."""

    asset: SceneAsset
    meanings: tuple[str | None, ...]
    """What it tells of, for a layer of several files; ``(None,)`` for a file that holds the whole layer."""


def quality_gsd_m(product: Product) -> float:
    """Ground sampling of a product's quality flags: its QA layer's, or its finest band's."""
    return product.qa.gsd_m if product.qa else product.resolutions_m[0]


def band_files(scene: Scene, product: Product) -> list[BandFile]:
    """The files of a scene that hold the product's bands.

    Raises
    ------
    SceneError: ``band-missing``, naming all of them.
    """
    holders: dict[str, SceneAsset] = {}
    for asset in scene.assets.values():
        for band in asset.bands:
            holders.setdefault(band, asset)
    missing = [band for band in product.band_names if band not in holders]
    if missing:
        raise SceneError(
            "band-missing",
            f"the item has no {', '.join(missing[:8])}{' …' if len(missing) > 8 else ''}",
            subject=scene.id,
            next_step="give the archive its own product file if its scenes never have them",
        )
    layers: dict[str, dict[float, list[tuple[int, int]]]] = {}
    for gsd in product.resolutions_m:
        for place, name in enumerate(band.name for band in product.bands_at(gsd)):
            asset = holders[name]
            number = asset.bands.index(name) + 1
            layers.setdefault(asset.key, {}).setdefault(gsd, []).append((place, number))
    assets = {asset.key: asset for asset in holders.values()}
    return [
        BandFile(assets[key], {gsd: tuple(numbers) for gsd, numbers in by_gsd.items()})
        for key, by_gsd in layers.items()
    ]


def quality_files(scene: Scene, product: Product) -> list[QualityFile]:
    """The files of a scene's QA layer; none where the product has no such layer, or the scene lacks one that
    its product can do without.

    Raises
    ------
    SceneError: ``qa-missing``.
    """
    layer = product.qa
    if layer is None:
        return []
    wanted: dict[tuple[str, ...], list[str | None]] = {}
    if layer.kind == "flags":
        for meaning, key in layer.flags.items():
            wanted.setdefault((key,), []).append(meaning)  # a file may tell of several
    else:
        wanted[tuple(key for key in (layer.asset, *layer.aliases) if key)] = [None]
    by_key = {asset.key: asset for asset in scene.assets.values()} | dict(scene.assets)
    found: list[QualityFile] = []
    for keys, meanings in wanted.items():
        asset = next((by_key[key] for key in keys if key in by_key), None)
        if asset is None and layer.optional:
            continue  # cloud is unknown then, and that is no reason to refuse the scene
        if asset is None:
            raise SceneError(
                "qa-missing",
                f"the item has no QA file {' or '.join(keys)}",
                subject=scene.id,
                next_step="without it cloud cannot be told from ground; use another archive or product file",
            )
        found.append(QualityFile(asset, tuple(meanings)))
    return found


def plan_windows(product: Product, scene: Scene, locations: Sequence[Location]) -> list[WindowRequest]:
    """The locations whose sample may hold pixels of the scene, by the footprints on the ground."""
    from shapely.geometry import shape
    from shapely.prepared import prep

    from catalog.locations import location_wgs84_polygon, sample_grid

    footprint = prep(scene_footprint(scene).buffer(FOOTPRINT_MARGIN_DEG))
    sizes = sorted({*product.resolutions_m, quality_gsd_m(product)})
    return [
        WindowRequest(location.id, {gsd: sample_grid(product, location, gsd) for gsd in sizes})
        for location in locations
        if footprint.intersects(shape(location_wgs84_polygon(location)))
    ]


def scene_footprint(scene: Scene) -> Any:
    """A scene's footprint as a shapely geometry in degrees.

    Catalogues hold empty and self-crossing polygons, and outlines that jump over the antimeridian; the
    bounding box stands in for those.
    """
    from shapely import make_valid
    from shapely.geometry import box, shape
    from shapely.ops import unary_union

    west, south, east, north = scene.bbox
    if west > east:
        boxes = unary_union([box(west, south, 180, north), box(-180, south, east, north)])
    else:
        boxes = box(west, south, east, north)
    try:
        outline = make_valid(shape(scene.geometry))
    except Exception:  # whatever shapely says of a geometry that is none
        return boxes
    if outline.is_empty or outline.bounds[2] - outline.bounds[0] > 180:
        return boxes
    return outline


def window_bytes(product: Product, window: WindowRequest) -> int:
    """Bytes of one window's raw pixels."""
    size = np.dtype(product.dtype).itemsize
    return sum(
        len(product.bands_at(gsd)) * math.prod(window.grids[gsd].shape) * size
        for gsd in product.resolutions_m
    )


def batches(
    product: Product, windows: Sequence[WindowRequest], limit_bytes: int
) -> Iterator[list[WindowRequest]]:
    """Windows in groups of neighbours that fit into memory together."""
    ordered = sorted(windows, key=_north_to_south)
    if not ordered:
        return
    size = max(1, limit_bytes // max(1, window_bytes(product, ordered[0])))
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]


def _north_to_south(window: WindowRequest) -> tuple[int, float, float, str]:
    grid = window.grids[min(window.grids)]
    west, _, _, north = grid.bounds
    # Rows of a tile's height (512 px), then west to east: neighbours lie in the same tiles of the file.
    return grid.epsg, -(north // (512 * grid.resolution[1])), west, window.location


def touches(source: Grid | None, window: Grid) -> bool:
    """Whether a window shares a pixel with a file's raster; True where only reprojection can tell."""
    if source is None or source.epsg != window.epsg:
        return True
    west, south, east, north = source.bounds
    w, s, e, n = window.bounds
    return w < east and e > west and s < north and n > south
