"""Which addresses may be read: known schemes, known hosts, nothing that names files of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

from catalog.archives.hosts import is_private, spelled

if TYPE_CHECKING:
    from catalog.archives.model import Archive

SCHEMES = ("http", "https", "s3")
"""``file:`` and GDAL's ``/vsi…`` would let an item name files of this machine."""

LONGEST = 4096
"""Characters of an address; a data URL or an inline VRT is longer, a file's address is not."""


def href_refusal(href: str, archive: Archive) -> str | None:
    """Why a file at this complete address is not read as one of the archive's, or None.

    Plain http is read from the archive's own host, from hosts that the user vouched for, and where the
    archive itself is http: elsewhere somebody on the way could exchange the pixels.
    """
    try:
        parts = urlsplit(href)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        return "its href is no address"
    if parts.scheme not in SCHEMES or not host:
        kind = f"a {parts.scheme}: address" if parts.scheme not in ("", *SCHEMES) else "no complete address"
        return f"its href is {kind}, only http, https and s3 are read"
    if len(href) > LONGEST or "\\" in href or any(ord(c) <= 32 or ord(c) == 127 for c in href):
        return "its href holds what no address holds"
    return _host_refusal(parts, host, archive) or _path_refusal(parts)


def _host_refusal(parts: SplitResult, host: str, archive: Archive) -> str | None:
    name = spelled(host)
    if name is None:
        return f"its host {host[:80]!r} is spelled as no host is"
    if parts.scheme == "s3":
        if not archive.may_hold_bucket(name):
            return f"it lies in the bucket {name}, which is none of the archive's"
        return None
    if not archive.may_hold(name):
        if is_private(name):
            return f"it lies on {name}, inside a private network"
        return f"it lies on {name}, which is none of the archive's hosts"
    if parts.scheme == "http" and not archive.may_be_plain(name):
        return f"it lies on {name} without encryption (http)"
    return None


def _path_refusal(parts: SplitResult) -> str | None:
    # Twice: what is decoded once more on the way to a driver must not turn into another thing.
    path = unquote(unquote(parts.path)).lower()
    if path.endswith(".vrt"):
        return "it is a VRT, which may name any other file"
    if "/vsi" in path or "<vrtdataset" in path:
        return "its path names a virtual file system"
    if "\0" in path or any(part in ("..", ".") for part in path.split("/")):
        return "its path climbs"
    return None
