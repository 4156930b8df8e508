"""Which part of a period is searched again, so that late scenes are found and old ones cost nothing."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from catalog.database import open_database
from catalog.ledger.searches import Searches
from catalog.recipes import Period
from catalog.settings import Settings

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
OPEN = Period(start=date(2020, 1, 1), end=date(2026, 12, 31))


@pytest.fixture
def searches(engine: Engine) -> Searches:
    return Searches(engine)


def asked(
    searches: Searches,
    *,
    days: int | None = 30,
    later_days: float = 0,
    request: str = "r",
    period: Period = OPEN,
    product: str = "p",
) -> Period:
    return searches.period_to_search(
        "c",
        product,
        request,
        period,
        look_back_days=days,
        whole_every_days=100,
        now=NOW + timedelta(days=later_days),
    )


def test_the_first_search_is_of_the_whole_period(searches: Searches) -> None:
    assert asked(searches) == OPEN


def test_the_next_one_looks_back_over_the_late_arrival_window(searches: Searches) -> None:
    searches.note("c", "p", "r", start=OPEN.start, whole=OPEN, now=NOW)
    assert asked(searches, later_days=1) == Period(start=date(2026, 5, 2), end=OPEN.end)


def test_without_a_window_everything_is_searched_each_time(searches: Searches) -> None:
    searches.note("c", "p", "r", start=OPEN.start, whole=OPEN, now=NOW)
    assert asked(searches, days=None, later_days=1) == OPEN


def test_of_a_period_that_is_over_its_own_last_days_are_searched_again(searches: Searches) -> None:
    closed = Period(start=date(2020, 1, 1), end=date(2021, 12, 31))
    searches.note("c", "p", "r", start=closed.start, whole=closed, now=NOW)
    assert asked(searches, period=closed).start == date(2021, 12, 1)


def test_another_request_or_product_starts_anew(searches: Searches) -> None:
    searches.note("c", "p", "r", start=OPEN.start, whole=OPEN, now=NOW)
    assert asked(searches, request="a larger area") == OPEN
    assert asked(searches, product="q") == OPEN


def test_the_whole_period_is_searched_again_once_the_last_whole_search_is_old(searches: Searches) -> None:
    searches.note("c", "p", "r", start=OPEN.start, whole=OPEN, now=NOW)
    searches.note("c", "p", "r", start=date(2026, 5, 2), whole=OPEN, now=NOW + timedelta(days=60))
    assert asked(searches, later_days=99).start > OPEN.start
    assert asked(searches, later_days=100) == OPEN


def test_a_window_longer_than_the_period_is_the_period(searches: Searches) -> None:
    searches.note("c", "p", "r", start=OPEN.start, whole=OPEN, now=NOW)
    assert asked(searches, days=100_000) == OPEN


@given(gaps=st.lists(st.integers(0, 40), min_size=1, max_size=8), window=st.integers(0, 30))
@hypothesis_settings(max_examples=40, deadline=None)
def test_every_sensing_day_is_searched_again_until_it_is_older_than_the_window(
    gaps: list[int], window: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("searches")
    searches = Searches(open_database(Settings(home, f"sqlite:///{home / 's.db'}", str(home))))
    now, last_asked = NOW, dict.fromkeys(range(400), NOW)
    searches.note("c", "p", "r", start=OPEN.start, whole=OPEN, now=NOW)
    for gap in gaps:
        now += timedelta(days=gap)
        asked_now = searches.period_to_search(
            "c", "p", "r", OPEN, look_back_days=window, whole_every_days=10_000, now=now
        )
        searches.note("c", "p", "r", start=asked_now.start, whole=OPEN, now=now)
        for day in last_asked:
            if NOW.date() + timedelta(days=day - 60) >= asked_now.start:
                last_asked[day] = now
    for day, asked_at in last_asked.items():
        sensed = NOW.date() + timedelta(days=day - 60)
        assert asked_at.date() >= min(sensed + timedelta(days=window), now.date())
