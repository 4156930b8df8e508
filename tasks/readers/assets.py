"""One file of a scene over HTTP: opened once, read by several threads, failures explained."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

import rasterio
from rasterio.errors import RasterioError

from catalog.errors import ArchiveError, SceneError
from catalog.grids import Grid
from catalog.scenes import SceneAsset
from tasks.readers.checksums import download_checked
from tasks.readers.contract import ReadFailure
from tasks.readers.diagnosis import Diagnosis, corrupt
from tasks.readers.http_ranges import ATTEMPTS, PAUSE_S, Fetched, FetchFailed, fetch_range, refuse_foreign
from tasks.readers.remote_file import Handle, RemoteFile
from tasks.signing import redact, unsigned

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

    from catalog.archives import Archive

GDAL_OPTIONS: dict[str, Any] = {
    # An href is input from outside: no folder listings, no side files, nothing but the file itself.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_GEOREF_SOURCES": "INTERNAL",
    # Large enough that no tile is decoded twice, in bytes: rasterio takes it for bytes, GDAL for megabytes.
    "GDAL_CACHEMAX": 256 * 2**20,
    # Other threads of GDAL's would not know where the bytes come from; the parallelism is ours.
    "GDAL_NUM_THREADS": 1,
    # For s3 only, where GDAL itself asks: it retries, but knows no Retry-After.
    "GDAL_HTTP_MAX_RETRY": 4,
    "GDAL_HTTP_RETRY_DELAY": 0.5,
    "GDAL_HTTP_CONNECTTIMEOUT": 10,
    "GDAL_HTTP_TIMEOUT": 120,
    "GDAL_HTTP_LOW_SPEED_TIME": 30,
    "GDAL_HTTP_LOW_SPEED_LIMIT": 1000,
    "GDAL_INGESTED_BYTES_AT_OPEN": 32768,
    "CPL_VSIL_CURL_CACHE_SIZE": 128 * 2**20,
}
"""What GDAL is told before it opens a file."""

OPENINGS = 2
"""A file that came whole and cannot be decoded is fetched anew once: it may have been exchanged meanwhile."""

_MAY_BE_MENDED = {"asset-changed", "asset-corrupt"}

_opening = itertools.count(1)


_thread = threading.local()


def live_under(options: Mapping[str, Any]) -> None:
    """Set GDAL's options for the rest of this thread's life; for the threads of a pool."""
    _thread.environment = rasterio.Env(**{**GDAL_OPTIONS, **options})
    _thread.environment.__enter__()
    _thread.options = {**GDAL_OPTIONS, **options}


class OpenAsset:
    """A file of a scene while the scene is being read.

    Threads borrow handles, which share the file's bytes, so that its header is fetched once. Nothing is
    remembered beyond the scene: a long-lived worker must see that a file has changed.
    """

    def __init__(
        self,
        scene_id: str,
        asset: SceneAsset,
        band: str,
        archive: Archive,
        *,
        attempts: int = ATTEMPTS,
        pause_s: float = PAUSE_S,
        gdal_options: dict[str, Any] | None = None,
        verify: bool = False,
    ) -> None:
        self.asset = asset
        self._scene_id = scene_id
        self._band = band
        self._archive = archive
        self._attempts = attempts
        self._pause_s = pause_s
        self._verify = verify
        self._options = {**GDAL_OPTIONS, **(gdal_options or {})}
        if urlsplit(asset.href).scheme == "s3":
            self._options |= access_options(archive, asset.href)
        self._lock = threading.Lock()
        self._idle: list[tuple[int, Handle | _S3Handle]] = []
        self._generation = 0
        self._file: RemoteFile | None = None
        self._checked = False
        self._closed = False
        self._grid: Grid | None = None

    def use[T](
        self,
        work: Callable[[DatasetReader], T],
        *,
        spans: Sequence[tuple[int, int]] = (),
        decoding: AbstractContextManager[Any] | None = None,
    ) -> T:
        """Run ``work`` with a handle of this file, again after a failure that may pass.

        Parameters
        ----------
        spans:    (first byte, end) of what it will read, fetched before a handle is taken
        decoding: entered once these are there, for as long as the handle is in use

        Raises
        ------
        ReadFailure: it did not pass.
        """
        for opening in range(1, OPENINGS + 1):
            generation = self._generation
            try:
                with self._held(spans), decoding or nullcontext(), self._environment():
                    generation, handle = self._borrow()
                    try:
                        result = handle.use(work)
                    except BaseException:
                        handle.close()
                        raise
                    self._give_back(generation, handle)
                    return result
            except FetchFailed as failed:
                last = opening == OPENINGS or failed.diagnosis.code not in _MAY_BE_MENDED
                self._open_anew_or_raise(failed.diagnosis, failed.attempts, generation, last=last)
            except ArchiveError as error:  # of the token service
                self._raise(Diagnosis(error.code, redact(error.message), error.next_step), 1)
            except RasterioError as error:
                self._open_anew_or_raise(self._diagnose(error), opening, generation, last=opening == OPENINGS)
        raise AssertionError("unreachable")

    def stored(self, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """Bytes of the open file by (first byte, end); nothing of a file that GDAL fetches itself.

        Raises
        ------
        FetchFailed: inside ``use``, which knows what to do then.
        """
        with self._lock:
            file = self._file
        if file is None:
            return []
        return file.read_many([first for first, _ in spans], [end - first for first, end in spans])

    def grid(self) -> Grid | None:
        """Grid of the file, as the file itself says; None where it has none (ground-control points)."""
        if self._grid is None:
            self._grid = self.use(grid_of)
        return self._grid

    def close(self) -> None:
        """Close every handle; those in use, when they are given back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            self._file = None
        for _, handle in idle:
            handle.close()

    def _borrow(self) -> tuple[int, Handle | _S3Handle]:
        with self._lock:
            while self._idle:
                generation, handle = self._idle.pop()
                if generation == self._generation:
                    return generation, handle
                handle.close()
            # Under the lock, so that the first thread fetches the header and the others find it.
            return self._generation, self._open()

    def _environment(self) -> AbstractContextManager[Any]:
        """GDAL's options, unless this thread lives under the same ones: setting them takes time."""
        here = getattr(_thread, "options", None)
        return nullcontext() if here == self._options else rasterio.Env(**self._options)

    def _held(self, spans: Sequence[tuple[int, int]]) -> AbstractContextManager[None]:
        with self._lock:
            file = self._file
        return file.held(spans) if file is not None and spans else nullcontext()

    def _open(self) -> Handle | _S3Handle:
        parts = urlsplit(self.asset.href)
        driver = "JP2OpenJPEG" if parts.path.lower().endswith(".jp2") else "GTiff"
        try:
            refuse_foreign(self.asset.href, self._archive)
        except SceneError as error:
            raise SceneError(
                error.code, error.message, subject=self._scene_id, next_step=error.next_step
            ) from None
        if parts.scheme == "s3":
            return _S3Handle(f"/vsis3/{parts.netloc}{parts.path}", driver)
        if self._file is None:
            self._file = RemoteFile(self._source())
        handle = Handle(self._file, parts.path.rsplit("/", 1)[-1], driver)
        if driver == "GTiff" and not self._checked:
            size = self._file.size
            try:
                handle.use(lambda dataset: require_whole(dataset, size))
            except BaseException:
                handle.close()
                raise
            self._checked = True
        return handle

    def _source(self) -> Callable[[int, int], Fetched]:
        if self._verify and self.asset.checksum:
            return download_checked(self._fetch, self.asset)
        return self._fetch

    def _fetch(self, first: int, last: int) -> Fetched:
        return fetch_range(
            self.asset.href, self._archive, first, last, attempts=self._attempts, pause_s=self._pause_s
        )

    def _give_back(self, generation: int, handle: Handle | _S3Handle) -> None:
        with self._lock:
            if generation == self._generation and not self._closed:
                self._idle.append((generation, handle))
                return
        handle.close()

    def _open_anew_or_raise(
        self, diagnosis: Diagnosis, attempts: int, generation: int, *, last: bool
    ) -> None:
        if last:
            self._raise(diagnosis, attempts)
        with self._lock:
            if generation == self._generation:  # else another thread has opened the file anew since
                self._generation += 1
                self._file = None
                self._checked = False

    def _diagnose(self, error: RasterioError) -> Diagnosis:
        if urlsplit(self.asset.href).scheme == "s3":
            return of_gdal(error)
        return corrupt(redact(_innermost(error)))

    def _raise(self, diagnosis: Diagnosis, attempts: int) -> NoReturn:
        href = unsigned(self.asset.href)
        again = f" after {attempts} attempts" if attempts > 1 else ""
        raise ReadFailure(
            diagnosis.code,
            f"{self._band}: {diagnosis.message}{again} ({href})",
            subject=self._scene_id,
            next_step=diagnosis.next_step,
            band=self._band,
            href=href,
            status=diagnosis.status,
            attempts=attempts,
        ) from None


