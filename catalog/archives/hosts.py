"""Hosts as they may be written: one spelling for each, and which of them lie inside a private network.

An item may name any address; a reader inside a cluster reaches more than the item's author does. So a host is
brought to one spelling before it is compared: ``2130706433``, ``0x7f.1``, ``0177.0.0.1``, ``127.1`` and
``[::ffff:127.0.0.1]`` all are ``127.0.0.1``, and a trailing dot changes nothing.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address

KEPT_S = 30.0
"""How long a resolver's answer is kept: a scene is hundreds of requests to one host."""

_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_NUMERIC = re.compile(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+))*")
_LOCAL_ENDINGS = (
    "localhost", "localdomain", "local", "internal", "intranet", "lan", "home", "corp", "home.arpa",
)  # fmt: skip
"""Endings that no public name has (RFC 6761, 6762, 8375, and what networks use without asking)."""

_CARRIES_IPV4: tuple[tuple[IPv6Network, int], ...] = (
    (IPv6Network("::ffff:0:0/96"), 0),
    (IPv6Network("::ffff:0:0:0/96"), 0),
    (IPv6Network("::/96"), 0),
    (IPv6Network("64:ff9b::/96"), 0),
    (IPv6Network("64:ff9b:1::/48"), 0),
    (IPv6Network("2002::/16"), 80),
)
"""Networks whose addresses hold an IPv4 address, and how many bits stand behind it (RFC 4291, 6052, 3056)."""

_NOT_PUBLIC: tuple[IPv4Network | IPv6Network, ...] = (
    ip_network("2001::/32"),  # Teredo: leads to an IPv4 address that it hides
    ip_network("fec0::/10"),  # site-local, deprecated
    ip_network("168.63.129.16/32"),  # the platform address of Azure's virtual machines
)


@lru_cache(maxsize=4096)
def spelled(host: str) -> str | None:
    """The one spelling of a host name or address; None where it is none.

    Names are lower case ASCII without a trailing dot; addresses are as ``ipaddress`` writes them, an IPv4
    address inside an IPv6 one as itself. Unicode names are refused: their ASCII spelling (``xn--…``) is not.
    """
    if not host or not host.isascii() or len(host) > 253:
        return None
    bare = host.lower().removesuffix(".")
    if bare.startswith("[") or ":" in bare:
        try:
            address: Address = ip_address(bare.removeprefix("[").removesuffix("]"))
        except ValueError:
            return None
        return None if getattr(address, "scope_id", None) else str(_plain(address))
    if _NUMERIC.fullmatch(bare):
        # Whatever starts like a number is an address to the C library, and to nobody a name.
        try:
            return str(IPv4Address(socket.inet_aton(bare)))
        except (OSError, ValueError):
            return None
    return bare if _NAME.fullmatch(bare) else None


def literal_address(host: str) -> Address | None:
    """The address that a host spells out in any of its spellings; None for a name."""
    name = spelled(host)
    try:
        return ip_address(name) if name else None
    except ValueError:
        return None


def is_public(address: Address) -> bool:
    """Whether an address is on the internet: not loopback, private, link-local, shared or multicast."""
    address = _plain(address)
    if any(address in network for network in _NOT_PUBLIC if network.version == address.version):
        return False
    return address.is_global and not address.is_multicast


def is_local_name(host: str) -> bool:
    """Whether a name belongs to one machine or one network: ``localhost``, ``minio``, ``x.internal``."""
    name = spelled(host)
    if name is None or literal_address(name) is not None:
        return False
    return "." not in name or any(name == end or name.endswith(f".{end}") for end in _LOCAL_ENDINGS)


def is_private(host: str) -> bool:
    """Whether a host is by its own spelling inside a private network, or no host at all.

    A public name may still resolve to a private address: ``private_addresses`` asks the resolver.
    """
    if spelled(host) is None:
        return True
    address = literal_address(host)
    return not is_public(address) if address is not None else is_local_name(host)


def private_addresses(host: str) -> tuple[str, ...]:
    """The private ones among the addresses that a host resolves to; empty where it does not resolve.

    An answer is kept for half a minute. What resolves to a public address now may resolve to a private one
    when the file is opened a moment later: GDAL and httpx ask the resolver themselves. Only an egress rule of
    the network closes that gap.
    """
    return _looked_up(host, int(time.monotonic() / KEPT_S))


@lru_cache(maxsize=512)
def _looked_up(host: str, when: int) -> tuple[str, ...]:
    try:
        found: Iterable[str] = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return ()
    addresses = (literal_address(text.partition("%")[0]) for text in found)
    return tuple(sorted(str(a) for a in addresses if a is not None and not is_public(a)))


def _plain(address: Address) -> Address:
    """An IPv4 address that hides in an IPv6 one, as itself."""
    if isinstance(address, IPv4Address):
        return address
    for network, behind in _CARRIES_IPV4:
        if address in network and int(address) > 1:
            return IPv4Address((int(address) >> behind) & 0xFFFFFFFF)
    return address
