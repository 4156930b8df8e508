"""One host is asked for so much at a time, and is left alone when it says so."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.readers.http_limits import LONGEST_WAIT_S, host_slot, leave_alone, most_in_flight, retry_after


def test_no_more_than_the_limit_are_in_flight_to_a_host() -> None:
    href = "https://limited.example/a.tif"
    inside, most, lock = 0, 0, threading.Lock()

    def request(_: int) -> None:
        nonlocal inside, most
        with host_slot(href, 3):
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.01)
            with lock:
                inside -= 1

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(request, range(36)))
    assert most == 3 == most_in_flight(href)


def test_hosts_do_not_wait_for_each_other() -> None:
    with host_slot("https://one.example/a", 1), host_slot("https://other.example/a", 1):
        pass


def test_a_request_that_fails_gives_its_place_back() -> None:
    href = "https://failing.example/a"
    for _ in range(3):
        with pytest.raises(RuntimeError), host_slot(href, 1):
            raise RuntimeError
    with host_slot(href, 1):
        pass


def test_a_host_that_asks_to_wait_is_left_alone_by_every_thread() -> None:
    href = "https://busy.example/a"
    leave_alone(href, 0.3)
    began = time.monotonic()
    waited: list[float] = []

    def request(_: int) -> None:
        with host_slot(href, 8):
            waited.append(time.monotonic() - began)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(request, range(8)))
    assert min(waited) >= 0.29


@given(st.integers(0, 10**6))
def test_seconds_are_read(seconds: int) -> None:
    assert retry_after({"Retry-After": str(seconds)}) == seconds


def test_dates_are_read_and_nonsense_is_not() -> None:
    soon = datetime.now(UTC) + timedelta(seconds=30)
    assert retry_after({"retry-after": format_datetime(soon, usegmt=True)}) == pytest.approx(30, abs=2)
    past = datetime.now(UTC) - timedelta(days=1)
    assert retry_after({"retry-after": format_datetime(past, usegmt=True)}) == 0
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({}) is None
    assert LONGEST_WAIT_S < 3600
