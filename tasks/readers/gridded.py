"""What readers by way of a library share: files are looked at first, and the library reads only what it can.

A library believes catalogues: where a file lies, how many bands it has, what its nodata value is. So each
file is first opened the way ``direct`` opens it, which also tells a file that is missing, cut short or
somebody else's. The library then gets the grid that the file itself states, and only windows that lie on it;
a window that has to be resampled is read by ``tasks.readers.window``, the one place where that is done.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Protocol
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from catalog.errors import UsageError
from catalog.grids import Grid
from catalog.products import Product
from catalog.scenes import Scene, SceneAsset
from tasks.readers.assembly import Part, assembled
from tasks.readers.assets import OpenAsset, access_options, of_gdal
from tasks.readers.contract import ReadFailure, WindowPixels, WindowRequest
from tasks.readers.plan import band_files, batches, quality_files, quality_gsd_m, touches
from tasks.readers.window import check_bands, fill_value, read_window
from tasks.signing import can_sign_again, sign_href, unsigned

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

    from catalog.archives import Archive

GDAL_OPTIONS: dict[str, Any] = {
    # An href is input from outside: no folder listings, no side files, nothing but the file itself.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_GEOREF_SOURCES": "INTERNAL",
    "GDAL_NUM_THREADS": 1,
    # Neither library retries, and GDAL's own default is none.
    "GDAL_HTTP_MAX_RETRY": 4,
    "GDAL_HTTP_RETRY_DELAY": 0.5,
    "GDAL_HTTP_CONNECTTIMEOUT": 10,
    "GDAL_HTTP_TIMEOUT": 120,
    "GDAL_HTTP_LOW_SPEED_TIME": 30,
    "GDAL_HTTP_LOW_SPEED_LIMIT": 1000,
    "GDAL_INGESTED_BYTES_AT_OPEN": 32768,
    "GDAL_HTTP_MULTIPLEX": "YES",
}
"""What GDAL is told when a library opens a file."""

HEADER_ACCESS = ("login", "oidc")
"""Ways of access that need a header; GDAL would carry it to wherever the server redirects."""

_turn = itertools.count(1)


@dataclass(frozen=True)
class SourceFile:
    """One file of a scene as it was found."""

    asset: SceneAsset
    handle: OpenAsset
    grid: Grid | None
    """As the file states it; None where it is located by ground-control points."""
    bands: int
    dtype: str
    nodata: float | None
    """As the file states it."""


@dataclass(frozen=True)
class Piece:
    """What a library is to read: bands of one file on one target grid, pixel for pixel."""

    file: SourceFile
    grid: Grid
    """The file's own, which is known here."""
    target: Grid
    """Lies on ``grid``, and may reach over its edge."""
    dtype: str
    fill: float
    """Value of pixels without a measurement; the file's own nodata value where it states one."""


Address = Callable[[SourceFile], str]
"""The name under which GDAL finds a file now: signed, and forgotten after this reading."""


class Load(Protocol):
    """What a library has to do."""

    def __call__(
        self, pieces: Sequence[Piece], address: Address, options: Mapping[str, Any], threads: int
    ) -> list[NDArray[Any]]:
        """Values ``(band, y, x)`` of every piece, all bands of its file.

        Raises
        ------
        LibraryFailed: one of the files could not be read.
        """
        ...


class LibraryFailed(Exception):
    """A library could not read one of the files; ``name`` is its address as it was given, if known."""

    def __init__(self, cause: BaseException, name: str = "") -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.name = name


@dataclass(frozen=True)
class LibraryReader:
    """A reader whose pixels come by way of a library."""

    name: str
    load: Load
    multiband: bool
    """Whether the library reads files of several bands."""
    threads: int = 16
    memory_bytes: int = 256 * 2**20
    """Raw pixels held at a time, beyond which a scene's windows are read in several batches."""
    verify_checksums: bool = False

    def read(
        self, scene: Scene, product: Product, windows: Sequence[WindowRequest], archive: Archive
    ) -> Iterator[WindowPixels]:
        """See ``tasks.readers.contract.Reader``; windows come in batches of neighbours.

        Raises
        ------
        UsageError: ``reader-cannot``: no scene of this product, or archive, by way of the library.
        """
        self.refuse_impossible(product, scene, archive)
        if not windows:
            return
        with ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(self.threads, thread_name_prefix="swath-read"))
            job = _SceneJob(self, scene, product, archive, stack, pool)
            finest = product.resolutions_m[0]
            wanted = [window for window in windows if job.touches(window.grids[finest])]
            for batch in batches(product, wanted, self.memory_bytes):
                yield from job.read(batch)

    def refuse_impossible(self, product: Product, scene: Scene, archive: Archive) -> None:
        """Raise where the library cannot read scenes like this one, whatever is done."""
        if product.grid.crs == "none":
            self._cannot(product.id, "has no grid of its own (ground-control points)", "direct")
        if not self.multiband and any(len(file.asset.bands) > 1 for file in band_files(scene, product)):
            self._cannot(product.id, "keeps several bands in one file", "odc-stac or direct")
        if archive.access in HEADER_ACCESS:
            self._cannot(archive.name, f"wants a login with each request (`{archive.access}`)", "direct")

    def _cannot(self, subject: str, why: str, others: str) -> NoReturn:
        raise UsageError(
            "reader-cannot",
            f"{self.name} does not read it: it {why}",
            subject=subject,
            next_step=f"choose the reader {others}",
        )


