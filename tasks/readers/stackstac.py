"""The ``stackstac`` reader: windows as one Dask graph over the scene's files (stackstac, GDAL).

Left to itself the library resamples, rescales, adds a row at the edges, reads ``proj:epsg`` only, and turns a
missing file into blank pixels. So everything is said: CRS, resolution and bounds, none of them snapped, the
data type, the fill value, no rescaling, and no error that counts as nodata.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.readers.gridded import (
    Address,
    LibraryFailed,
    LibraryReader,
    Piece,
    file_named,
    same_pixel_size,
)


def stackstac_reader(*, verify_checksums: bool = False) -> LibraryReader:
    """The reader by way of stackstac."""
    return LibraryReader("stackstac", load_pieces, multiband=False, verify_checksums=verify_checksums)


def load_pieces(
    pieces: Sequence[Piece], address: Address, options: Mapping[str, Any], threads: int
) -> list[NDArray[Any]]:
    """See ``tasks.readers.gridded.Load``: one array per window and data type, all of them in one graph."""
    from dask.base import compute
    from stackstac.rio_env import LayeredEnv
    from stackstac.rio_reader import DEFAULT_GDAL_ENV

    # It gives GDAL an option of rasterio's own, and GDAL says so at every file.
    logging.getLogger("rasterio._env").addFilter(_about_sharing)
    env: LayeredEnv = DEFAULT_GDAL_ENV.updated(always=dict(options))
    stacks, places = [], {}
    for number, together in enumerate(_alike(pieces)):
        stacks.append(_stack([pieces[index] for index in together], address, env))
        places.update({index: (number, band) for band, index in enumerate(together)})
    try:
        found = compute(*stacks, scheduler="threads", num_workers=threads)  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        # The library puts the address and the cause into one sentence.
        raise LibraryFailed(error.__cause__ or error, file_named(str(error))) from None
    return [found[number][band : band + 1] for number, band in (places[i] for i in range(len(pieces)))]


def _about_sharing(record: logging.LogRecord) -> bool:
    return "does not support option SHARING" not in record.getMessage()


def _alike(pieces: Sequence[Piece]) -> list[list[int]]:
    """Places in ``pieces`` of those that one array can hold: the same window, data type and fill value."""
    groups: dict[Any, list[int]] = {}
    for index, piece in enumerate(pieces):
        groups.setdefault((piece.target, piece.dtype, repr(piece.fill)), []).append(index)
    return list(groups.values())


def _stack(pieces: Sequence[Piece], address: Address, env: Any) -> Any:
    """A Dask array ``(band, y, x)`` of single-band files on one target grid."""
    import stackstac
    from rasterio.enums import Resampling

    target, dtype = pieces[0].target, np.dtype(pieces[0].dtype)
    assets = {
        f"{number}": {
            "href": address(piece.file),
            "proj:epsg": piece.grid.epsg,
            "proj:shape": list(piece.grid.shape),
            "proj:transform": list(piece.grid.affine),
        }
        for number, piece in enumerate(pieces)
    }
    item = {"id": "scene", "properties": {"datetime": "2000-01-01T00:00:00Z"}, "assets": assets}
    stacked = stackstac.stack(
        [item],
        assets=list(assets),
        epsg=target.epsg,
        resolution=same_pixel_size(target),
        bounds=target.bounds,
        snap_bounds=False,
        resampling=Resampling.nearest,  # of pixels that coincide: a copy
        chunksize=(1, 1, *target.shape),
        dtype=dtype,
        fill_value=dtype.type(pieces[0].fill),
        rescale=False,
        sortby_date=False,
        xy_coords=False,
        properties=False,
        band_coords=False,
        gdal_env=env,
        errors_as_nodata=(),
    )
    return stacked.data[0]
