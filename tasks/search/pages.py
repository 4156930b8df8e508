"""Gets all items of one question out of an archive, page by page, and notices when its paging does not hold.

What archives have been seen to do: answer the same page again and again; give a ``next`` link that forgets
the question, or leads to itself; answer an empty page in the middle; count more items than they hand out.
Where a page is not to be trusted, the same question is asked again without paging: for ever shorter stretches
of time (and, at one instant, ever smaller boxes), until each answer fits on one page.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import orjson

from catalog.errors import ArchiveError
from catalog.products import Product
from tasks.search.item_pages import Item, count_of, count_strays, identity, next_link
from tasks.signing import redact

if TYPE_CHECKING:
    from pystac_client import Client

    from catalog.archives import Archive

Box = tuple[float, float, float, float]

SHORTEST = timedelta(seconds=1)
"""Stretches of time are not cut shorter than this; then the box is cut."""
PATIENCE = timedelta(hours=12)
"""An archive that gives up on a search is asked for half as much, down to this."""
SMALLEST_DEG = 0.05
"""Boxes are not cut smaller than this."""
EMPTY_PAGES = 3
"""Empty pages in a row that are followed; each may be followed by one that is not."""

SMALL_PAGE = 10
"""Items on a page that every archive has been seen to allow."""
CLOUD = "eo:cloud_cover"

_OVERLOADED = {413, 502, 503, 504}
_NOT_UNDERSTOOD = {400, 404, 405, 406, 415, 422, 501}


class UntrustedPages(Exception):
    """Why the pages of an answer are not all of it."""


@dataclass(frozen=True)
class Question:
    """What is asked for: items of a collection in a box, sensed between two instants (both inclusive)."""

    collection: str
    box: Box
    start: datetime
    end: datetime


@dataclass(frozen=True)
class _Request:
    """One search as it was sent."""

    url: str
    method: str
    parameters: dict[str, Any]

    def __str__(self) -> str:
        return json.dumps([self.url, self.method, self.parameters], sort_keys=True, default=str)


@dataclass
class Asker:
    """Asks one archive, in the dialect that it is described with or that it turns out to understand."""

    client: Client
    archive: Archive
    product: Product
    max_cloud_percent: float | None = None
    notes: list[str] = field(default_factory=list)
    """What did not go as described, one line each."""
    keep: Callable[[list[Item]], list[Item]] = list
    """What of a page is kept; a page is let go before the next is asked for."""
    _widest: int = 0
    """Most items seen on one page: what the archive's pages can hold."""

    def items(self, question: Question) -> list[Item]:
        """All items of an answer, as they came (so perhaps twice).

        Raises
        ------
        ArchiveError: ``archive-unreachable``, ``archive-refused``, ``not-an-archive``, or
            ``archive-loses-items`` where not even short questions are answered in full.
        """
        from pystac_client.exceptions import APIError

        try:
            try:
                return list(self._paged(question))
            except UntrustedPages as trouble:
                self._note(f"{trouble}: asked again in smaller parts")
                return list(self._in_parts(question))
        except APIError as error:
            if _status(error) in _OVERLOADED and question.end - question.start > PATIENCE:
                return [item for half in _halves(question) for item in self.items(half)]
            raise refused(self.archive, error) from error

    def _paged(self, question: Question) -> Iterator[Item]:
        """Items page after page; raises UntrustedPages as soon as one is not to be trusted."""
        page, first = self._first_page(question)
        asked, seen = {str(first)}, set[str]()
        counted, came, empty = count_of(page), 0, 0
        features = _features(page, self.archive)
        astray_at_first = self._strays(features, question) > 0
        while True:
            if features and seen.issuperset(map(identity, features)):
                raise UntrustedPages("a page came again")
            if not astray_at_first and (strays := self._strays(features, question)):
                raise UntrustedPages(f"a later page held {strays} items that were not asked for")
            seen.update(map(identity, features))
            came += len(features)
            empty = 0 if features else empty + 1
            self._widest = max(self._widest, len(features))
            yield from self.keep(features)
            link = next_link(page)
            if link is None or (not features and counted is not None and came >= counted):
                break
            if empty > EMPTY_PAGES:
                raise UntrustedPages(f"{empty} empty pages came in a row, each with another to follow")
            following = self._request_of(link, first)
            if following is None:
                raise UntrustedPages("the next page lies on another host")
            if str(following) in asked:
                raise UntrustedPages("the next page is one that was read already")
            asked.add(str(following))
            page = self._next_page(following, link)
            features = _features(page, self.archive)
        if counted is not None and len(seen) < counted:
            raise UntrustedPages(f"it counts {counted} items and gave {len(seen)}")

    def _next_page(self, request: _Request, link: Mapping[str, Any]) -> dict[str, Any]:
        from pystac_client.exceptions import APIError

        try:
            return self._send(request, link.get("headers"))
        except APIError as error:
            status = _status(error) or 0
            if 400 <= status < 500 and status not in {*_OVERLOADED, 429}:
                raise UntrustedPages(f"the next page was refused (HTTP {status})") from error
            raise

    def _in_parts(self, question: Question) -> Iterator[Item]:
        """The first page of the question, or of ever smaller parts of it."""
        page, _ = self._first_page(question)
        features, counted = _features(page, self.archive), count_of(page)
        self._widest = max(self._widest, len(features))
        if counted is not None:
            whole = len(features) >= counted
        else:
            whole = next_link(page) is None or not features or len(features) < self._widest
        if whole:
            yield from self.keep(features)
            return
        parts = _halves(question)
        for part in parts:
            yield from self._in_parts(part)
        if not parts:
            says = "says that there are more" if counted is None else f"counts {counted}"
            where = ", ".join(f"{side:g}" for side in question.box)
            raise ArchiveError(
                "archive-loses-items",
                f"{self.archive.url} gave {len(features)} items of {question.collection} for "
                f"{interval(question.start, question.end)} in {where} and {says}, "
                "in whatever way it is asked",
                subject=self.archive.name,
                next_step="report it to the archive; another archive of the product may do",
            )

    def _first_page(self, question: Question) -> tuple[dict[str, Any], _Request]:
        """The first answer. What the archive turns out not to understand is left out, and noted."""
        from pystac_client.exceptions import APIError

        try:
            return self._ask(self.archive, question)
        except APIError as error:
            if _status(error) not in _NOT_UNDERSTOOD:
                raise
            first = error
        for simpler, what in self._simpler():
            try:
                answer = self._ask(simpler, question)
            except APIError as error:
                if _status(error) not in _NOT_UNDERSTOOD:
                    raise
                continue
            self.archive = simpler
            self._note(f"it refused {what} (HTTP {_status(first)}): asked without")
            return answer
        raise first

    def _simpler(self) -> Iterator[tuple[Archive, str]]:
        """The archive asked in simpler ways: one thing less at a time, then all of them."""
        described = self.archive
        less: list[tuple[dict[str, Any], str]] = []
        if property_filter(described, self.product, self.max_cloud_percent):
            less.append(({"filter": "client"}, f"the filter ({described.filter})"))
        if described.sort:
            less.append(({"sort": False}, "sorting"))
        if described.page_size > SMALL_PAGE:
            less.append(({"page_size": SMALL_PAGE}, f"{described.page_size} items on a page"))
        method = "GET" if described.method == "POST" else "POST"
        less.append(({"method": method}, f"{described.method} searches"))
        for change, what in less:
            yield described.model_copy(update=change), what
        if len(less) > 1:
            together = {name: value for change, _ in less for name, value in change.items()}
            without = {name: value for name, value in together.items() if name != "method"}
            yield described.model_copy(update=without), ", ".join(what for _, what in less[:-1])
            yield described.model_copy(update=together), ", ".join(what for _, what in less)

    def _ask(self, archive: Archive, question: Question) -> tuple[dict[str, Any], _Request]:
        options = property_filter(archive, self.product, self.max_cloud_percent)
        if archive.sort:
            options["sortby"] = [{"field": "properties.datetime", "direction": "asc"}]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            search = self.client.search(
                method=archive.method,
                collections=[question.collection],
                bbox=question.box,
                datetime=interval(question.start, question.end),
                limit=archive.page_size,
                **options,
            )
            request = _Request(str(search.url), archive.method, search.get_parameters())
        return self._send(request), request

    def _request_of(self, link: Mapping[str, Any], first: _Request) -> _Request | None:
        """The request that a link asks for; None where it leads away from the archive."""
        try:
            href = urljoin(first.url, str(link.get("href") or ""))
            if urlsplit(href).hostname != urlsplit(first.url).hostname:
                return None
        except ValueError:
            return None
        method = str(link.get("method") or "GET").upper()
        body = link.get("body")
        parameters = dict(body) if isinstance(body, Mapping) and method == "POST" else {}
        if method == "POST" and link.get("merge"):
            parameters = {**first.parameters, **parameters}
        return _Request(href, method, parameters)

    def _send(self, request: _Request, headers: Any = None) -> dict[str, Any]:
        from pystac_client.stac_api_io import StacApiIO

        io = self.client._stac_io
        assert isinstance(io, StacApiIO)
        text = io.request(
            request.url,
            method=request.method,
            headers=headers if isinstance(headers, dict) else None,
            parameters=request.parameters,
        )
        try:
            page = _parsed(text)
        except ValueError as error:
            raise _no_page(self.archive) from error
        if not isinstance(page, dict):
            raise _no_page(self.archive)
        return page

    @staticmethod
    def _strays(features: list[Item], question: Question) -> int:
        return count_strays(features, question.collection, question.start, question.end)

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def property_filter(archive: Archive, product: Product, max_cloud_percent: float | None) -> dict[str, Any]:
    """The part of a search that narrows by properties, in the archive's dialect; empty where it has none."""
    sees_ground = any(band.quantity in {"reflectance", "kelvin"} for band in product.bands)
    if max_cloud_percent is None or max_cloud_percent >= 100 or not sees_ground:
        return {}
    # A filter on a number that is stored as text finds nothing, without an error.
    if CLOUD in archive.stored_as_text:
        return {}
    match archive.filter:
        case "cql2-json":
            condition = {"op": "<=", "args": [{"property": CLOUD}, max_cloud_percent]}
            return {"filter": condition, "filter_lang": "cql2-json"}
        case "cql2-text":
            return {"filter": f'"{CLOUD}" <= {max_cloud_percent:g}', "filter_lang": "cql2-text"}
        case "query":
            # As a dict: the library's short form sends the number as text, compared letter by letter.
            return {"query": {CLOUD: {"lte": max_cloud_percent}}}
        case _:
            return {}


