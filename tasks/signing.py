"""Signs hrefs at the moment of reading, and keeps signatures out of every message.

Only unsigned hrefs are stored or logged; a signed one lives as long as one request. Planetary Computer's own
library returns an already signed address unchanged even when it has expired
(microsoft/planetary-computer-sdk-for-python#65), knows no timeout, and asks once per thread; so only its
settings are used, and the token is fetched and kept by ``tasks.tokens``.
"""

from __future__ import annotations

import base64
import netrc
import os
import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from catalog.errors import ArchiveError, UsageError
from tasks.tokens import Token, ask_for_bearer, ask_for_sas, shared_token

if TYPE_CHECKING:
    from catalog.archives import Archive

Signer = Callable[[str, "Archive", bool], str]
"""``signer(href, archive, fresh)`` → the href to read; ``fresh``: the token in ``href`` was refused."""

_SECRET = re.compile(
    r"""(?ix) \b(
        sig | se | st | sp | sv | sr | ske | skt | skoid | sktid | sks | skv | token | access_token | api_?key
        | x-amz-[a-z-]+ | x-goog-[a-z-]+ | signature | expires | key-pair-id | policy | credential
        | subscription-key | password
    )=[^&\s'"<>)]+"""
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{8,}")
_LOGIN = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^/\s@'\"]+@")

AZURE_BLOBS = "*.blob.core.windows.net"
BEARER_CLIENT = "cdse-public"
"""The client id that the Copernicus Data Space gives to programs without one of their own."""


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
    fresh: after a 403: strip ``href``, drop the token it carries, and sign the bare address again

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
    return SIGNERS[archive.access](href, archive, fresh)


def auth_headers(address: str, archive: Archive) -> dict[str, str]:
    """Headers that a request for ``address`` carries beside the signed address; never to be logged.

    A login or bearer token goes out encrypted only, or to this machine.

    Raises
    ------
    ArchiveError: ``signing-failed``.
    """
    parts = urlsplit(address)
    if parts.scheme != "https" and not archive.may_be_plain(parts.hostname or ""):
        return {}
    if archive.access == "login":
        found = _login(parts.hostname or "")
        if found:
            text = base64.b64encode(":".join(found).encode()).decode("ascii")
            return {"Authorization": f"Basic {text}"}
    if archive.access == "oidc":
        return {"Authorization": f"Bearer {_bearer(archive)}"}
    return {}


def can_sign_again(archive: Archive) -> bool:
    """Whether a 403 may come from a token that went stale."""
    return archive.access in RENEWABLE


def same_place(one: str, other: str) -> bool:
    """Whether two addresses are answered by one server; what is secret for one is not for another."""
    a, b = urlsplit(one), urlsplit(other)
    return (a.scheme, a.hostname, a.port) == (b.scheme, b.hostname, b.port)


def _as_it_is(href: str, archive: Archive, fresh: bool) -> str:
    return href


def _planetary_computer(href: str, archive: Archive, fresh: bool) -> str:
    from planetary_computer.settings import DEFAULT_SAS_TOKEN_ENDPOINT, Settings

    bare = unsigned(href)
    container = token_container(bare, archive)
    if container is None:
        return bare
    settings = Settings.get()
    chosen = settings.sas_url if settings.sas_url != DEFAULT_SAS_TOKEN_ENDPOINT else archive.token_url
    service = f"{(chosen or DEFAULT_SAS_TOKEN_ENDPOINT).rstrip('/')}/{container}"
    headers = {}
    if settings.subscription_key:
        headers["Ocp-Apim-Subscription-Key"] = settings.subscription_key

    def ask() -> Token:
        return ask_for_sas(service, headers, archive.name)

    refused = None
    if fresh:
        refused = urlsplit(href).query or shared_token(service, ask)
    return f"{bare}?{shared_token(service, ask, not_this=refused)}"


def token_container(bare: str, archive: Archive) -> str | None:
    """``account/container`` whose token opens a file; None for a file that needs none.

    Azure's blob addresses say it themselves; for other hosts the archive file does, in ``token_hosts``.
    """
    parts = urlsplit(bare)
    host = (parts.hostname or "").lower()
    for pattern, container in archive.token_hosts.items():
        if fnmatchcase(host, pattern.lower()):
            return str(container)
    if fnmatchcase(host, AZURE_BLOBS):
        return f"{host.split('.')[0]}/{parts.path.lstrip('/').split('/')[0]}"
    return None


def _open_id(href: str, archive: Archive, fresh: bool) -> str:
    if fresh:
        _bearer(archive, fresh=True)
    return href


def _bearer(archive: Archive, *, fresh: bool = False) -> str:
    """A bearer token: given in the environment, or by a login at the archive's token endpoint."""
    variable = f"SWATH_TOKEN_{re.sub(r'[^A-Z0-9]', '_', archive.name.upper())}"
    given = os.environ.get(variable)
    if given:
        return given.strip()
    service = archive.token_url
    found = _login(urlsplit(service).hostname or "") if service else None
    if service is None or found is None:
        raise ArchiveError(
            "signing-failed",
            f"there is no login for {archive.name}",
            subject=archive.name,
            next_step=f"put one for the host of `token_url` into ~/.netrc, or a token into {variable}",
        )
    user, password = found
    form = {
        "grant_type": "password", "client_id": BEARER_CLIENT, "username": user, "password": password,
    }  # fmt: skip

    def ask() -> Token:
        return ask_for_bearer(service, form, archive.name)

    held = shared_token(service, ask)
    return shared_token(service, ask, not_this=held) if fresh else held


def _login(host: str) -> tuple[str, str] | None:
    """User and password for a host from ``~/.netrc``, or the file that ``NETRC`` names."""
    path = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    try:
        found = netrc.netrc(str(path)).authenticators(host)
    except (OSError, netrc.NetrcParseError):
        return None
    if found is None:
        return None
    user, _, password = found
    return (user, password) if user and password else None


SIGNERS: dict[str, Signer] = {
    "anonymous": _as_it_is,
    "planetary-computer-sas": _planetary_computer,
    "requester-pays": _as_it_is,
    "s3-keys": _as_it_is,
    "login": _as_it_is,
    "oidc": _open_id,
}
"""``Archive.access`` → how its hrefs are signed.

GDAL itself signs ``s3://`` from the ``AWS_*`` variables.
"""

RENEWABLE = {"planetary-computer-sas", "oidc"}
