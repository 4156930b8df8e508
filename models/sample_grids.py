"""Where the pixels of samples lie on the ground, on the grid that an encoder sees them on."""

from __future__ import annotations

from typing import Any

import numpy as np

from catalog.grids import Grid
from catalog.products.model import Product


def sample_grids(
    cube: Any, product: Product, gsd_m: float, table: Any, side_px: int, snapshot: str
) -> list[Grid]:
    """Grid of each sample of ``table`` (rows of ``Cube.columns``) at ``gsd_m``, ``side_px`` pixels a side.

    Corner and orientation are those of the finest array the cube holds: bands are brought to ``gsd_m`` over
    the same ground when they are loaded.
    """
    native = product.resolutions_m[0]
    affines = np.asarray(cube.affine(product.id, native, table["row"].to_numpy(np.int64), snapshot), float)
    side_m = native_side_px(cube, product, table, snapshot) * native
    factor = side_m / side_px / native
    grids = []
    for (a, b, c, d, e, f), epsg in zip(affines.reshape(-1, 6), table["epsg"], strict=True):
        affine = (a * factor, b * factor, c, d * factor, e * factor, f)
        grids.append(Grid(int(epsg), affine, (side_px, side_px)))
    return grids


def native_side_px(cube: Any, product: Product, table: Any, snapshot: str) -> int:
    """Side of the first sample of ``table`` in the finest array the cube holds."""
    row = table["row"].to_numpy(np.int64)[:1]
    return int(cube.read(product.id, product.resolutions_m[0], row, snapshot).shape[-1])
