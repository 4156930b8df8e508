"""Addresses of files: only http, https and s3, only where the archive's files lie, never with a signature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

from catalog.archives.model import Archive
from catalog.normalise.findings import Findings

SCHEMES = ("http", "https", "s3")
"""``file:`` and GDAL's ``/vsi…`` would let an item name files of this machine."""


def unsigned(
    href: Any, key: str, item: Mapping[str, Any], archive: Archive, findings: Findings
) -> str | None:
    """The address without query, fragment and credentials; None (and a refusal) where it is not allowed."""
    if not isinstance(href, str) or not href:
        findings.refuse_asset(key, "no href")
        return None
    try:
        address = _absolute(href, item)
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        findings.refuse_asset(key, "its href is no address")
        return None
    if parts.scheme not in SCHEMES or not host or any(ord(c) <= 32 or ord(c) == 127 for c in address):
        kind = f"a {parts.scheme}: address" if parts.scheme not in ("", *SCHEMES) else "no complete address"
        findings.refuse_asset(key, f"its href is {kind}, only http, https and s3 are read")
        return None
    if not archive.may_hold(host):
        findings.refuse_asset(key, f"it lies on {host}, which is none of the archive's hosts")
        return None
    if parts.username or parts.password:
        findings.repair("credentials taken out of an address")
    if address != href:
        findings.repair("relative addresses completed from the item's own")
    # A bucket's name is case sensitive, and `hostname` is not: keep what stands behind the credentials.
    netloc = (
        parts.netloc.rpartition("@")[2] if parts.scheme == "s3" or port is None else _with_port(host, port)
    )
    return urlunsplit((parts.scheme, netloc, parts.path, "", ""))


def _with_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _absolute(href: str, item: Mapping[str, Any]) -> str:
    if urlsplit(href).scheme:
        return href
    links = item.get("links")
    for link in links if isinstance(links, list) else ():
        if isinstance(link, Mapping) and link.get("rel") == "self":
            own = link.get("href")
            if isinstance(own, str) and own.startswith(("http://", "https://")):
                return urljoin(own, href)
    return href