class _SceneJob:
    """One scene while it is being read."""

    def __init__(
        self,
        reader: LibraryReader,
        scene: Scene,
        product: Product,
        archive: Archive,
        stack: ExitStack,
        pool: ThreadPoolExecutor,
    ) -> None:
        self.reader = reader
        self.scene = scene
        self.product = product
        self.archive = archive
        self.pool = pool
        bands, quality = band_files(scene, product), quality_files(scene, product)

        def found(asset: SceneAsset, label: str, numbers: Sequence[int]) -> SourceFile:
            handle = OpenAsset(scene.id, asset, label, archive, verify=reader.verify_checksums)
            stack.callback(handle.close)

            def look(dataset: DatasetReader) -> tuple[int, str, float | None]:
                if numbers:
                    check_bands(dataset, product, numbers, scene.id)
                return dataset.count, dataset.dtypes[0], dataset.nodata

            return SourceFile(asset, handle, handle.grid(), *handle.use(look))

        looks = [
            *(
                pool.submit(
                    found,
                    file.asset,
                    file.label,
                    [number for pairs in file.layers.values() for _, number in pairs],
                )
                for file in bands
            ),
            *(pool.submit(found, layer.asset, layer.asset.key, []) for layer in quality),
        ]
        files = [look.result() for look in looks]
        self.bands = list(zip(bands, files, strict=False))
        self.quality = list(zip(quality, files[len(bands) :], strict=True))

    def touches(self, window: Grid) -> bool:
        return any(touches(file.grid, window) for _, file in self.bands)

    def read(self, batch: Sequence[WindowRequest]) -> Iterator[WindowPixels]:
        """Read one batch of windows from all files and put the parts together."""
        product, gsd_of_flags = self.product, quality_gsd_m(self.product)
        wanted = [
            (file, window.grids[gsd], product.dtype, fill_value(product), [number for _, number in pairs])
            for window in batch
            for plan, file in self.bands
            for gsd, pairs in plan.layers.items()
        ] + [
            (file, window.grids[gsd_of_flags], file.dtype, 0.0, [1])
            for window in batch
            for _, file in self.quality
        ]
        parts = self._parts(wanted)
        for window in batch:
            yield self._assemble(window, parts)

    def _parts(
        self, wanted: Sequence[tuple[SourceFile, Grid, str, float, list[int]]]
    ) -> dict[tuple[str, Grid], Part]:
        parts: dict[tuple[str, Grid], Part] = {}
        pieces: list[tuple[Piece, list[int], Part]] = []
        quality = {file.asset.key for _, file in self.quality}
        for file, target, dtype, fill, numbers in wanted:
            if file.grid is None or file.grid.window_offset(target) is None:
                parts[file.asset.key, target] = file.handle.use(
                    self._resampling(file, target, numbers, is_quality=file.asset.key in quality)
                )
                continue
            blank = np.full((len(numbers), *target.shape), fill, dtype)
            part = blank, outside_of(file.grid, target), False
            parts[file.asset.key, target] = part
            if not part[1].all():
                inner = file.nodata if file.nodata is not None else fill
                pieces.append((Piece(file, file.grid, target, dtype, inner), numbers, part))
        loaded = self._load([piece for piece, _, _ in pieces])
        for (_, numbers, (values, outside, _)), found in zip(pieces, loaded, strict=True):
            np.copyto(values, found[[number - 1 for number in numbers]], where=~outside)
        return parts

    def _resampling(
        self, file: SourceFile, target: Grid, numbers: list[int], *, is_quality: bool
    ) -> Callable[[DatasetReader], Part]:
        product = self.product
        options: dict[str, Any] = {
            "dtype": product.dtype,
            "fill": fill_value(product),
            "nodata": product.nodata,
            "kernel": product.grid.kernel,
        }
        if is_quality:
            options = {"dtype": None, "fill": 0, "nodata": None, "kernel": "nearest"}
        return lambda dataset: read_window(dataset, numbers, file.grid, target, **options)

    def _load(self, pieces: Sequence[Piece]) -> list[NDArray[Any]]:
        """By way of the library, and once again with new signatures where the old ones are refused."""
        if not pieces:
            return []
        threads = min(self.reader.threads, self.archive.requests_per_host or self.reader.threads)
        for fresh in (False, True):
            turn = next(_turn)
            names: dict[str, SourceFile] = {}

            def address(
                file: SourceFile, fresh: bool = fresh, turn: int = turn, names: dict[str, SourceFile] = names
            ) -> str:
                name = gdal_name(file.asset.href, self.archive, turn, fresh=fresh)
                names[name] = file
                return name

            try:
                options = GDAL_OPTIONS | access_options(self.archive, pieces[0].file.asset.href)
                return self.reader.load(pieces, address, options, threads)
            except LibraryFailed as failed:
                error = self._explained(failed, names)
                # Of a refused file GDAL often says only that it is none, so no status may mean a 403.
                if fresh or error.status not in {401, 403, None} or not can_sign_again(self.archive):
                    raise error from None
        raise AssertionError("unreachable")

    def _explained(self, failed: LibraryFailed, names: Mapping[str, SourceFile]) -> ReadFailure:
        text = f"{failed.name} {failed}"
        file = next((f for name, f in names.items() if name in text), None) or next(
            (f for f in names.values() if unsigned(f.asset.href) in text), None
        )
        diagnosis = of_gdal(failed.cause)
        href = unsigned(file.asset.href) if file else ""
        label = (file.asset.bands[0] if len(file.asset.bands) == 1 else file.asset.key) if file else ""
        return ReadFailure(
            diagnosis.code,
            f"{label or self.reader.name}: {diagnosis.message} ({href or 'file unknown'})",
            subject=self.scene.id,
            next_step=diagnosis.next_step,
            band=label,
            href=href,
            status=diagnosis.status,
        )

    def _assemble(
        self,
        window: WindowRequest,
        parts: Mapping[tuple[str, Grid], Part],
    ) -> WindowPixels:
        def part_of(key: str, gsd: float | None) -> Part:
            return parts[key, window.grids[quality_gsd_m(self.product) if gsd is None else gsd]]

        bands, quality = [plan for plan, _ in self.bands], [layer for layer, _ in self.quality]
        return assembled(self.product, window, bands, quality, part_of)


