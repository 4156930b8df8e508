"""The ``odc-stac`` reader: one load per window over the scene's files (Open Data Cube's odc-stac, GDAL).

It reads files of several bands whole, where stackstac cannot. Grids, data types and nodata values are given
from the files themselves; a failure is raised, never left blank.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.readers.gridded import Address, LibraryFailed, LibraryReader, Piece, same_pixel_size

EXTENSIONS = ["https://stac-extensions.github.io/projection/v1.1.0/schema.json"]


def odc_stac_reader(*, verify_checksums: bool = False) -> LibraryReader:
    """The reader by way of odc-stac."""
    return LibraryReader("odc-stac", load_pieces, multiband=True, verify_checksums=verify_checksums)


def load_pieces(
    pieces: Sequence[Piece], address: Address, options: Mapping[str, Any], threads: int
) -> list[NDArray[Any]]:
    """See ``tasks.readers.gridded.Load``: one load per window and data type, its files in parallel."""
    # Its lines hold whole addresses, and with them signatures.
    logging.getLogger("odc.loader._rio").setLevel(logging.CRITICAL)
    groups: dict[Any, list[int]] = {}
    for index, piece in enumerate(pieces):
        groups.setdefault((piece.target, piece.dtype, repr(piece.fill)), []).append(index)
    found: dict[int, NDArray[Any]] = {}
    for together in groups.values():
        values = _load([pieces[index] for index in together], address, options, threads)
        found.update(zip(together, values, strict=True))
    return [found[index] for index in range(len(pieces))]


def _load(
    pieces: Sequence[Piece], address: Address, options: Mapping[str, Any], threads: int
) -> list[NDArray[Any]]:
    """Values ``(band, y, x)`` of files on one target grid."""
    import odc.stac
    import pystac
    from affine import Affine
    from odc.geo.geobox import GeoBox

    target = pieces[0].target
    same_pixel_size(target)
    item = pystac.Item(
        id="scene",
        # Not looked at: where each file lies is said with it.
        geometry=None,
        bbox=None,
        datetime=datetime(2000, 1, 1, tzinfo=UTC),
        properties={},
        collection="scenes",
        stac_extensions=EXTENSIONS,
    )
    names = [f"a{number}" for number in range(len(pieces))]
    for name, piece in zip(names, pieces, strict=True):
        grid = {
            "proj:epsg": piece.grid.epsg,
            "proj:shape": list(piece.grid.shape),
            "proj:transform": list(piece.grid.affine),
        }
        item.add_asset(name, pystac.Asset(address(piece.file), roles=["data"], extra_fields=grid))
    loaded = odc.stac.load(
        [item],
        bands=names,
        geobox=GeoBox(target.shape, Affine(*target.affine), f"EPSG:{target.epsg}"),
        driver=_Driver(dict(zip(names, pieces, strict=True)), options),
        dtype=pieces[0].dtype,
        nodata=pieces[0].fill,
        resampling="nearest",  # of pixels that coincide: a copy
        use_overviews=False,
        fail_on_error=True,
        pool=threads if len(pieces) > 1 else None,
    )
    return [np.asarray(loaded[name].values)[0].reshape(-1, *target.shape) for name in names]


class _Driver:
    """The library's own driver for GDAL, which is told what the files hold, and says which one failed."""

    dask_reader = None
    aux_reader = None

    def __init__(self, pieces: Mapping[str, Piece], options: Mapping[str, Any]) -> None:
        from odc.loader import RasterBandMetadata, RasterGroupMetadata, reader_driver

        self._inner = reader_driver("rio")
        self._options = dict(options)
        several = {name: piece.file.bands for name, piece in pieces.items() if piece.file.bands > 1}
        self.md_parser = _Metadata(
            RasterGroupMetadata(
                bands={
                    (name, 1): RasterBandMetadata(
                        piece.dtype, piece.fill, dims=(f"{name}_band", "y", "x") if name in several else ()
                    )
                    for name, piece in pieces.items()
                },
                extra_dims={f"{name}_band": count for name, count in several.items()},
            )
        )

    def new_load(self, geobox: Any, *, chunks: Any = None) -> Any:
        return self._inner.new_load(geobox, chunks=chunks)

    def finalise_load(self, load_state: Any) -> Any:
        return self._inner.finalise_load(load_state)

    def capture_env(self) -> dict[str, Any]:
        return {}

    @contextmanager
    def restore_env(self, env: dict[str, Any], load_state: Any) -> Iterator[Any]:
        import rasterio

        with self._inner.restore_env(env, load_state) as local, rasterio.Env(**self._options):
            yield local

    def open(self, src: Any, ctx: Any) -> Any:
        return _NamedFile(self._inner.open(src, ctx), src.uri)


class _Metadata:
    """What odc-stac would otherwise guess from an item."""

    def __init__(self, group: Any) -> None:
        self._group = group

    def extract(self, md: Any) -> Any:
        return self._group

    def driver_data(self, md: Any, band_key: Any) -> None:
        return None


class _NamedFile:
    """A file that says its name when it cannot be read."""

    def __init__(self, reader: Any, name: str) -> None:
        self._reader = reader
        self._name = name

    def read(self, cfg: Any, dst_geobox: Any, *, dst: Any = None, selection: Any = None) -> Any:
        from rasterio.errors import RasterioError

        try:
            return self._reader.read(cfg, dst_geobox, dst=dst, selection=selection)
        except RasterioError as error:
            raise LibraryFailed(error, self._name) from None
