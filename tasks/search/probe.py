"""Asks an archive what it can do: which filters, sorting, methods, page sizes and counts really work.

What an archive declares (its conformance classes) and what it does are two things: a filter may be refused,
or ignored without a word. So a filter counts as understood only if a condition that nothing meets finds
nothing, while one that everything meets finds something. All searches are of one item, in one collection.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal
from urllib.parse import urljoin, urlsplit

import httpx

from catalog.archives import Archive
from catalog.errors import ArchiveError, UsageError
from catalog.normalise.values import moment
from tasks.search.item_pages import count_of, next_link
from tasks.search.pages import CLOUD
from tasks.signing import redact

Dialect = Literal["cql2-json", "cql2-text", "query", "client"]
Seen = Literal["works", "ignored", "refused", "unknown"]

DIALECTS: tuple[Dialect, ...] = ("cql2-json", "query", "cql2-text")
"""In order of preference."""
CLASSES: dict[Dialect, tuple[str, ...]] = {
    "cql2-json": ("cql2-json", "filter:cql2-json"),
    "cql2-text": ("cql2-text", "filter:cql2-text"),
    "query": ("item-search#query",),
}
"""Dialect → endings of the conformance classes that declare it."""
PAGE_SIZES = (1000, 500, 250, 100, 10)
NOWHEN = "1900-01-01T00:00:00Z/1900-01-02T00:00:00Z"
"""No satellite image is that old: a search that tests a parameter and moves no items."""


@dataclass(frozen=True)
class Capabilities:
    """What one archive was found to do, on one collection."""

    url: str
    collection: str | None
    declared: tuple[str, ...]
    """Dialects its conformance classes name."""
    filters: Mapping[str, Seen]
    """Dialect → what came of trying it; ``unknown`` where no search could tell."""
    methods: Mapping[str, Seen]
    sort: Seen
    page_size: int | None
    """Largest page size of those tried that a search with it was answered; it may still hand out fewer."""
    counts: bool | None
    """Whether an answer says how many items there are."""
    paging: Seen
    """Whether the second page of one item holds another item than the first."""
    stored_as_text: tuple[str, ...]
    """Numeric properties whose queryable, or whose item, holds text."""
    notes: tuple[str, ...] = field(default=())

    @property
    def filter(self) -> Dialect:
        """The dialect to use: one that was seen to work, else one that is declared and was not disproved."""
        for dialect in DIALECTS:
            if self.filters.get(dialect) == "works":
                return dialect
        for dialect in DIALECTS:
            if dialect in self.declared and self.filters.get(dialect, "unknown") == "unknown":
                return dialect
        return "client"

    @property
    def method(self) -> Literal["GET", "POST"]:
        """How to search: POST where it works or is not disproved, since its conditions keep their types."""
        if self.filter == "cql2-text":
            return "GET"
        return "GET" if self.methods.get("POST") == "refused" else "POST"

    def lines(self) -> list[str]:
        """What was found, for people."""
        tried = ", ".join(f"{dialect} {seen}" for dialect, seen in self.filters.items())
        counts = {True: "yes", False: "no", None: "unknown"}[self.counts]
        return [
            f"address      {self.url}",
            f"collection   {self.collection or 'none'}",
            f"declares     {', '.join(self.declared) or 'no filter'}",
            f"filters      {tried}",
            f"searches by  {', '.join(f'{method} {seen}' for method, seen in self.methods.items())}",
            f"sorting      {self.sort}",
            f"paging       {self.paging}",
            f"page size    {self.page_size or 'unknown'}",
            f"counts       {counts}",
            *(f"text         {name} is a number stored as text" for name in self.stored_as_text),
            f"to use       filter: {self.filter}, method: {self.method}",
            *(f"note         {note}" for note in self.notes),
        ]

    def to_dict(self) -> dict[str, Any]:
        """A JSON document."""
        return asdict(self) | {"filter": self.filter, "method": self.method}


def probe_archive(
    archive: Archive, *, collection: str | None = None, timeout_s: float = 30.0, searches: bool = True
) -> Capabilities:
    """What an archive can do.

    Parameters
    ----------
    collection: to search in; the archive's first described one, or the first that it lists
    searches:   false to read only what it declares

    Raises
    ------
    ArchiveError: ``archive-unreachable`` or ``not-an-archive``, of its landing page. A search that fails is
        an answer.
    UsageError:   ``archive-has-no-address``.
    """
    if not archive.url:
        raise UsageError(
            "archive-has-no-address",
            f"the archive {archive.name} has no address until it is served",
            subject=archive.name,
            next_step="start it with `swath archive serve`",
        )
    with httpx.Client(timeout=timeout_s, follow_redirects=True) as http:
        return _Probe(archive, http).run(collection, searches=searches)


def as_probed(archive: Archive, collection: str) -> tuple[Archive, list[str]]:
    """An archive with what a probe found instead of what was assumed, and what that was, for the record."""
    found = probe_archive(archive, collection=collection)
    changes: dict[str, Any] = {
        "filter": found.filter,
        "method": found.method,
        "sort": found.sort == "works" and found.paging == "works",
        "stored_as_text": tuple(dict.fromkeys((*archive.stored_as_text, *found.stored_as_text))),
    }
    if found.page_size is not None:
        changes["page_size"] = min(found.page_size, archive.page_size)
    said = f"probed: filters by {found.filter}, {found.method}" + (", sorts" if changes["sort"] else "")
    return archive.model_copy(update=changes), [said, *found.notes]


class _Probe:
    """One archive being asked."""

    def __init__(self, archive: Archive, http: httpx.Client) -> None:
        self.archive, self.http = archive, http
        self.notes: list[str] = []
        self.search = f"{archive.url.rstrip('/')}/search"
        self.collection: str | None = None

    def run(self, collection: str | None, *, searches: bool) -> Capabilities:
        landing = self._landing()
        links = [link for link in landing.get("links") or () if isinstance(link, Mapping)]
        self.search = self._link(links, "search") or self.search
        declared = self._classes(landing, links)
        self.collection = collection or next(iter(self.archive.collections.values()), None)
        if searches and self.collection is None:
            self.collection = self._first_collection(links)
        methods: dict[str, Seen] = {"GET": "unknown", "POST": "unknown"}
        filters: dict[str, Seen] = dict.fromkeys(DIALECTS, "unknown")
        sort: Seen = "unknown"
        paging: Seen = "unknown"
        size: int | None = None
        counts: bool | None = None
        text: tuple[str, ...] = ()
        if searches:
            answers = {method: self._ask(method, {}) for method in methods}
            methods = {method: _verdict(answer) for method, answer in answers.items()}
            method = next((m for m in ("POST", "GET") if methods[m] == "works"), None)
            if method is not None:
                page = answers[method]
                counts = count_of(page) is not None
                text = _numbers_as_text(page)
                filters = {dialect: self._filter(dialect) for dialect in DIALECTS}
                sort = self._sort(method)
                size = self._page_size(method)
                paging = self._paging(page)
        return Capabilities(
            url=self.archive.url,
            collection=self.collection,
            declared=tuple(d for d in DIALECTS if any(_ends(c, CLASSES[d]) for c in declared)),
            filters=filters,
            methods=methods,
            sort=sort if sort != "unknown" or searches else _declared_sort(declared),
            page_size=size,
            counts=counts,
            paging=paging,
            stored_as_text=text,
            notes=tuple(self.notes),
        )

    def _landing(self) -> Mapping[str, Any]:
        url = self.archive.url
        try:
            answer = self.http.get(url)
            answer.raise_for_status()
            document = answer.json()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ArchiveError(
                "archive-unreachable",
                redact(f"{url} does not answer: {error}"),
                subject=self.archive.name,
                next_step="check the address, the network and the archive's status",
            ) from error
        except ValueError as error:
            raise _no_archive(self.archive) from error
        if not isinstance(document, dict) or not isinstance(document.get("links"), list):
            raise _no_archive(self.archive)
        if "features" in document or not {"stac_version", "conformsTo"} & set(document):
            raise _no_archive(self.archive)
        return document

    def _classes(self, landing: Mapping[str, Any], links: list[Mapping[str, Any]]) -> tuple[str, ...]:
        """Conformance classes: of the landing page, else of the page that it links to."""
        stated = landing.get("conformsTo")
        if not stated and (href := self._link(links, "conformance")):
            page = self._get(href)
            stated = page.get("conformsTo") if page else None
        return tuple(c for c in stated if isinstance(c, str)) if isinstance(stated, list) else ()

    def _first_collection(self, links: list[Mapping[str, Any]]) -> str | None:
        page = self._get(self._link(links, "data") or f"{self.archive.url}/collections")
        found = page.get("collections") if page else None
        names = [c.get("id") for c in found if isinstance(c, Mapping)] if isinstance(found, list) else []
        return next((name for name in names if isinstance(name, str)), None)

    def _link(self, links: Iterable[Mapping[str, Any]], relation: str) -> str | None:
        """The address that a relation leads to, if it stays on the archive's host; JSON before HTML."""
        found = [
            urljoin(f"{self.archive.url}/", str(link.get("href") or ""))
            for link in links
            if link.get("rel") == relation and "html" not in str(link.get("type") or "")
        ]
        own = urlsplit(self.archive.url).hostname
        return next((href for href in found if urlsplit(href).hostname == own), None)

    def _get(self, url: str) -> Mapping[str, Any] | None:
        try:
            answer = self.http.get(url)
            document = answer.json() if answer.is_success else None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError):
            return None
        return document if isinstance(document, dict) else None

    def _ask(self, method: str, conditions: Mapping[str, Any], *, limit: int = 1) -> Any:
        """The page of one search; its status where it is refused; None where there is no answer."""
        body: dict[str, Any] = {"limit": limit, **conditions}
        if self.collection is not None:
            body["collections"] = [self.collection] if method == "POST" else self.collection
        try:
            if method == "POST":
                answer = self.http.post(self.search, json=body)
            else:
                # Queries of the link itself (``?f=application/geo+json``) stay.
                url = httpx.URL(self.search)
                answer = self.http.get(url.copy_merge_params(body))
            if not answer.is_success:
                return answer.status_code
            page = answer.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError):
            return None
        return page if isinstance(page, dict) and isinstance(page.get("features"), list) else None

    def _filter(self, dialect: Dialect) -> Seen:
        """Tries a condition that everything meets, and one that nothing meets."""
        all_of_it, none_of_it = (self._ask(*_condition(dialect, op, value)) for op, value in _PAIR)
        if isinstance(all_of_it, int) or isinstance(none_of_it, int):
            return "refused" if 400 <= max(_status(all_of_it), _status(none_of_it)) < 500 else "unknown"
        if all_of_it is None or none_of_it is None:
            return "unknown"
        if none_of_it["features"]:
            return "ignored"
        if all_of_it["features"]:
            return "works"
        self.notes.append(f"{dialect}: a condition on {CLOUD} that every item meets found none")
        return "unknown"

    def _sort(self, method: str) -> Seen:
        """The first item, oldest and newest first."""
        times = []
        for direction in ("asc", "desc"):
            by: Any = [{"field": "properties.datetime", "direction": direction}]
            if method == "GET":
                by = f"{'+' if direction == 'asc' else '-'}properties.datetime"
            page = self._ask(method, {"sortby": by})
            if not isinstance(page, dict):
                return "refused" if 400 <= _status(page) < 500 else "unknown"
            times += [moment((item.get("properties") or {}).get("datetime")) for item in page["features"][:1]]
        if len(times) < 2 or None in times or times[0] == times[1]:
            return "unknown"
        return "works" if str(times[0]) < str(times[1]) else "ignored"

    def _page_size(self, method: str) -> int | None:
        for size in PAGE_SIZES:
            if isinstance(self._ask(method, {"datetime": NOWHEN}, limit=size), dict):
                return size
        return None

    def _paging(self, page: Mapping[str, Any]) -> Seen:
        """Follows one ``next`` link."""
        link = next_link(page)
        if link is None or not page["features"]:
            return "unknown"
        href = urljoin(self.search, str(link["href"]))
        if urlsplit(href).hostname != urlsplit(self.search).hostname:
            return "refused"
        try:
            if str(link.get("method") or "GET").upper() == "POST":
                body = dict(link.get("body") or {})
                if link.get("merge"):
                    body = {"limit": 1, "collections": [self.collection], **body}
                following = self.http.post(href, json=body).json()
            else:
                following = self.http.get(href).json()
            ids = [item["id"] for item in following["features"]]
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError):
            return "unknown"
        return "ignored" if ids and ids[0] == page["features"][0].get("id") else "works" if ids else "unknown"


