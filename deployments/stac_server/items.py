"""STAC items and collections over raster files, in Planetary Computer's spelling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from catalog.errors import UsageError
from catalog.grids import Affine
from catalog.products.model import Product

GEOTIFF = "image/tiff; application=geotiff"


@dataclass(frozen=True)
class RasterHeader:
    """What a file's header says."""

    epsg: int | None
    affine: Affine
    shape: tuple[int, int]
    count: int
    dtype: str
    nodata: float | None
    driver: str
    size_bytes: int
    wavelengths_nm: tuple[tuple[float, float], ...] = ()
    """(centre, full width at half maximum) per band, where the band tags give them."""


@dataclass(frozen=True)
class AssetFile:
    """One file of a scene."""

    key: str
    href: str
    header: RasterHeader


def read_header(path: Path, *, wavelengths: bool = False) -> RasterHeader:
    """Open a raster and read its header.

    Raises
    ------
    UsageError: it is no raster that GDAL opens.
    """
    import rasterio

    try:
        with rasterio.open(path) as opened:
            return RasterHeader(
                epsg=opened.crs.to_epsg() if opened.crs else None,
                affine=tuple(opened.transform)[:6],
                shape=(opened.height, opened.width),
                count=opened.count,
                dtype=opened.dtypes[0],
                nodata=opened.nodata,
                driver=opened.driver,
                size_bytes=path.stat().st_size,
                wavelengths_nm=_wavelengths(opened) if wavelengths else (),
            )
    except rasterio.errors.RasterioIOError as error:
        raise UsageError(
            "unreadable-file",
            str(error),
            subject=str(path),
            next_step="repair it, or leave it out of `files`",
        ) from error


def _wavelengths(opened: Any) -> tuple[tuple[float, float], ...]:
    found = []
    for index in opened.indexes:
        tags = opened.tags(index)
        if tags.get("wavelength_units", "Nanometers").lower() != "nanometers" or "wavelength" not in tags:
            return ()
        found.append((float(tags["wavelength"]), float(tags["fwhm"])))
    return tuple(found)


def check_asset(header: RasterHeader, product: Product, key: str, path: Path) -> None:
    """A file can be served as it is if windows of it can be read by range and are what the product says.

    Raises
    ------
    UsageError: naming the file and what to do with it.
    """
    reasons = []
    if header.driver != "GTiff":
        reasons.append(f"it is {header.driver}, not GeoTIFF")
    if header.epsg is None:
        reasons.append("it has no CRS with an EPSG code")
    bands = asset_bands(product, key)
    if bands and header.count != len(bands):
        reasons.append(f"it has {header.count} bands, {key} of {product.id} has {len(bands)}")
    if bands and header.dtype != product.dtype:
        reasons.append(f"it holds {header.dtype}, {product.id} {product.dtype}")
    if reasons:
        raise UsageError(
            "cannot-serve-as-is",
            "; ".join(reasons),
            subject=str(path),
            next_step="name a conversion in the rule's `convert`, or another product",
        )


def asset_bands(product: Product, key: str) -> tuple[str, ...]:
    """Bands of the product in the asset, in file order; none for a quality layer."""
    if product.multiband_asset is not None and key == product.multiband_asset:
        return product.band_names
    return tuple(band.name for band in product.bands if key in (band.asset or band.name, *band.aliases))


