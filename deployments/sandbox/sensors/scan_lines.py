"""The stripes that Landsat 7 has not seen since its scan line corrector failed on 31 May 2003."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from catalog.grids import Grid
from deployments.sandbox.observation import Observation
from deployments.sandbox.plan_landsat import SLC_OFF

PERIOD_PX = 16.0
"""Lines of one forward and backward scan. A real scene has 33, and gaps of up to 14 lines: narrower ones fit
more than one into the smallest sandbox."""
WIDEST_PX = 6.0
"""Gap at the edge of the swath; in its middle there is none."""
MIDDLE = -0.35
"""Where the middle of the swath lies, as a share of the square's width from its centre."""
TILT_DEG = 9.0
"""Of the scan lines against the grid, as the orbit is inclined."""


def missing_lines(seen: Observation, grid: Grid, place: int) -> NDArray[np.bool_]:
    """True where one band of a scene holds nothing, ``(y, x)``; ``place`` is the band's among the files.

    The bands look a line or so apart, so their gaps do not quite coincide.
    """
    if seen.platform != "landsat-7" or seen.when < SLC_OFF:
        return np.zeros(grid.shape, np.bool_)
    rows, cols = grid.shape
    step = grid.resolution[0] / 30.0
    y = (np.arange(rows)[:, None] + 0.5) * step
    x = (np.arange(cols)[None, :] + 0.5) * step
    width = cols * step
    along = y + x * math.tan(math.radians(TILT_DEG)) + 0.4 * (place % 3)
    off_middle = np.abs(x / width - 0.5 - MIDDLE) / (0.5 + abs(MIDDLE))
    return np.asarray(np.mod(along, PERIOD_PX) < WIDEST_PX * off_middle)
