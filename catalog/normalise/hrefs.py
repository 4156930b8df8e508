"""Addresses of files: only http, https and s3, only where the archive's files lie, never with a signature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

from catalog.archives.hosts import spelled
from catalog.archives.hrefs import href_refusal
from catalog.archives.model import Archive
from catalog.normalise.findings import Findings


def unsigned(
    href: Any, key: str, item: Mapping[str, Any], archive: Archive, findings: Findings
) -> str | None:
    """The address without query, fragment and credentials; None (and a refusal) where it is not allowed."""
    if not isinstance(href, str) or not href:
        findings.refuse_asset(key, "no href")
        return None
    try:
        address = _absolute(href, item)
    except ValueError:
        address = href
    refusal = href_refusal(address, archive)
    if refusal is not None:
        findings.refuse_asset(key, refusal)
        return None
    parts = urlsplit(address)
    host, port = spelled(parts.hostname or "") or "", parts.port
    if parts.username or parts.password:
        findings.repair("credentials taken out of an address")
    if address != href:
        findings.repair("relative addresses completed from the item's own")
    # A bucket's name is case sensitive, and `hostname` is not: keep what stands behind the credentials.
    netloc = parts.netloc.rpartition("@")[2] if parts.scheme == "s3" else _with_port(host, port)
    return urlunsplit((parts.scheme, netloc, parts.path, "", ""))


def _with_port(host: str, port: int | None) -> str:
    name = f"[{host}]" if ":" in host else host
    return name if port is None else f"{name}:{port}"


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
