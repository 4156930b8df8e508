"""Bytes of an archive's file over HTTP: signed, within its hosts, retried, and believed only as proven.

One request is one try. What may pass (no connection, 408, 425, 429, 5xx, an answer that is cut short) is
tried again with growing pauses, or after the server's ``Retry-After``; what cannot pass is said at once.
"""

from __future__ import annotations

import itertools
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

import urllib3

from catalog.archives.hrefs import href_refusal
from catalog.errors import SceneError
from tasks.readers.diagnosis import TRANSIENT, Diagnosis, corrupt, of_status, strange, unreachable
from tasks.readers.http_connections import connections
from tasks.readers.http_limits import LONGEST_WAIT_S, host_slot, leave_alone, retry_after
from tasks.signing import auth_headers, can_sign_again, redact, same_place, sign_href, unsigned

if TYPE_CHECKING:
    from catalog.archives import Archive

ATTEMPTS = 5
"""Tries of one request."""
PAUSE_S = 0.5
"""Before the second try; doubled each time, up to ``LONGEST_PAUSE_S``, with a random third on top."""
LONGEST_PAUSE_S = 30.0
CONNECT_S = 10.0
SILENCE_S = 30.0
"""Longest wait for the next byte of an answer."""
SLOW_AFTER_S, SLOW_BYTES_S = 30.0, 1000.0
"""An answer that has come more slowly than this for so long is given up."""
READ_BYTES = 256 * 1024
"""Most that is taken from a connection at a time."""
REDIRECTS = 5
WHOLE_FILE_BYTES = 64 * 2**20
"""A server that ignores byte ranges is put up with for files up to this size."""

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_JP2_MAGIC = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")


class FetchFailed(Exception):
    """Bytes that did not come; turned into a ``ReadFailure`` where scene and band are known."""

    def __init__(self, diagnosis: Diagnosis, *, attempts: int = 1, again: bool = False) -> None:
        super().__init__(diagnosis.message)
        self.diagnosis = diagnosis
        self.attempts = attempts
        self.again = again
        """Whether another try may help; only while there are tries left."""


@dataclass(frozen=True)
class Fetched:
    """Bytes of a file, and what the answer says of the whole file."""

    data: bytes
    total: int
    """Size of the whole file, bytes."""
    etag: str


@dataclass
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


_Check = Callable[[_Answer], Fetched]
"""Makes bytes of an answer, or raises ``FetchFailed``."""


def fetch_range(
    href: str,
    archive: Archive,
    first: int,
    last: int,
    *,
    attempts: int = ATTEMPTS,
    pause_s: float = PAUSE_S,
) -> Fetched:
    """Bytes ``first`` to ``last`` (inclusive) of a raster file; fewer where the file ends before.

    Raises
    ------
    FetchFailed: they did not come, or what came cannot be them.
    SwathError:  the address is none of the archive's, or its token service does not answer.
    """

    def check(answer: _Answer) -> Fetched:
        return _checked(answer, href, first, last)

    return _tried(href, archive, f"bytes={first}-{last}", last - first + 1, check, attempts, pause_s)


def fetch_whole(
    href: str,
    archive: Archive,
    *,
    limit_bytes: int,
    attempts: int = ATTEMPTS,
    pause_s: float = PAUSE_S,
) -> bytes:
    """A whole small file that is no raster.

    Raises
    ------
    as ``fetch_range``; ``FetchFailed`` with ``side-file-too-large`` beyond the limit
    """

    def check(answer: _Answer) -> Fetched:
        if answer.status != 200:
            raise FetchFailed(strange(answer.status), again=True)
        declared = answer.headers.get("content-length", "")
        if len(answer.body) > limit_bytes or (declared.isdigit() and int(declared) > limit_bytes):
            raise FetchFailed(
                Diagnosis(
                    "side-file-too-large",
                    f"the file exceeds {limit_bytes} bytes",
                    "report it to the archive",
                    answer.status,
                )
            )
        if _is_page(answer):
            raise FetchFailed(_not_the_file(answer, "the file"), again=True)
        return Fetched(answer.body, len(answer.body), "")

    return _tried(href, archive, None, limit_bytes, check, attempts, pause_s).data