def outside_of(source: Grid, target: Grid) -> NDArray[np.bool_]:
    """Pixels ``(y, x)`` of a target that lie outside a raster on whose grid it lies."""
    offset = source.window_offset(target)
    if offset is None:
        raise ValueError("the target does not lie on the grid")
    (row, col), (height, width) = offset, target.shape
    rows, cols = np.arange(row, row + height), np.arange(col, col + width)
    inside_y = (rows >= 0) & (rows < source.shape[0])
    inside_x = (cols >= 0) & (cols < source.shape[1])
    return np.asarray(~(inside_y[:, None] & inside_x[None, :]))


def gdal_name(href: str, archive: Archive, turn: int, *, fresh: bool = False) -> str:
    """Where GDAL finds a file: signed now, and under a name of its own.

    The fragment keeps one reading's cache from another's: GDAL remembers a file for the life of the process.
    """
    parts = urlsplit(href)
    if parts.scheme == "s3":
        return f"/vsis3/{parts.netloc}{parts.path}#{turn}"
    return f"/vsicurl/{sign_href(href, archive, fresh=fresh)}#{turn}"


def file_named(text: str) -> str:
    """The first GDAL name of a file in an error's text, or nothing."""
    found = re.search(r"/vsi(?:curl|s3)/[^\s'\"]+", text)
    return found[0] if found else ""


def same_pixel_size(grid: Grid) -> float:
    """Pixel size of a north-up grid with square pixels, CRS units.

    Raises
    ------
    ValueError: it is not such a grid.
    """
    a, b, _, d, e, _ = grid.affine
    if b or d or not math.isclose(a, -e, rel_tol=1e-9):
        raise ValueError("pixels are not square, or not north-up")
    return a
