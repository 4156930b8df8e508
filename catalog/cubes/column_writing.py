"""Appends the columns and tables of samples whose pixels are written: one value, or one row, per sample."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import zarr

from catalog.cubes import layout
from catalog.cubes.columns import CHUNK, LATER
from catalog.cubes.spool import Spooled
from catalog.products.model import Product

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def write_columns(group: zarr.Group, product: Product, new: list[Spooled]) -> None:
    """Append one entry per sample of ``new``, in this order, to every array but the pixels."""
    held = layout.array(group, "sample").shape[0]
    for name in LATER:
        if name not in group:
            layout.create_column(group, name, held)
    for name in layout.CALIBRATION:
        if name not in group and any(name in item.calibration for item in new):
            layout.create_calibration(group, product, name, held)
    # By the longest chunks, so that no more than one of them is in memory, and none is written twice.
    length, start = CHUNK, 0
    while start < len(new):
        stop = min(len(new), start + length - (held + start) % length)
        layout.append_rows(group, _columns(group, product, new[start:stop]))
        start = stop


def _columns(group: zarr.Group, product: Product, new: list[Spooled]) -> dict[str, Any]:
    """Values of every column for some samples."""
    rows: dict[str, Any] = {
        "sample": [item.id for item in new],
        "location": [item.location for item in new],
        "scene": [item.scene for item in new],
        "time": [(item.sensed - EPOCH) // timedelta(microseconds=1) for item in new],
        "epsg": [item.epsg for item in new],
        "resampled": [item.resampled for item in new],
        "position_error_m": [item.position_error_m for item in new],
        "nodata_fraction": [item.nodata_fraction for item in new],
        "cloud_fraction": [item.cloud_fraction for item in new],
        "sha256": [item.sha256 for item in new],
        "superseded_by": [""] * len(new),
    }
    for gsd in product.resolutions_m:
        rows[layout.affine_name(gsd)] = [item.affines[gsd] for item in new]
    absent = np.full(len(product.bands), np.nan)
    for name in layout.CALIBRATION:
        if name in group:
            rows[name] = np.stack([item.calibration.get(name, absent) for item in new])
    return rows