def changed(before: int, now: int) -> FetchFailed:
    """The file is not the one whose first bytes were read."""
    return FetchFailed(
        Diagnosis(
            "asset-changed",
            f"the file changed while it was read ({before} bytes before, {now} now)",
            "run again; `swath scenes replay` takes the scene up again",
        )
    )


def _tried(
    href: str,
    archive: Archive,
    wanted: str | None,
    size: int,
    check: _Check,
    attempts: int,
    pause_s: float,
) -> Fetched:
    renewed = False
    signed = sign_href(href, archive)
    for attempt in itertools.count(1):
        wait: float | None = None
        try:
            answer = _ask(signed, archive, wanted, size)
            if answer.status in {401, 403} and can_sign_again(archive) and not renewed:
                # Stripped, the token dropped, signed again: once for each request.
                renewed = True
                signed = sign_href(signed, archive, fresh=True)
                answer = _ask(signed, archive, wanted, size)
            if answer.status in TRANSIENT:
                wait = retry_after(answer.headers)
                raise FetchFailed(of_status(answer.status), again=(wait or 0.0) <= LONGEST_WAIT_S)
            if answer.status >= 300 and answer.status != 416:
                raise FetchFailed(of_status(answer.status))
            if answer.headers.get("content-encoding", "identity") != "identity":
                raise FetchFailed(strange(answer.status, "in an encoding that was not asked for"), again=True)
            return check(answer)
        except FetchFailed as failed:
            failed.attempts = attempt
            if not failed.again or attempt >= attempts:
                raise
        except urllib3.exceptions.HTTPError as error:
            if attempt >= attempts:
                # Not chained: the library's error holds the request, and with it the signature.
                detail = redact(str(error) or type(error).__name__)
                raise FetchFailed(unreachable(detail), attempts=attempt) from None
        if wait is not None:
            leave_alone(signed, wait)
        else:
            pause = min(pause_s * 2 ** (attempt - 1), LONGEST_PAUSE_S)
            time.sleep(pause * (1 + random.random() / 3))
    raise AssertionError("unreachable")


def _ask(signed: str, archive: Archive, wanted: str | None, size: int) -> _Answer:
    """One request and the redirects it is sent on to, none of which may leave the archive."""
    address = signed
    most = max(size, WHOLE_FILE_BYTES) if wanted else size
    for _ in range(REDIRECTS + 1):
        refuse_foreign(address, archive)
        headers = {"Accept-Encoding": "identity", "User-Agent": "swath"}
        if wanted:
            headers["Range"] = wanted
        if same_place(address, signed):
            headers |= auth_headers(address, archive)
        answer = _one(address, headers, most, archive.requests_per_host)
        if answer.status not in {301, 302, 303, 307, 308}:
            return answer
        location = answer.headers.get("location", "")
        address = urljoin(address, location)
        try:
            refuse_foreign(address, archive)
        except SceneError as error:
            raise FetchFailed(
                Diagnosis(
                    "redirected-elsewhere",
                    f"the server redirects to {redact(unsigned(address))[:200]!r}, which is not read: "
                    f"{error.message}",
                    "a login may be missing; if files really lie there, add the host to `hosts`",
                    answer.status,
                )
            ) from None
    raise FetchFailed(
        Diagnosis(
            "redirected-elsewhere",
            f"the server redirects more than {REDIRECTS} times",
            "a login may be missing",
            answer.status,
        )
    )


def refuse_foreign(address: str, archive: Archive) -> None:
    """Raise where an address is none that a file of this archive may have.

    Raises
    ------
    SceneError: ``href-not-allowed``, or ``private-address``.
    """
    refusal = href_refusal(address, archive)
    if refusal is not None:
        raise SceneError(
            "href-not-allowed",
            f"{redact(unsigned(address))[:200]!r} is not read: {refusal}",
            subject=archive.name,
            next_step="correct `hosts` in the archive file, or serve the folder with `swath archive serve`",
        )
    archive.may_resolve_to(urlsplit(address).hostname or "")


