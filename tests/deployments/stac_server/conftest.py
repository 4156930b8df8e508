"""A small archive folder with real GeoTIFFs, served by a real process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio

from deployments.stac_server import ArchiveServer, serve_archive

SCENES = 23


def write_raster(
    path: Path, values: np.ndarray, *, epsg: int | None = 32631, nodata: float | None = 0
) -> None:
    """``(band, y, x)`` as a plain GeoTIFF, 10 m pixels, upper-left corner at 500000, 5600000."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = values.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        dtype=values.dtype.name,
        count=count,
        height=height,
        width=width,
        crs=epsg and f"EPSG:{epsg}",
        transform=rasterio.Affine(10, 0, 500000, 0, -10, 5600000),
        nodata=nodata,
    ) as opened:
        opened.write(values)


def make_item(number: int, collection: str = "optical") -> dict[str, object]:
    """A scene one degree wide at longitude ``number``, sensed on day ``number + 1`` of 2024."""
    west = float(number)
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": f"{collection}-{number:02d}",
        "collection": collection,
        "geometry": {
            "type": "Polygon",
            "coordinates": [[[west, 0], [west + 1, 0], [west + 1, 1], [west, 1], [west, 0]]],
        },
        "bbox": [west, 0, west + 1, 1],
        "properties": {
            "datetime": f"2024-01-{number + 1:02d}T10:00:00Z",
            "platform": "sentinel-2a" if number % 2 else "Sentinel-2B",
            "eo:cloud_cover": (number * 7) % SCENES,
        },
        "links": [{"rel": "self", "href": "https://elsewhere.example/old"}],
        "assets": {"B02": {"href": "/assets/optical/B02.tif", "type": "image/tiff"}},
    }


def write_archive_folder(folder: Path) -> Path:
    """Two collections, one of them with an item whose cloud cover is missing."""
    values = np.random.default_rng(3).integers(1, 10000, (1, 300, 200)).astype("uint16")
    write_raster(folder / "assets" / "optical" / "B02.tif", values)
    (folder / "items").mkdir(parents=True)
    items = [make_item(number) for number in range(SCENES)]
    lines = "".join(f"{json.dumps(item)}\n" for item in items)
    (folder / "items" / "optical.ndjson").write_text(lines, encoding="utf-8")
    radar = make_item(0, "radar")
    radar["properties"] = {"datetime": "2024-01-05T17:30:00Z", "platform": "sentinel-1a"}
    (folder / "items" / "radar.ndjson").write_text(f"{json.dumps(radar)}\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="package")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArchiveServer]:
    """A server over ``write_archive_folder``."""
    with serve_archive(write_archive_folder(tmp_path_factory.mktemp("archive"))) as server:
        yield server
