"""Made-up products and samples that cubes are tested with."""

from __future__ import annotations

import zlib
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from catalog.products.model import Band, GridConvention, Product, QualityLayer, Radiometry
from catalog.samples import Location, Sample
from catalog.scenes import Scene

SIZE_M = 240.0
START = datetime(2024, 3, 1, 10, 20, 30, 123456, tzinfo=UTC)


def product(
    name: str = "toy-optical",
    *,
    dtype: Any = "uint16",
    nodata: float | None = 0,
    gsds: tuple[float, ...] = (10.0, 20.0, 10.0),
    rule: Any = "linear",
) -> Product:
    """A product with one band per entry of ``gsds``."""
    return Product(
        id=name,
        title="Made up",
        sensor="toy",
        level="l2a",
        dtype=dtype,
        nodata=nodata,
        bands=tuple(
            Band(name=f"b{i}", gsd_m=gsd, quantity="reflectance", center_nm=450.0 + 50 * i, fwhm_nm=20.0)
            for i, gsd in enumerate(gsds)
        ),
        radiometry=Radiometry(rule=rule, scale=1e-4),
        grid=GridConvention(crs="utm"),
        qa=QualityLayer(kind="classes", gsd_m=max(gsds)),
    )


def location(number: int) -> Location:
    return Location(
        id=f"p{number:03d}",
        epsg=32633,
        x=500_000.0 + number * SIZE_M,
        y=5_400_000.0,
        size_m=SIZE_M,
        longitude=15.0 + number * 0.01,
        latitude=48.7,
        split="pretrain" if number % 3 else "test",
        block=f"k{number // 2}",
    )


def scene(number: int, of: Product) -> Scene:
    return Scene(
        id=f"scene-{number:03d}",
        product=of.id,
        archive="made-up",
        collection=of.id,
        platform="toy-1",
        sensed=START + timedelta(days=number),
        tile="33TOY",
        geometry={"type": "Point", "coordinates": [15.0, 48.7]},
        bbox=(14.9, 48.6, 15.1, 48.8),
        assets={},
        epsg=32633,
        licence="CC0-1.0",
    )


def sample(of: Product, scene_number: int, place_number: int, **changes: Any) -> Sample:
    """Pixels are noise, the same whenever the same sample is made."""
    rng = np.random.default_rng(zlib.crc32(f"{of.id}{scene_number}/{place_number}".encode()))
    dtype = np.dtype(of.dtype)

    def pixels(gsd: float) -> np.ndarray[Any, Any]:
        side = int(SIZE_M // gsd)
        shape = (len(of.bands_at(gsd)), side, side)
        if dtype.kind == "f":
            return rng.normal(size=shape).astype(dtype)
        return rng.integers(0, 100, shape).astype(dtype)

    where = location(place_number)
    coarsest = int(SIZE_M // max(of.resolutions_m))
    values: dict[str, Any] = {
        "product": of.id,
        "scene": f"scene-{scene_number:03d}",
        "location": where.id,
        "sensed": START + timedelta(days=scene_number),
        "epsg": where.epsg,
        "pixels": {gsd: pixels(gsd) for gsd in of.resolutions_m},
        "affines": {gsd: (gsd, 0.0, where.x, 0.0, -gsd, where.y) for gsd in of.resolutions_m},
        "quality": rng.integers(0, 128, (coarsest, coarsest)).astype(np.uint8),
        "scale": rng.uniform(1e-5, 1e-3, len(of.bands)),
        "offset": rng.uniform(-0.2, 0, len(of.bands)),
        "nodata_fraction": 0.25,
        "cloud_fraction": float("nan"),
    }
    return Sample(**(values | changes))
