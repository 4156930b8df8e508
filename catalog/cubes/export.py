"""Copies a snapshot out of its cube, for programs that know no Icechunk: plain Zarr, or GeoTIFFs.

A plain Zarr v3 folder (or ``.zip``) holds the very chunks of the cube, with columns, attributes, locations
and scenes. The GeoTIFF layout is that of common self-supervised sets, one small file per band::

    PATH/samples.csv                       one row per sample: every column, the place, the split, the folder
    PATH/PRODUCT/scenes.json               every scene with its unsigned addresses
    PATH/PRODUCT/LOCATION/DATE/BAND.tif    raw pixels with CRS, affine, nodata, scale and offset
    PATH/PRODUCT/LOCATION/DATE/quality.tif
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import LocalStore, ZipStore

from catalog.cubes import layout
from catalog.cubes.reader import SnapshotReader
from catalog.errors import CubeError, UsageError
from catalog.grids import Affine
from catalog.products.model import Product
from catalog.quality import FLAGS

if TYPE_CHECKING:
    import pandas as pd

Format = Literal["zarr", "geotiff"]
FORMATS: tuple[Format, ...] = ("zarr", "geotiff")
TABLE = "samples.csv"
SCENES = "scenes.json"


@dataclass(frozen=True)
class Exported:
    """What an export wrote."""

    path: Path
    snapshot: str
    samples: dict[str, int]
    """By product."""
    files: int
    """GeoTIFFs; for Zarr: objects."""


def export(
    reader: SnapshotReader, to: Path, *, product: str | None = None, format: Format = "zarr"
) -> Exported:
    """Copy a snapshot, or one product of it, to a path that does not exist yet.

    It appears there whole, or not at all. GeoTIFFs leave superseded samples out: the layout has no place for
    two versions of one observation.

    Raises
    ------
    UsageError: ``path-taken``.
    CubeError: ``product-not-in-cube``, ``unreadable-chunk``.
    """
    if to.exists():
        raise UsageError(
            "path-taken", "there is something already", subject=str(to), next_step="name a path that is free"
        )
    names = [product] if product is not None else list(reader.products())
    for name in names:
        reader.group(name)
    with _appearing(to) as partial:
        if format == "zarr":
            samples = {name: reader.length(name) for name in names}
            files = sync(_copy(reader, partial, names))
        else:
            samples, files = _write_tiffs(reader, partial, names)
    return Exported(to, reader.snapshot, samples, files)


@contextmanager
def _appearing(to: Path) -> Iterator[Path]:
    """A path beside ``to`` that becomes it if the block ends well, and vanishes if not."""
    to.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(mkdtemp(prefix=f".{to.name}-", dir=to.parent))
    try:
        yield scratch / to.name
        (scratch / to.name).rename(to)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


async def _copy(reader: SnapshotReader, to: Path, names: list[str]) -> int:
    """Every object as it is stored: nothing is decoded, so nothing can change."""
    target: Store = ZipStore(to, mode="w") if to.suffix == ".zip" else LocalStore(to)
    root = json.loads(await _stored(reader, "zarr.json"))
    root["attributes"] |= {"cube": reader.cube, "snapshot": reader.snapshot}
    await target.set("zarr.json", _buffer(json.dumps(root, indent=1).encode()))
    count = 1
    async for key in _keys(reader, names):
        await target.set(key, _buffer(await _stored(reader, key)))
        count += 1
    target.close()
    return count


async def _keys(reader: SnapshotReader, names: list[str]) -> AsyncIterator[str]:
    for prefix in (layout.LOCATIONS, *names):
        async for key in reader.store.list_prefix(f"{prefix}/"):
            yield key


async def _stored(reader: SnapshotReader, key: str) -> bytes:
    try:
        found = await reader.store.get(key, default_buffer_prototype())
    except Exception as error:
        raise _unreadable(reader, key, str(error)) from error
    if found is None:
        raise _unreadable(reader, key, "it is listed, but not there")
    return found.to_bytes()


def _buffer(content: bytes) -> Buffer:
    return default_buffer_prototype().buffer.from_bytes(content)


def _unreadable(reader: SnapshotReader, key: str, reason: str) -> CubeError:
    return CubeError(
        "unreadable-chunk",
        f"{key} cannot be read: {(reason.splitlines() or [''])[0]}",
        subject=reader.cube,
        next_step=f"list the damage with `swath cubes verify {reader.cube}`",
    )


def _write_tiffs(reader: SnapshotReader, to: Path, names: list[str]) -> tuple[dict[str, int], int]:
    places = {location.id: location for location in reader.locations()}
    samples, files = {}, 0
    to.mkdir()
    with (to / TABLE).open("w", newline="", encoding="utf-8") as opened:
        table: csv.DictWriter[str] | None = None
        for name in names:
            product = reader.products()[name]
            columns = reader.columns(name)
            columns = columns[columns["superseded_by"] == ""].drop(columns="superseded_by")
            samples[name] = len(columns)
            (to / name).mkdir()
            scenes = {scene.id: scene.to_dict() for scene in reader.scenes(name).values()}
            (to / name / SCENES).write_text(json.dumps(scenes, indent=1, sort_keys=True), encoding="utf-8")
            for record in _written(reader, product, columns, to / name):
                place = places[record["location"]]
                row = {"product": name, **record, "longitude": place.longitude, "latitude": place.latitude}
                row |= {"split": place.split, "block": place.block}
                if table is None:
                    table = csv.DictWriter(opened, list(row))
                    table.writeheader()
                table.writerow(row)
                files += len(product.bands) + 1
    return samples, files


def _written(
    reader: SnapshotReader, product: Product, columns: pd.DataFrame, to: Path
) -> Iterator[dict[str, Any]]:
    """Write the samples of a product, chunk by chunk; yields each one's row of the table."""
    step = reader.array(product.id, "quality").chunks[0]
    for _, chunk in columns.groupby(columns["row"] // step, sort=True):
        rows = chunk["row"].to_numpy()
        pixels = {gsd: reader.pixels(product.id, gsd, rows) for gsd in product.resolutions_m}
        quality = reader.rows_of(product.id, "quality", rows)
        tables = {
            name: reader.table(product.id, name, rows)
            for name in (*layout.CALIBRATION, *(layout.affine_name(gsd) for gsd in product.resolutions_m))
            if name in reader.group(product.id)
        }
        for at, record in enumerate(chunk.drop(columns="row").to_dict("records")):
            folder = _free(to / record["location"], f"{record['time']:%Y%m%dT%H%M%S}")
            folder.mkdir(parents=True)
            one = {gsd: values[at] for gsd, values in pixels.items()}
            facts = {name: values[at] for name, values in tables.items()}
            _write_sample(folder, product, record, one, quality[at], facts)
            record["time"] = record["time"].isoformat()
            yield {
                **{str(key): value for key, value in record.items()},
                "folder": str(folder.relative_to(to.parent)),
            }


def _free(parent: Path, name: str) -> Path:
    """Two scenes may show a place in the same second: neighbours of one pass."""
    folder, number = parent / name, 1
    while folder.exists():
        number += 1
        folder = parent / f"{name}-{number}"
    return folder


def _write_sample(
    folder: Path,
    product: Product,
    record: dict[Any, Any],
    pixels: dict[float, NDArray[Any]],
    quality: NDArray[np.uint8],
    facts: dict[str, NDArray[np.float64]],
) -> None:
    tags = {key: str(record[key]) for key in ("sample", "scene", "sha256")}
    for gsd, values in pixels.items():
        affine = facts[layout.affine_name(gsd)]
        for band, plane in zip(product.bands_at(gsd), values, strict=True):
            at = product.band_names.index(band.name)
            numbers = {name: facts[name][at] for name in layout.CALIBRATION if name in facts}
            about = tags | {name: repr(float(value)) for name, value in numbers.items() if np.isfinite(value)}
            about |= {"conversion": layout.CONVERSIONS[product.radiometry.rule], "quantity": band.quantity}
            if band.center_nm is not None:
                about["center_nm"] = repr(band.center_nm)
            _write_tiff(folder / f"{band.name}.tif", plane, record["epsg"], affine, product.nodata, about)
    for gsd, values in pixels.items():
        if values.shape[1:] == quality.shape:
            affine = facts[layout.affine_name(gsd)]
            flags = dict(zip(("flag_masks", "flag_meanings"), _flags(), strict=True))
            _write_tiff(folder / "quality.tif", quality, record["epsg"], affine, None, tags | flags)
            return
    raise AssertionError(f"{product.id}: its quality layer has a grid of no band")


def _flags() -> tuple[str, str]:
    return ",".join(str(value) for value in FLAGS.values()), " ".join(FLAGS)


def _write_tiff(
    path: Path,
    plane: NDArray[Any],
    epsg: int,
    affine: NDArray[np.float64],
    nodata: float | None,
    tags: dict[str, str],
) -> None:
    import rasterio

    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=plane.shape[1],
        height=plane.shape[0],
        count=1,
        dtype=plane.dtype,
        crs=f"EPSG:{epsg}",
        transform=rasterio.Affine(*cast("Affine", tuple(affine.tolist()))),
        nodata=nodata,
        compress="DEFLATE",
        predictor=3 if plane.dtype.kind == "f" else 2,
    ) as file:
        file.write(plane, 1)
        file.update_tags(**tags)