_PAIR = ((">=", 0), ("<", 0))
"""Conditions on cloud cover: one that every item meets, one that none does."""


def _condition(dialect: Dialect, operator: str, value: float) -> tuple[str, dict[str, Any]]:
    """Method and conditions of a search for ``eo:cloud_cover operator value``."""
    if dialect == "cql2-json":
        expression = {"op": operator, "args": [{"property": CLOUD}, value]}
        return "POST", {"filter": expression, "filter-lang": "cql2-json"}
    if dialect == "cql2-text":
        return "GET", {"filter": f'"{CLOUD}" {operator} {value:g}', "filter-lang": "cql2-text"}
    return "POST", {"query": {CLOUD: {"gte" if operator == ">=" else "lt": value}}}


def _verdict(answer: Any) -> Seen:
    if isinstance(answer, dict):
        return "works"
    return "refused" if 400 <= _status(answer) < 500 and _status(answer) != 429 else "unknown"


def _status(answer: Any) -> int:
    return answer if isinstance(answer, int) else 0


def _numbers_as_text(page: Mapping[str, Any]) -> tuple[str, ...]:
    """Properties of an answer's items that hold a number as text."""
    held = [item.get("properties") or {} for item in page["features"] if isinstance(item, Mapping)]
    return (CLOUD,) if any(isinstance(properties.get(CLOUD), str) for properties in held) else ()


def _ends(conformance: str, endings: tuple[str, ...]) -> bool:
    return any(conformance.endswith(ending) for ending in endings)


def _declared_sort(declared: tuple[str, ...]) -> Seen:
    return "unknown" if any(c.endswith("item-search#sort") for c in declared) else "refused"


def _no_archive(archive: Archive) -> ArchiveError:
    return ArchiveError(
        "not-an-archive",
        f"{archive.url} is no STAC API: its landing page is no catalog with links",
        subject=archive.name,
        next_step="give the address of the landing page",
    )