class _S3Handle:
    """A file in object storage, which GDAL signs and fetches itself."""

    def __init__(self, name: str, driver: str) -> None:
        # The fragment keeps one opening's cache from another's: GDAL remembers for the life of the process.
        self._dataset: DatasetReader = rasterio.open(f"{name}#{next(_opening)}", sharing=False, driver=driver)

    def use[T](self, work: Callable[[DatasetReader], T]) -> T:
        return work(self._dataset)

    def close(self) -> None:
        self._dataset.close()


def access_options(archive: Archive, href: str) -> dict[str, Any]:
    """GDAL options that an archive's way of access needs for a file in object storage."""
    options: dict[str, Any] = {}
    parts = urlsplit(href)
    pays = parts.scheme == "s3" and parts.netloc in archive.requester_pays
    if archive.access == "anonymous" and not pays:
        options["AWS_NO_SIGN_REQUEST"] = "YES"
    if archive.access == "requester-pays" or pays:
        options["AWS_REQUEST_PAYER"] = "requester"
    if archive.s3_endpoint:
        options["AWS_S3_ENDPOINT"] = archive.s3_endpoint
        options["AWS_VIRTUAL_HOSTING"] = "FALSE"
    return options


def grid_of(dataset: DatasetReader) -> Grid | None:
    """A file's grid; None where it has no affine in a known CRS."""
    if dataset.crs is None or dataset.transform.is_identity:
        return None
    epsg = dataset.crs.to_epsg()
    if epsg is None:
        return None
    a, b, c, d, e, f = dataset.transform[:6]
    return Grid(int(epsg), (a, b, c, d, e, f), (dataset.height, dataset.width))


