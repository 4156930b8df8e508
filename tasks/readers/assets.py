"""One file of a scene over HTTP: opened once, read by several threads, retried, failures explained."""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

import httpx
import rasterio
from rasterio.errors import RasterioError

from catalog.errors import SceneError
from catalog.grids import Grid
from catalog.scenes import SceneAsset
from tasks.readers import ReadFailure
from tasks.signing import can_sign_again, redact, sign_href, unsigned

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

    from catalog.archives import Archive

GDAL_OPTIONS: dict[str, Any] = {
    # An href is input from outside: no folder listings, no side files, nothing but the file itself.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_GEOREF_SOURCES": "INTERNAL",
    # A server that stumbles is asked again with growing pauses (429, 5xx); one that hangs is given up.
    "GDAL_HTTP_MAX_RETRY": 4,
    "GDAL_HTTP_RETRY_DELAY": 0.5,
    "GDAL_HTTP_CONNECTTIMEOUT": 10,
    "GDAL_HTTP_TIMEOUT": 120,
    "GDAL_HTTP_LOW_SPEED_TIME": 30,
    "GDAL_HTTP_LOW_SPEED_LIMIT": 1000,
    "GDAL_HTTP_MULTIPLEX": "YES",
    # The header of a COG in one request; caches large enough that no tile is fetched twice. Both in bytes:
    # rasterio takes GDAL_CACHEMAX for bytes where GDAL itself would read megabytes.
    "GDAL_INGESTED_BYTES_AT_OPEN": 32768,
    "CPL_VSIL_CURL_CACHE_SIZE": 128 * 2**20,
    "GDAL_CACHEMAX": 256 * 2**20,
    "GDAL_NUM_THREADS": 1,
}
"""What GDAL is told before it touches the network; the parallelism is ours, not its."""

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PERMANENT = {400, 401, 403, 404, 410}
_opening = itertools.count(1)


@dataclass(frozen=True)
class Diagnosis:
    """What went wrong with a file, as far as it can be told from outside."""

    code: str
    message: str
    next_step: str
    status: int | None = None


class OpenAsset:
    """A file of a scene while the scene is being read.

    Threads borrow handles; GDAL shares the file's header among them, so that it is fetched once. The handles
    of one ``OpenAsset`` share a name that no other uses: GDAL keeps what it knows of an address for the life
    of the process, its failures too, and a long-lived worker would never see that a file has changed.
    """

    def __init__(
        self,
        scene_id: str,
        asset: SceneAsset,
        band: str,
        archive: Archive,
        *,
        attempts: int = 3,
        pause_s: float = 0.5,
        gdal_options: dict[str, Any] | None = None,
    ) -> None:
        self.asset = asset
        self._scene_id = scene_id
        self._band = band
        self._archive = archive
        self._attempts = attempts
        self._pause_s = pause_s
        self._options = {**GDAL_OPTIONS, **(gdal_options or {}), **access_options(archive)}
        self._lock = threading.Lock()
        self._idle: list[tuple[int, DatasetReader]] = []
        self._generation = 0
        self._signed_again = False
        self._name = ""
        self._signed = ""
        self._grid: Grid | None = None

    def use[T](self, work: Callable[[DatasetReader], T]) -> T:
        """Run ``work`` with a handle of this file, again after a failure that may pass.

        Raises
        ------
        ReadFailure: it did not pass.
        """
        for attempt in itertools.count(1):
            generation = self._generation
            try:
                with rasterio.Env(**self._options):
                    generation, handle = self._borrow()
                    try:
                        result = work(handle)
                    except BaseException:
                        handle.close()
                        raise
                    self._give_back(generation, handle)
                    return result
            except RasterioError as error:
                self._recover_or_raise(error, attempt, generation)
        raise AssertionError("unreachable")

    def grid(self) -> Grid | None:
        """Grid of the file, as the file itself says; None where it has none (ground-control points)."""
        if self._grid is None:
            self._grid = self.use(grid_of)
        return self._grid

    def close(self) -> None:
        """Close every idle handle."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, handle in idle:
            handle.close()

    def _borrow(self) -> tuple[int, DatasetReader]:
        with self._lock:
            while self._idle:
                generation, handle = self._idle.pop()
                if generation == self._generation:
                    return generation, handle
                handle.close()
            # Under the lock, so that the first thread fetches the header and the others find it cached.
            if not self._name:
                self._signed = sign_href(self.asset.href, self._archive, fresh=self._signed_again)
                self._name = gdal_name(self._signed, next(_opening), self._archive, self._scene_id)
            driver = "JP2OpenJPEG" if urlsplit(self._signed).path.lower().endswith(".jp2") else "GTiff"
            return self._generation, rasterio.open(self._name, sharing=False, driver=driver)

    def _give_back(self, generation: int, handle: DatasetReader) -> None:
        with self._lock:
            if generation == self._generation:
                self._idle.append((generation, handle))
                return
        handle.close()

    def _recover_or_raise(self, error: RasterioError, attempt: int, generation: int) -> None:
        diagnosis = diagnose(error, self._signed)
        stale = diagnosis.status == 403 and can_sign_again(self._archive)
        with self._lock:
            if generation != self._generation:
                return  # another thread has opened the file anew since
            if stale and not self._signed_again:
                self._signed_again = True
            elif diagnosis.status in _PERMANENT or attempt >= self._attempts:
                self._raise(diagnosis, attempt)
            self._generation += 1
            self._name = ""
        if not stale:
            time.sleep(self._pause_s * 2 ** (attempt - 1))

    def _raise(self, diagnosis: Diagnosis, attempt: int) -> NoReturn:
        href = unsigned(self.asset.href)
        again = f" after {attempt} attempts" if attempt > 1 else ""
        raise ReadFailure(
            diagnosis.code,
            f"{self._band}: {diagnosis.message}{again} ({href})",
            subject=self._scene_id,
            next_step=diagnosis.next_step,
            band=self._band,
            href=href,
            status=diagnosis.status,
            attempts=attempt,
        )


def gdal_name(signed: str, opening: int, archive: Archive, scene_id: str) -> str:
    """GDAL's name of an address. The fragment is never sent; it keeps one opening's cache from another's.

    Raises
    ------
    SceneError: ``href-not-allowed``. An href is input from outside: ``file:``, ``/vsi…`` or XML could name
        files of this machine, and another host is not the archive that was chosen.
    """
    parts = urlsplit(signed)
    if parts.scheme in {"http", "https", "s3"} and archive.may_hold(parts.hostname or ""):
        if parts.scheme == "s3":
            return f"/vsis3/{parts.netloc}{parts.path}"
        return f"/vsicurl/{signed}#{opening}"
    raise SceneError(
        "href-not-allowed",
        f"{redact(signed)[:200]!r} is no http, https or s3 address on a host of {archive.name}",
        subject=scene_id,
        next_step="correct `hosts` in the archive file, or serve the folder with `swath archive serve`",
    )


def access_options(archive: Archive) -> dict[str, Any]:
    """GDAL options that an archive's way of access needs beyond the signed address."""
    options: dict[str, Any] = {}
    if archive.access == "anonymous":
        options["AWS_NO_SIGN_REQUEST"] = "YES"
    if archive.access == "requester-pays":
        options["AWS_REQUEST_PAYER"] = "requester"
    if archive.access == "login":
        options["GDAL_HTTP_NETRC"] = "YES"
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