def interval(start: datetime, end: datetime) -> str:
    """Two instants as a search takes them, to the millisecond."""
    return "/".join(
        f"{t.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{t.microsecond // 1000:03d}Z" for t in (start, end)
    )


def refused(archive: Archive, error: Exception) -> ArchiveError:
    """What an answer with an error status, or none at all, means to the user."""
    status = _status(error)
    detail = redact(" ".join(str(error).split()))[:300]
    if status is None or status in {429, 500, 502, 503, 504}:
        return ArchiveError(
            "archive-unreachable",
            f"{archive.url} does not answer{f' (HTTP {status})' if status else ''}: {detail}",
            subject=archive.name,
            next_step="check the network and the archive's status, then run again: what was cubed is kept",
        )
    return ArchiveError(
        "archive-refused",
        f"{archive.url} refused the search (HTTP {status}): {detail}",
        subject=archive.name,
        next_step="see what it can do with `swath archive probe`, and correct the archive file",
    )


def _status(error: Exception) -> int | None:
    """The HTTP status of a client's error; None where there was no answer."""
    status = getattr(error, "status_code", None)
    return status if isinstance(status, int) else None


def _parsed(text: str) -> Any:
    """A JSON document; NaN and other things that are no JSON are let pass, as archives let them."""
    try:
        return orjson.loads(text)
    except ValueError:
        return json.loads(text)


def _no_page(archive: Archive) -> ArchiveError:
    return ArchiveError(
        "not-an-archive",
        f"{archive.url} answered a search with something that is no list of items",
        subject=archive.name,
        next_step="run again; if it stays, report it to the archive",
    )


def _features(page: Mapping[str, Any], archive: Archive) -> list[Item]:
    features = page.get("features")
    if not isinstance(features, list):
        raise _no_page(archive)
    return [item for item in features if isinstance(item, dict)]


def _halves(question: Question) -> list[Question]:
    """Two parts that together are the question; they overlap by an instant or a line. None if it is small."""
    start, end = question.start, question.end
    if end - start > SHORTEST:
        middle = start + (end - start) / 2
        return [replace(question, end=middle), replace(question, start=middle)]
    west, south, east, north = question.box
    if max(east - west, north - south) <= SMALLEST_DEG:
        return []
    if east - west >= north - south:
        middle_x = (west + east) / 2
        return [
            replace(question, box=(west, south, middle_x, north)),
            replace(question, box=(middle_x, south, east, north)),
        ]
    middle_y = (south + north) / 2
    return [
        replace(question, box=(west, south, east, middle_y)),
        replace(question, box=(west, middle_y, east, north)),
    ]