def require_whole(dataset: DatasetReader, size: int) -> None:
    """Refuse a TIFF that ends before its last tile: the windows at hand may happen to lie before the cut.

    Raises
    ------
    FetchFailed: ``asset-corrupt``.
    """
    height, width = dataset.block_shapes[0]
    place = f"{(dataset.width - 1) // width}_{(dataset.height - 1) // height}"
    for band in {1, dataset.count}:
        start = dataset.get_tag_item(f"BLOCK_OFFSET_{place}", "TIFF", bidx=band)
        length = dataset.get_tag_item(f"BLOCK_SIZE_{place}", "TIFF", bidx=band)
        if start and length and int(start) + int(length) > size:
            raise FetchFailed(
                corrupt(f"it has {size} bytes, and its last tile ends at {int(start) + int(length)}")
            )


def of_gdal(error: BaseException) -> Diagnosis:
    """What GDAL's words about a file in object storage mean."""
    text = _innermost(error)
    status = re.search(r"HTTP (?:response code|error code)\s*:?\s*(\d{3})", text)
    if status and int(status[1]) in {404, 410}:
        return Diagnosis(
            "asset-not-found", f"HTTP {status[1]}, no such file", "report it to the archive", int(status[1])
        )
    if (status and int(status[1]) in {401, 403}) or "AccessDenied" in text or "InvalidCredentials" in text:
        return Diagnosis(
            "asset-forbidden",
            "the bucket refuses to give it",
            "check the archive's `access` and the AWS_* variables",
            int(status[1]) if status else 403,
        )
    if status or re.search(r"CURL error|[Cc]ould not connect|timed? ?out|resolve host", text):
        return Diagnosis(
            "asset-unreachable",
            f"the bucket cannot be reached: {redact(text)}",
            "check the network; `swath scenes replay` takes the scene up again",
            int(status[1]) if status else None,
        )
    if re.search(r"NoSuchKey|NoSuchBucket|does not exist", text):
        return Diagnosis("asset-not-found", "no such file in the bucket", "report it to the archive", 404)
    return corrupt(redact(text))


def _innermost(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)