def build_item(
    scene_id: str,
    product: Product,
    sensed: datetime,
    files: list[AssetFile],
    properties: Mapping[str, Any],
    more_assets: Mapping[str, dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """A STAC item; the footprint is the rectangle of its finest band. ``more_assets`` are no rasters."""
    finest = max(files, key=lambda file: file.header.shape[0] * file.header.shape[1]).header
    geometry, bbox = footprint(finest)
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [
            f"https://stac-extensions.github.io/{name}/schema.json"
            for name in ("projection/v1.1.0", "eo/v1.1.0", "view/v1.0.0")
        ],
        "id": scene_id,
        "collection": product.id,
        "geometry": geometry,
        "bbox": bbox,
        "properties": {
            "datetime": sensed.isoformat().replace("+00:00", "Z"),
            "proj:epsg": finest.epsg,
            **properties,
        },
        "links": [],
        "assets": {
            **{file.key: _asset(file, product) for file in sorted(files, key=lambda file: file.key)},
            **(more_assets or {}),
        },
    }


def _asset(file: AssetFile, product: Product) -> dict[str, Any]:
    header = file.header
    names = asset_bands(product, file.key)
    asset: dict[str, Any] = {
        "href": file.href,
        "type": GEOTIFF,
        "roles": ["data"] if names else ["data-mask"],
        "file:size": header.size_bytes,
        "proj:epsg": header.epsg,
        "proj:shape": list(header.shape),
        "proj:transform": list(header.affine),
    }
    if names and header.wavelengths_nm:
        # The file's own wavelengths, which may differ from the product's: micrometres, as STAC wants them.
        asset["eo:bands"] = [
            {
                "name": name,
                "center_wavelength": round(centre / 1000, 7),
                "full_width_half_max": round(width / 1000, 7),
            }
            for name, (centre, width) in zip(names, header.wavelengths_nm, strict=True)
        ]
    elif names:
        asset["eo:bands"] = [_band(product, name) for name in names]
    return asset


def _band(product: Product, name: str) -> dict[str, Any]:
    band = product.band(name)
    document: dict[str, Any] = {"name": name, "gsd": band.gsd_m}
    if band.common_name:
        document["common_name"] = band.common_name
    if band.center_nm:
        document["center_wavelength"] = round(band.center_nm / 1000, 7)
    if band.fwhm_nm:
        document["full_width_half_max"] = round(band.fwhm_nm / 1000, 7)
    return document


def footprint(header: RasterHeader) -> tuple[dict[str, Any], list[float]]:
    """The raster's rectangle in degrees, its sides followed with 20 points each, and its bounding box."""
    from pyproj import Transformer

    height, width = header.shape
    a, b, c, d, e, f = header.affine
    along = np.linspace(0, 1, 21)[:-1]
    columns = np.concatenate([along * width, np.full(20, width), (1 - along) * width, np.zeros(20)])
    rows = np.concatenate([np.full(20, height), (1 - along) * height, np.zeros(20), along * height])
    x, y = a * columns + b * rows + c, d * columns + e * rows + f
    longitude, latitude = Transformer.from_crs(header.epsg, 4326, always_xy=True).transform(x, y)
    ring = [[round(float(p), 7), round(float(q), 7)] for p, q in zip(longitude, latitude, strict=True)]
    ring.append(ring[0])
    bbox = [
        *(min(point[0] for point in ring), min(point[1] for point in ring)),
        *(max(point[0] for point in ring), max(point[1] for point in ring)),
    ]
    return {"type": "Polygon", "coordinates": [ring]}, bbox


def build_collection(
    product: Product, items: list[dict[str, Any]], *, title: str, licence: str, attribution: str, caveat: str
) -> dict[str, Any]:
    """The STAC collection of one product's items."""
    boxes = [item["bbox"] for item in items]
    times = sorted(item["properties"]["datetime"] for item in items)
    lows = [min(box[axis] for box in boxes) for axis in (0, 1)]
    highs = [max(box[axis] for box in boxes) for axis in (2, 3)]
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "id": product.id,
        "title": f"{product.title}: {title}",
        "description": caveat or product.title,
        "license": "other",
        "swath:licence": licence,
        "swath:attribution": attribution,
        "providers": [{"name": attribution, "roles": ["producer"]}],
        "extent": {
            "spatial": {"bbox": [[*lows, *highs]]},
            "temporal": {"interval": [[times[0], times[-1]]]},
        },
        "summaries": {"platform": sorted({item["properties"]["platform"] for item in items})},
        "links": [],
    }
