"""Reads one page of a search's answer: where it leads, how many items it counts, which were not asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from catalog.normalise.values import moment

Item = dict[str, Any]

SLACK = timedelta(minutes=2)
"""How far outside a stretch of time an item may lie and still have been asked for: times are rounded."""


def identity(item: Item) -> str:
    """What makes an item the same as one that came before."""
    return f"{item.get('collection')}/{item.get('id')}"


def next_link(page: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The link to the page after this one, if it has an address."""
    links = page.get("links")
    for link in links if isinstance(links, list) else ():
        if isinstance(link, Mapping) and link.get("rel") == "next" and link.get("href"):
            return link
    return None


def count_of(page: Mapping[str, Any]) -> int | None:
    """How many items the archive says that there are, in any of three spellings."""
    holders = (page.get("context"), page.get("search:metadata"))
    stated = [holder.get("matched") for holder in holders if isinstance(holder, Mapping)]
    for value in (page.get("numberMatched"), *stated):
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None


def count_strays(features: Iterable[Item], collection: str, start: datetime, end: datetime) -> int:
    """How many items are of another collection, or were sensed outside a stretch of time."""
    strays = 0
    for item in features:
        properties = item.get("properties")
        if not isinstance(properties, Mapping):
            continue
        first = moment(properties.get("datetime")) or moment(properties.get("start_datetime"))
        last = moment(properties.get("datetime")) or moment(properties.get("end_datetime"))
        outside = (first is not None and first > end + SLACK) or (last is not None and last < start - SLACK)
        strays += outside or item.get("collection") not in (None, collection)
    return strays
