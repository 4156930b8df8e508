"""Which places are on land.

From the grid of 30 arc seconds (about 1 km) that the package ``global-land-mask`` ships: what NOAA's GLOBE
elevation model holds as land, in 2.5 MB; lakes count as land. The packages with coastlines (regionmask,
cartopy, geodatasets) fetch them from the web when they are first used, and one that brings a finer coastline
along weighs 100 MB. Only the package's data file is read, and one bit kept of each cell: its own module takes
0.9 GB of memory when it is imported.
"""

from __future__ import annotations

import importlib.util
import math
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROWS, COLUMNS, PER_DEGREE = 21_600, 43_200, 120
BAND_DEG = 15
"""Latitudes are read in bands of so many degrees."""


def on_land(longitude: NDArray[np.float64], latitude: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each place (degrees) is on land; exact to about 1 km."""
    import numpy as np

    land = np.zeros(len(longitude), np.bool_)
    if len(longitude) == 0:
        return land
    row = np.clip(np.floor((90.0 - latitude) * PER_DEGREE), 0, ROWS - 1).astype(np.int64)
    column = np.floor((longitude + 180.0) * PER_DEGREE).astype(np.int64) % COLUMNS
    step = BAND_DEG * PER_DEGREE
    wanted = np.unique(row // step).tolist()
    if not set(wanted) <= _BANDS.keys():
        _BANDS.update(_read_bands(wanted[0], wanted[-1]))
    for band in wanted:
        packed = _BANDS[band]
        here = np.flatnonzero(row // step == band)
        cells = packed[row[here] - band * step, column[here] // 8]
        land[here] = (cells >> (7 - column[here] % 8).astype(np.uint8)) & 1 == 0
    return land


_BANDS: dict[int, NDArray[np.uint8]] = {}
"""What was read before; the whole world takes 117 MB."""


def _read_bands(first: int, last: int) -> dict[int, NDArray[np.uint8]]:
    """Bands of the mask, eight cells to a byte, 1 at sea; two seconds for the whole world."""
    import numpy as np

    found = importlib.util.find_spec("global_land_mask")
    assert found is not None and found.submodule_search_locations
    path = Path(found.submodule_search_locations[0]) / "globe_combined_mask_compressed.npz"
    step = BAND_DEG * PER_DEGREE
    with zipfile.ZipFile(path) as archive, archive.open("mask.npy") as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        assert shape == (ROWS, COLUMNS) and dtype == np.bool_ and math.prod(shape) == ROWS * COLUMNS
        bands = {}
        for band in range(last + 1):
            rows = []
            for _ in range(step // 100):
                values = file.read(100 * COLUMNS)
                if band >= first:
                    part = np.frombuffer(values, np.uint8).reshape(100, COLUMNS)
                    rows.append(np.packbits(part, axis=1))
            if band >= first:
                bands[band] = np.concatenate(rows)
    return bands
