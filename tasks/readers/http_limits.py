"""How much is asked of one host at a time, and how long it is left alone after it has said so.

Every request for a file of an archive goes through ``host_slot``: pixels and side files, whichever thread.
An archive that answers 429 or 503 with ``Retry-After`` means all of us, so the whole host is left alone until
then, not only by the thread that was told (RFC 9110, section 10.2.3).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

REQUESTS_PER_HOST = 32
"""Requests in flight to one host unless its archive file says otherwise."""
LONGEST_WAIT_S = 120.0
"""A ``Retry-After`` beyond this is not waited for: the scene is left for a later run."""


class _Host:
    """What is going on with one host; ``free`` guards it all."""

    def __init__(self) -> None:
        self.free = threading.Condition()
        self.in_flight = 0
        self.most = 0
        self.closed_until = 0.0


_hosts: dict[str, _Host] = {}
_lock = threading.Lock()


@contextmanager
def host_slot(href: str, limit: int | None = None) -> Iterator[None]:
    """Wait for a free place among the requests to ``href``'s host, and for the end of its ``Retry-After``.

    Parameters
    ----------
    limit: requests in flight to this host, ``REQUESTS_PER_HOST`` if none
    """
    host = _host_of(href)
    most = limit or REQUESTS_PER_HOST
    with host.free:
        while True:
            pause = host.closed_until - time.monotonic()
            if pause <= 0 and host.in_flight < most:
                break
            host.free.wait(pause if pause > 0 else None)
        host.in_flight += 1
        host.most = max(host.most, host.in_flight)
    try:
        yield
    finally:
        with host.free:
            host.in_flight -= 1
            host.free.notify_all()


def leave_alone(href: str, seconds: float) -> None:
    """Ask nothing of ``href``'s host for some seconds (at most ``LONGEST_WAIT_S``)."""
    host = _host_of(href)
    with host.free:
        until = time.monotonic() + min(max(seconds, 0.0), LONGEST_WAIT_S)
        host.closed_until = max(host.closed_until, until)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that an answer asks to wait, from its ``Retry-After`` (seconds or a date), or None."""
    value = next((text for name, text in headers.items() if name.lower() == "retry-after"), "").strip()
    if not value:
        return None
    if value.isdigit():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def most_in_flight(href: str) -> int:
    """The most requests that were ever in flight to ``href``'s host in this process."""
    return _host_of(href).most


def _host_of(href: str) -> _Host:
    # Two ports of one machine are two servers.
    name = urlsplit(href).netloc.rpartition("@")[2].lower()
    with _lock:
        return _hosts.setdefault(name, _Host())
