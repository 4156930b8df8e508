"""What a cube refuses: samples, shapes and places that do not fit what it holds."""

from __future__ import annotations

import math

import numpy as np
import zarr

from catalog.cubes import layout
from catalog.cubes.spool import Spool
from catalog.errors import CubeError
from catalog.products.model import Product, array_name
from catalog.samples import Location, Sample


def check_sample(product: Product, sample: Sample) -> None:
    """Refuse what would not be stored bit for bit."""
    reasons = []
    bands = len(product.bands)
    if sample.product != product.id:
        reasons.append(f"it is of {sample.product}, not {product.id}")
    if set(sample.pixels) != set(product.resolutions_m) or set(sample.affines) != set(product.resolutions_m):
        reasons.append(f"it needs pixels and affines at {product.resolutions_m} m")
    for gsd, values in sample.pixels.items():
        if values.dtype.newbyteorder("=") != np.dtype(product.dtype):
            reasons.append(f"pixels at {gsd:g} m are {values.dtype}, not {product.dtype}")
        if values.ndim != 3 or values.shape[0] != len(product.bands_at(gsd)):
            reasons.append(f"pixels at {gsd:g} m have shape {values.shape}, not (band, y, x)")
    if sample.quality.dtype != np.uint8 or sample.quality.ndim != 2:
        reasons.append("quality is not uint8 (y, x)")
    for name in layout.CALIBRATION:
        values = getattr(sample, name)
        if not (values is None and name in layout.OPTIONAL) and np.shape(values) != (bands,):
            reasons.append(f"{name} needs one value per band")
    if sample.sensed.tzinfo is None:
        reasons.append("its sensing time has no time zone")
    if reasons:
        raise CubeError(
            "sample-mismatch",
            "; ".join(reasons),
            subject=sample.id,
            next_step="the reader that made the sample is at fault; report it",
        )


def check_shapes(group: zarr.Group, product: Product, spool: Spool) -> None:
    """Refuse samples of another size than those of the cube."""
    held = {
        gsd: layout.array(group, "quality" if gsd is None else array_name(gsd)).shape[1:]
        for gsd in (*product.resolutions_m, None)
    }
    for item in spool:
        for gsd, shape in held.items():
            if item.shape(gsd) != shape:
                raise CubeError(
                    "sample-mismatch",
                    f"shape {item.shape(gsd)} where the cube's samples have {shape}",
                    subject=item.id,
                    next_step="a cube's samples have one size; use a new cube for another size",
                )


def check_unchanged(known: Location, location: Location) -> None:
    """Refuse a place that means something else than the one of this id in the cube."""
    exact = ("epsg", "split", "block")
    close = {"x": 0.01, "y": 0.01, "size_m": 0.01}
    changed = [name for name in exact if getattr(known, name) != getattr(location, name)]
    changed += [
        name
        for name, metres in close.items()
        if not math.isclose(getattr(known, name), getattr(location, name), rel_tol=0, abs_tol=metres)
    ]
    if changed:
        raise CubeError(
            "location-changed",
            f"its {', '.join(changed)} differ from what the cube holds",
            subject=location.id,
            next_step="a location keeps its place and split; sample under a new id, or start a new cube",
        )
