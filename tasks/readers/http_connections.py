"""Connections to archives' hosts, kept open between requests, through the proxy that the environment names.

urllib3 rather than httpx, which takes twice the CPU time for a range of 256 kB: at a few hundred ranges a
second that is a core which should decode.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx
import urllib3

KEPT_OPEN = 64
"""Idle connections to one host; ``host_slot`` limits how many are in use."""
HOSTS = 64
"""Hosts that connections are kept to."""


def connections(address: str) -> urllib3.PoolManager:
    """The connections that lead to an address."""
    parts = urlsplit(address)
    return _leading_to(parts.scheme, parts.hostname or "")


@cache
def _leading_to(scheme: str, host: str) -> urllib3.PoolManager:
    proxies = getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    return _manager(None if proxy_bypass(host) else proxy)


@cache
def _manager(proxy: str | None) -> urllib3.PoolManager:
    # Its lines hold whole paths and queries, and with them signatures.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    options: dict[str, Any] = {
        "num_pools": HOSTS,
        "maxsize": KEPT_OPEN,
        "ssl_context": httpx.create_ssl_context(),
    }
    if proxy is None:
        return urllib3.PoolManager(**options)
    login = urlsplit(proxy)
    if login.username:
        pair = f"{unquote(login.username)}:{unquote(login.password or '')}"
        options["proxy_headers"] = urllib3.make_headers(proxy_basic_auth=pair)
    return urllib3.ProxyManager(proxy, **options)
