"""Makes the sandbox archive: every planned scene simulated and written, the same bytes for the same seed."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from pyproj import Transformer

from catalog.archives.registry import load_archive
from catalog.errors import UsageError
from catalog.products.registry import load_products
from deployments.sandbox.atmosphere import Light, SkyRequest, Sun, make_sky, shine, sun_position
from deployments.sandbox.items import Described, make_collection, make_item, scene_id
from deployments.sandbox.landscape import CENTRE_LATITUDE, SIZE_UNIT_M, Ground, make_landscape
from deployments.sandbox.observation import Observation
from deployments.sandbox.plan import ALL_PRODUCTS, PRODUCTS, plan_scenes
from deployments.sandbox.seasons import weather
from deployments.sandbox.sensors import (
    Picture,
    enmap,
    landsat,
    landsat_level_1,
    sentinel1,
    sentinel1_grd,
    sentinel2,
    sentinel2_level_1c,
)
from deployments.sandbox.spectra import Array
from deployments.sandbox.terrain_model import TERRAIN, terrain_model
from deployments.sandbox.write import (
    LABEL_SET,
    WholeFolder,
    store,
    store_document,
    write_json,
    write_labels,
    write_ndjson,
)

Progress = Callable[[int, int, str], None]
"""Called with scenes done, scenes in all, and the id of the one just done."""


@dataclass(frozen=True)
class SandboxInfo:
    """What the archive folder holds."""

    folder: Path
    seed: int
    version: str
    """Of the simulation; another version makes other bytes."""
    bbox: tuple[float, float, float, float]
    """(west, south, east, north) of all scenes, degrees."""
    start: date
    end: date
    collections: dict[str, str]
    """Product id → collection id."""
    scenes: dict[str, tuple[str, ...]]
    """Product id → scene ids, all of them."""
    superseded: dict[str, tuple[str, str]]
    """Product id → (older version, newer version) of one observation."""
    refused: dict[str, str]
    """Product id → the scene that the gate must refuse."""
    size_bytes: int

    @property
    def label_set(self) -> Path:
        """The label set file."""
        return self.folder / LABEL_SET


def make_sandbox(
    folder: Path,
    *,
    seed: int = 7,
    progress: Progress | None = None,
    size_m: int = 7680,
    dates: int | None = None,
    workers: int | None = None,
    products: Sequence[str] | None = None,
) -> SandboxInfo:
    """Write the sandbox archive into ``folder``, unless it is there already.

    Parameters
    ----------
    size_m:   side of each zone's square, metres, a multiple of 480
    dates:    ordinary dates per product and zone; all if none
    workers:  scenes made at a time; two, or one on a single core, if none
    products: of ``plan.ALL_PRODUCTS``; the four of ``plan.PRODUCTS`` if none. The scenes of a product do not
        depend on which others are made, but for EnMAP: asked for by name, it has scenes of both wavelength
        grids.

    Raises
    ------
    UsageError: ``bad-sandbox-size``, ``unknown-product``, or ``folder-not-a-sandbox`` where the folder holds
        something else.
    """
    unknown = set(products or ()) - set(ALL_PRODUCTS)
    if unknown:
        raise UsageError(
            "unknown-product",
            f"the sandbox cannot simulate {', '.join(sorted(unknown))}; it knows {', '.join(ALL_PRODUCTS)}",
            subject="products",
            next_step="name some of these",
        )
    if size_m < 2 * SIZE_UNIT_M or size_m % SIZE_UNIT_M:
        raise UsageError(
            "bad-sandbox-size",
            f"{size_m} m is no multiple of {SIZE_UNIT_M} m, or too small",
            subject="size_m",
            next_step=f"choose for example {4 * SIZE_UNIT_M}",
        )
    archive, known = load_archive("sandbox"), load_products()
    chosen = tuple(dict.fromkeys(products)) if products is not None else PRODUCTS
    collections = {product: archive.collection(known[product]) for product in chosen}
    wanted = {
        "version": sandbox_version(),
        "seed": seed,
        "size_m": size_m,
        "dates": dates,
        "asked_for": None if products is None else list(chosen),
        "collections": collections,
    }
    place = WholeFolder(folder)
    if info := _finished(place, wanted):
        return info
    with place.lock():
        if info := _finished(place, wanted):
            return info
        partial = place.begin()
        try:
            scenes = plan_scenes(dates, products)
            contents = _fill(partial, seed, size_m, scenes, collections, progress, workers)
            place.finish(partial, {**wanted, "contents": contents})
        except BaseException:
            place.abandon(partial)
            raise
    info = _finished(place, wanted)
    assert info is not None
    return info


def sandbox_version() -> str:
    """Digest of the simulation's own sources: edited, it makes the archive anew."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for path in sorted([*here.rglob("*.py"), *here.rglob("*.csv")]):
        if path.name != "preview.py":
            digest.update(path.relative_to(here).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _finished(place: WholeFolder, wanted: dict[str, Any]) -> SandboxInfo | None:
    stamp = place.stamp()
    if stamp is None or any(stamp.get(key) != value for key, value in wanted.items()):
        return None
    contents = stamp["contents"]
    return SandboxInfo(
        folder=place.folder,
        seed=stamp["seed"],
        version=stamp["version"],
        bbox=tuple(contents["bbox"]),
        start=date.fromisoformat(contents["start"]),
        end=date.fromisoformat(contents["end"]),
        collections=stamp["collections"],
        scenes={product: tuple(ids) for product, ids in contents["scenes"].items()},
        superseded={product: (old, new) for product, (old, new) in contents["superseded"].items()},
        refused=contents["refused"],
        size_bytes=contents["size_bytes"],
    )


def _fill(
    root: Path,
    seed: int,
    size_m: int,
    scenes: Sequence[Observation],
    collections: dict[str, str],
    progress: Progress | None,
    workers: int | None,
) -> dict[str, Any]:
    """Write everything but the stamp; returns what the stamp shall say of it."""
    grounds = make_landscape(seed, size_m)
    items: dict[str, list[dict[str, Any]]] = {product: [] for product in collections}

    def one(seen: Observation) -> dict[str, Any]:
        return _write_scene(root, grounds[seen.zone], seen, seed, collections[seen.product])

    count = workers or min(2, os.cpu_count() or 1)
    with ThreadPoolExecutor(count, thread_name_prefix="sandbox") as pool:
        futures = [pool.submit(one, seen) for seen in scenes]
        try:
            for done, (seen, future) in enumerate(zip(scenes, futures, strict=True), 1):
                item = future.result()
                items[seen.product].append(item)
                if progress is not None:
                    progress(done, len(scenes), item["id"])
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    if "sentinel-1-grd" in collections:
        store(root, TERRAIN, terrain_model(grounds))
    write_labels(root, [(ground.grid, ground.labels) for ground in grounds], seed)
    for collection in dict.fromkeys(collections.values()):
        sharing = [product for product, own in collections.items() if own == collection]
        documents = [item for product in sharing for item in items[product]]
        write_ndjson(root / "items" / f"{collection}.ndjson", documents)
        write_json(
            root / "collections" / f"{collection}.json", make_collection(sharing, collection, documents)
        )
    boxes = np.array([item["bbox"] for documents in items.values() for item in documents])
    roles = {(seen.product, seen.role): scene_id(seen) for seen in scenes}
    return {
        "bbox": [*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist()],
        "start": min(seen.when for seen in scenes).date().isoformat(),
        "end": max(seen.when for seen in scenes).date().isoformat(),
        "scenes": {product: [item["id"] for item in documents] for product, documents in items.items()},
        "superseded": {
            product: [roles[product, "superseded"], roles[product, "reprocessed"]] for product in collections
        },
        "refused": {product: roles[product, "refused"] for product in collections},
        "size_bytes": sum(path.stat().st_size for path in root.rglob("*") if path.is_file()),
    }


def _write_scene(root: Path, ground: Ground, seen: Observation, seed: int, collection: str) -> dict[str, Any]:
    picture, sun = simulate_scene(ground, seen, seed)
    name = scene_id(seen)
    files = {
        key: store(root, f"/assets/{collection}/{name}/{key}.tif", raster)
        for key, raster in picture.rasters.items()
    }
    for key, document in picture.documents.items():
        files[key] = store_document(root, f"/assets/{collection}/{name}/{document.name}", document)
    return make_item(Described(seen, name, collection, ground.grid, picture, files, sun))


def simulate_scene(
    ground: Ground, seen: Observation, seed: int, truth: dict[str, Array] | None = None
) -> tuple[Picture, Sun]:
    """One scene's pixels; versions of one observation share sky and noise.

    ``truth`` is filled with the physical values that its numbers were made from, by asset as the sensor names
    them: ``(y, x)``, EnMAP's image ``(band, y, x)``.
    """
    rng = np.random.default_rng([seed, zlib.crc32("|".join(map(str, seen.truth)).encode())])
    sun = scene_sun(ground, seen)
    day = weather(seen.when, seen.snow_line_m)
    if seen.product == "sentinel-1-rtc":
        return sentinel1.simulate(ground, seen, day, rng, truth), sun
    if seen.product == "sentinel-1-grd":
        return sentinel1_grd.simulate(ground, seen, day, rng, truth), sun
    light = scene_light(ground, seen, rng)
    if seen.product == "sentinel-2-l2a":
        return sentinel2.simulate(ground, light, seen, rng, truth), sun
    if seen.product == "sentinel-2-l1c":
        return sentinel2_level_1c.simulate(ground, light, seen, sun.elevation, rng, truth), sun
    if seen.product.endswith("-toa"):
        return landsat_level_1.simulate(ground, light, seen, day, sun, rng, truth), sun
    if seen.product.startswith("landsat-"):
        return landsat.simulate(ground, light, seen, day, sun.elevation, rng, truth), sun
    return enmap.simulate(ground, light, seen, sun.elevation, rng, truth), sun


def scene_sun(ground: Ground, seen: Observation) -> Sun:
    """The sun over the middle of the square."""
    west, south, east, north = ground.grid.bounds
    to_degrees = Transformer.from_crs(ground.grid.epsg, 4326, always_xy=True)
    longitude, _ = to_degrees.transform((west + east) / 2, (south + north) / 2)
    return sun_position(seen.when, longitude, CENTRE_LATITUDE)


def scene_light(ground: Ground, seen: Observation, rng: np.random.Generator, *, clear: bool = False) -> Light:
    """The light of one scene; ``clear`` leaves the clouds away."""
    sun = scene_sun(ground, seen)
    request = SkyRequest() if clear else seen.sky
    if request.cloud > 0:
        # Clouds are no larger than the simulated ground can hold.
        side = ground.shape[0] * 10.0
        request = replace(request, cell_m=min(request.cell_m, side / 3))
    sky = make_sky(request, ground.shape, sun, rng)
    return shine(ground, weather(seen.when, seen.snow_line_m), sun, sky)
