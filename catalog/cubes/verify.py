"""Re-reads a snapshot and says where it is not what was written."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.cubes import layout
from catalog.cubes.reader import SnapshotReader
from catalog.errors import CubeError
from catalog.products.model import Product, array_name
from catalog.samples import pixels_sha256


def verify(reader: SnapshotReader) -> list[str]:
    """Problems of a snapshot, one line each; none for a sound one.

    Every sample's pixels are read and compared with their SHA-256, one chunk at a time. Everything else is
    read too, so that a broken checksum of a chunk shows: flags, columns, tables, band coordinates, locations
    and scenes; what refers to something else is followed.

    Raises
    ------
    CubeError: ``store-unreachable``; then nothing is known of what was not read.
    """
    problems: list[str] = []
    try:
        products = reader.products()
        locations = {location.id for location in reader.locations()}
    except CubeError as error:
        return [_damage(error)]
    for name, product in products.items():
        if "sample" in reader.group(name):
            problems += _structure(reader, product)
            problems += _coordinates(reader, product)
            problems += _references(reader, product, locations)
            problems += _scene_list(reader, product)
            problems += _pixels(reader, product)
    return problems


def _structure(reader: SnapshotReader, product: Product) -> list[str]:
    """Missing and orphan arrays, and arrays whose lengths differ along ``sample``."""
    group = reader.group(product.id)
    expected = layout.sample_arrays(product)
    length = reader.length(product.id)
    problems = []
    present = {}
    for name, item in group.arrays():
        dimensions = item.metadata.dimension_names or ()  # type: ignore[union-attr]
        if dimensions and dimensions[0] == "sample":
            present[name] = int(item.shape[0])
    for name in sorted(expected - set(present) - set(layout.OPTIONAL)):
        problems.append(f"{product.id}/{name}: missing")
    for name in sorted(set(present) - expected):
        problems.append(f"{product.id}/{name}: orphan column, not part of the layout")
    for name, held in sorted(present.items()):
        if held != length:
            problems.append(f"{product.id}/{name}: {held} entries for {length} samples")
    return problems


def _coordinates(reader: SnapshotReader, product: Product) -> list[str]:
    """Band names and wavelengths that are not those of the product's definition."""
    problems = []
    for gsd in (None, *product.resolutions_m):
        for name, (expected, _, _) in layout.band_coordinates(product, gsd).items():
            try:
                found = reader.whole(product.id, name)
            except CubeError as error:
                problems.append(error.message)
                continue
            same = found.shape == (len(expected),) and all(
                one == other or (one != one and other != other)
                for one, other in zip(found.tolist(), expected, strict=True)
            )
            if not same:
                problems.append(f"{product.id}/{name}: not what the product's definition says")
    return problems


def _scene_list(reader: SnapshotReader, product: Product) -> list[str]:
    """Entries of the list of scenes whose id and document differ."""
    try:
        listed = reader.whole(product.id, f"{layout.SCENES}/scene").tolist()
        documents = list(reader.scenes(product.id))
    except CubeError as error:
        return [error.message]
    if listed == documents:
        return []
    return [f"{product.id}/{layout.SCENES}: ids and documents differ"]


def _references(reader: SnapshotReader, product: Product, locations: set[str]) -> list[str]:
    """Samples that are there twice, or that name a scene or location the cube does not list."""
    try:
        columns = reader.columns(product.id)
        scenes = set(reader.scenes(product.id))
    except CubeError as error:
        return [_damage(error)]
    problems = [
        f"{sample}: there {count} times" for sample, count in Counter(columns["sample"]).items() if count > 1
    ]
    for sample, scene, location in zip(columns["sample"], columns["scene"], columns["location"], strict=True):
        if sample != f"{product.id}/{scene}/{location}":
            problems.append(f"{sample}: its scene {scene} and location {location} are another sample's")
        if scene not in scenes:
            problems.append(f"{sample}: its scene is not listed in the cube")
        if location not in locations:
            problems.append(f"{sample}: its location is not listed in the cube")
    problems += [
        f"{product.id}/{scene}: listed without a sample" for scene in sorted(scenes - set(columns["scene"]))
    ]
    return problems


def _pixels(reader: SnapshotReader, product: Product) -> list[str]:
    problems = []
    length = reader.length(product.id)
    tables = [*layout.CALIBRATION, *(layout.affine_name(gsd) for gsd in product.resolutions_m)]
    for name in (name for name in tables if name in reader.group(product.id)):
        try:
            reader.rows_of(product.id, name, np.arange(length))
        except CubeError as error:
            problems.append(_damage(error))
    try:
        samples = reader.columns(product.id)[["sample", "sha256"]].to_numpy()
        step = reader.array(product.id, array_name(product.resolutions_m[0])).chunks[0]
    except CubeError as error:
        _damage(error)
        return problems  # said by the checks above
    for start in range(0, length, step):
        rows = np.arange(start, min(start + step, length))
        pixels: dict[float, NDArray[Any]] = {}
        try:
            reader.rows_of(product.id, "quality", rows)
            for gsd in product.resolutions_m:
                pixels[gsd] = reader.pixels(product.id, gsd, rows)
        except CubeError as error:
            problems.append(_damage(error))
            continue
        for row, (sample, digest) in zip(rows, samples[rows], strict=True):
            found = pixels_sha256({gsd: values[row - start] for gsd, values in pixels.items()})
            if found != digest:
                problems.append(f"{sample}: its pixels are not those that were written (row {row})")
    return problems


def _damage(error: CubeError) -> str:
    """What a problem says of the snapshot; a store that does not answer says nothing of it and is raised."""
    if error.code == "store-unreachable":
        raise error
    return error.message
