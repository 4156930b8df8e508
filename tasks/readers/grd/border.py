"""Border noise: pixels at the edges of a ground-range scene that hold a value and were never measured.

The first and last columns and lines of Sentinel-1 scenes, above all of those processed before March 2018,
carry small numbers instead of nodata. Every pixel that was measured holds at least the instrument's thermal
noise; one whose neighbourhood lies clearly below it was not. Calm water does not: its echo comes on top.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

REACH_PX = 500
"""How far from the raster's edge border noise is looked for; other tools look as far."""
BOX_PX = 9
"""Side of the neighbourhood: 81 pixels of 4.4 looks vary by a few per cent."""
FLOOR = 0.5
"""Share of the thermal noise below which a neighbourhood was not measured."""


def border_noise(
    dn: NDArray[Any],
    noise: NDArray[Any],
    first: tuple[int, int],
    raster: tuple[int, int],
    *,
    box_px: int = BOX_PX,
) -> NDArray[np.bool_]:
    """Where ``dn (line, pixel)`` holds no measurement: nodata, and noise that hangs together with an edge.

    Parameters
    ----------
    noise:  thermal noise in squared digital numbers, same shape
    first:  (line, pixel) of the first value in the raster
    raster: (lines, pixels) of the raster; an edge is its edge, or a block of zeros
    """
    from scipy.ndimage import binary_dilation, binary_erosion, label, uniform_filter

    zero = np.asarray(dn == 0)
    power = np.square(dn, dtype=np.float32)
    mean = uniform_filter(power, box_px, mode="nearest")
    floor = FLOOR * uniform_filter(noise.astype(np.float32), box_px, mode="nearest")
    quiet = (mean < floor) | zero
    if not quiet.any():
        return zero
    edges = binary_erosion(zero, np.ones((5, 5), bool))
    if first[0] == 0:
        edges[0] = True
    if first[0] + dn.shape[0] >= raster[0]:
        edges[-1] = True
    if first[1] == 0:
        edges[:, 0] = True
    if first[1] + dn.shape[1] >= raster[1]:
        edges[:, -1] = True
    parts, count = label(quiet)
    if not count:
        return zero
    touching = np.zeros(count + 1, bool)
    touching[np.unique(parts[edges & quiet])] = True
    touching[0] = False
    found = touching[parts]
    if found.any():
        # The neighbourhood of the last noisy pixels holds measured ones already, which hides them.
        side = 2 * (box_px // 2 + 1) + 1
        found = binary_dilation(found, np.ones((side, side), bool))
    return np.asarray(found | zero)