def _one(address: str, headers: dict[str, str], most: int, limit: int) -> _Answer:
    with host_slot(address, limit):
        start = time.monotonic()
        answer = connections(address).urlopen(
            "GET",
            address,
            headers=headers,
            timeout=urllib3.Timeout(connect=CONNECT_S, read=SILENCE_S),
            preload_content=False,
            redirect=False,
            retries=False,
        )
        whole = False
        try:
            parts: list[bytes] = []
            got = 0
            declared = answer.headers.get("content-length", "")
            if answer.status == 200 and declared.isdigit() and int(declared) > most:
                return _Answer(answer.status, answer.headers, b"")
            while part := answer.read1(READ_BYTES, decode_content=False):
                parts.append(part)
                got += len(part)
                if got > most:
                    break
                seconds = time.monotonic() - start
                if seconds > SLOW_AFTER_S and got / seconds < SLOW_BYTES_S:
                    raise urllib3.exceptions.ProtocolError(f"{got} bytes in {seconds:.0f} s")
            else:
                whole = True
            return _Answer(answer.status, answer.headers, b"".join(parts))
        finally:
            # What was not read to its end would be taken for the next answer.
            answer.release_conn() if whole else answer.close()


def _checked(answer: _Answer, href: str, first: int, last: int) -> Fetched:
    """The bytes, if it is they."""
    if answer.status == 206:
        fetched = _partial(answer, first, last)
    elif answer.status == 416:
        raise FetchFailed(corrupt(f"the server has nothing from byte {first} on", 416))
    elif answer.status == 200:
        fetched = _from_whole(answer, href, first, last)
    else:
        raise FetchFailed(strange(answer.status), again=True)
    if first == 0 and not _is_raster(fetched.data):
        raise FetchFailed(_not_the_file(answer, "a GeoTIFF"), again=True)
    return fetched


def _partial(answer: _Answer, first: int, last: int) -> Fetched:
    stated = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", answer.headers.get("content-range", ""))
    if stated is None:
        raise FetchFailed(strange(206, "without saying which bytes they are"), again=True)
    start, end, total = (int(part) for part in stated.groups())
    expected = min(last, total - 1) - first + 1
    if start != first or end - start + 1 != expected or len(answer.body) != expected:
        raise FetchFailed(
            corrupt(f"{len(answer.body)} bytes came where {expected} of {total} were due", 206), again=True
        )
    return Fetched(answer.body, total, answer.headers.get("etag", ""))


def _from_whole(answer: _Answer, href: str, first: int, last: int) -> Fetched:
    if _is_page(answer) or not _is_raster(answer.body):
        raise FetchFailed(_not_the_file(answer, "a GeoTIFF"), again=True)
    declared = answer.headers.get("content-length", "")
    if len(answer.body) > WHOLE_FILE_BYTES or (declared.isdigit() and int(declared) > len(answer.body)):
        raise FetchFailed(
            Diagnosis(
                "asset-without-ranges",
                "the server does not give parts of the file",
                "fetch the files first, and serve their folder with `swath archive serve`",
                200,
            )
        )
    return Fetched(answer.body[first : last + 1], len(answer.body), answer.headers.get("etag", ""))


def _is_raster(data: bytes) -> bool:
    return data.startswith((*_TIFF_MAGIC, *_JP2_MAGIC))


def _is_page(answer: _Answer) -> bool:
    kind = answer.headers.get("content-type", "").lower()
    return "html" in kind or answer.body[:256].lstrip().lower().startswith((b"<!doctype html", b"<html"))


def _not_the_file(answer: _Answer, what: str) -> Diagnosis:
    kind = answer.headers.get("content-type", "unknown content").split(";")[0]
    if _is_page(answer):
        kind = "text/html"
    return Diagnosis(
        "asset-not-a-tiff" if "TIFF" in what else "side-file-not-the-file",
        f"the server answered with {kind} instead of {what}",
        "a login may be missing; open the address in a browser",
        answer.status,
    )
