"""Signs hrefs at the moment of reading, and keeps signatures out of every message.

Only unsigned hrefs are stored or logged; a signed one lives as long as one open file.
Planetary Computer's own library returns an already signed address unchanged even when it has expired
(microsoft/planetary-computer-sdk-for-python#65), hence the stripping.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from catalog.errors import ArchiveError, UsageError

if TYPE_CHECKING:
    from catalog.archives import Archive

Signer = Callable[[str, bool], str]
"""``signer(unsigned href, fresh)`` → the href to read; ``fresh`` drops what was cached for it."""

_SECRET = re.compile(
    r"""(?ix) \b(
        sig | se | st | sp | sv | sr | ske | skt | skoid | sktid | sks | skv | token | access_token | api_?key
        | x-amz-[a-z-]+ | x-goog-[a-z-]+ | signature | expires | key-pair-id | policy | credential
        | subscription-key | password
    )=[^&\s'"<>)]+"""
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{8,}")
_LOGIN = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^/\s@'\"]+@")

_token_lock = threading.Lock()


def unsigned(href: str) -> str:
    """The href without query and fragment."""
    return urlunsplit(urlsplit(href)._replace(query="", fragment=""))


def redact(text: str) -> str:
    """``text`` without the values of signatures, tokens and logins."""
    text = _SECRET.sub(lambda match: f"{match[1]}=…", text)
    text = _BEARER.sub(lambda match: f"{match[1]} …", text)
    return _LOGIN.sub(lambda match: f"{match[1]}…@", text)


def sign_href(href: str, archive: Archive, *, fresh: bool = False) -> str:
    """The address to read ``href`` from, good for reading now and for nothing else.

    Parameters
    ----------
    fresh: after a 403: drop the cached token, and sign the bare address again.

    Raises
    ------
    UsageError:   ``unknown-access``, where the archive names a way of signing that nobody wrote.
    ArchiveError: ``signing-failed``, where the token service did not answer.
    """
    if archive.access not in SIGNERS:
        raise UsageError(
            "unknown-access",
            f"access {archive.access!r} is none of {', '.join(sorted(SIGNERS))}",
            subject=archive.name,
            next_step="correct `access` in the archive file",
        )
    return SIGNERS[archive.access](href, fresh)


def can_sign_again(archive: Archive) -> bool:
    """Whether a 403 may come from a signature that went stale."""
    return archive.access in RENEWABLE


def _as_it_is(href: str, fresh: bool) -> str:
    return href


def _planetary_computer(href: str, fresh: bool) -> str:
    import planetary_computer
    from planetary_computer import sas

    bare = unsigned(href)
    # The library's cache has no lock: without ours, each of many threads would ask for its own token.
    with _token_lock:
        if fresh:
            account = urlsplit(bare).netloc.split(".")[0]
            container = urlsplit(bare).path.lstrip("/").split("/")[0]
            for key in [key for key in sas.TOKEN_CACHE if key.endswith(f"/{account}/{container}")]:
                del sas.TOKEN_CACHE[key]
        try:
            return str(planetary_computer.sign(bare))
        except Exception as error:  # requests' and pydantic's errors, whatever the token service answered
            raise ArchiveError(
                "signing-failed",
                redact(f"no token for {bare}: {error}"),
                subject="planetary-computer",
                next_step="check the network, then run again: what was read is kept",
            ) from error


SIGNERS: dict[str, Signer] = {
    "anonymous": _as_it_is,
    "planetary-computer-sas": _planetary_computer,
    "requester-pays": _as_it_is,
    "s3-keys": _as_it_is,
    "login": _as_it_is,
}
"""``Archive.access`` → how its hrefs are signed.

GDAL itself signs ``s3://`` from the ``AWS_*`` variables, and logs in with ``~/.netrc`` where it is told to.
"""

RENEWABLE = {"planetary-computer-sas"}