def diagnose(error: BaseException, signed: str) -> Diagnosis:
    """Say what a failed read means; asks the server once more where GDAL does not tell."""
    chain: list[str] = []
    link: BaseException | None = error
    while link is not None:
        chain.append(str(link))
        link = link.__cause__
    text = " ".join(chain)
    status = re.search(r"HTTP (?:response code|error code)\s*:?\s*(\d{3})", text)
    if status:
        return _of_status(int(status[1]))
    if re.search(r"CURL error|[Cc]ould not connect|timed? ?out|resolve host", text):
        return _unreachable(redact(chain[-1]))
    if signed.startswith(("http://", "https://")):
        return _probe(signed, redact(chain[-1]))
    return _corrupt(redact(chain[-1]))


def _probe(signed: str, detail: str) -> Diagnosis:
    try:
        answer = httpx.get(signed, headers={"Range": "bytes=0-15"}, timeout=10, follow_redirects=True)
    except httpx.HTTPError as error:
        return _unreachable(redact(str(error)))
    if answer.status_code >= 400:
        return _of_status(answer.status_code)
    if not answer.content.startswith(_TIFF_MAGIC) and not urlsplit(signed).path.lower().endswith(".jp2"):
        kind = answer.headers.get("content-type", "unknown content").split(";")[0]
        return Diagnosis(
            "asset-not-a-tiff",
            f"the server answered with {kind} instead of a GeoTIFF",
            "a login may be missing; open the address in a browser",
            answer.status_code,
        )
    return _corrupt(detail, answer.status_code)


def _of_status(status: int) -> Diagnosis:
    if status in {404, 410}:
        return Diagnosis(
            "asset-not-found", f"HTTP {status}, no such file", "report it to the archive", status
        )
    if status in {401, 403}:
        return Diagnosis(
            "asset-forbidden",
            f"HTTP {status}, the server refuses to give it",
            "check the archive's `access` and your account there",
            status,
        )
    return Diagnosis(
        "asset-unreachable",
        f"HTTP {status}, the server does not give it now",
        "run again later; `swath scenes replay` takes the scene up again",
        status,
    )


def _unreachable(detail: str) -> Diagnosis:
    return Diagnosis(
        "asset-unreachable",
        f"the server cannot be reached: {detail}",
        "check the network; `swath scenes replay` takes the scene up again",
    )


def _corrupt(detail: str, status: int | None = None) -> Diagnosis:
    return Diagnosis(
        "asset-corrupt",
        f"the file is truncated or damaged: {detail}",
        "report it to the archive; `swath scenes replay` takes the scene up again once it is mended",
        status,
    )
