"""STAC collections and items held in memory, searched with CQL2; knows nothing of HTTP."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

Document = dict[str, Any]
Box = tuple[float, float, float, float]


class BadQuery(ValueError):
    """A search that cannot be understood; its text goes back to the client."""


@dataclass(frozen=True)
class Query:
    """One search, in the words of STAC API's item search; every part narrows the answer."""

    collections: Sequence[str] | None = None
    ids: Sequence[str] | None = None
    bbox: Sequence[float] | None = None
    """(west, south, east, north), degrees, or six numbers with heights; west > east crosses 180°."""
    intersects: Mapping[str, Any] | None = None
    """GeoJSON geometry."""
    start: datetime | None = None
    end: datetime | None = None
    """Both inclusive; None is open. An instant has ``start == end``."""
    filter: str | Mapping[str, Any] | None = None
    """CQL2, as text or as JSON."""
    sortby: Sequence[tuple[str, bool]] = ()
    """(field, descending) pairs; newest first unless given."""
    limit: int = 10
    token: str | None = None


@dataclass(frozen=True)
class Page:
    """One page of an answer."""

    items: list[Document]
    matched: int
    next_token: str | None


@dataclass(frozen=True)
class _Entry:
    """An item with what every search asks of it, worked out once."""

    item: Document
    key: tuple[str, str]
    start: datetime
    end: datetime

    @cached_property
    def shape(self) -> Any:
        """Shapely geometry; None for an item without one, or whose geometry is broken."""
        import shapely

        try:
            return shapely.make_valid(shapely.geometry.shape(self.item["geometry"]))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, shapely.errors.ShapelyError):
            return None


@dataclass
class MemoryCatalog:
    """Collections and their items.

    ``replace`` swaps the whole content at once, so a search sees the old content or the new, never a mix.
    """

    collections: dict[str, Document] = field(default_factory=dict)
    _entries: dict[str, dict[str, _Entry]] = field(default_factory=dict)

    @classmethod
    def of(cls, collections: Iterable[Document], items: Iterable[Document]) -> MemoryCatalog:
        """A catalog of STAC documents; an item of a collection that is not described gets a bare one."""
        catalog = cls()
        catalog.replace(collections, items)
        return catalog

    def replace(self, collections: Iterable[Document], items: Iterable[Document]) -> None:
        """Swap in new content."""
        entries: dict[str, dict[str, _Entry]] = {}
        documents = {document["id"]: document for document in collections}
        for item in items:
            collection = str(item.get("collection") or "items")
            start, end = _item_times(item)
            entry = _Entry(item, (collection, str(item["id"])), start, end)
            entries.setdefault(collection, {})[entry.key[1]] = entry
        for collection in entries:
            documents.setdefault(collection, bare_collection(collection))
        self.collections, self._entries = documents, entries

    def __len__(self) -> int:
        return sum(len(entries) for entries in self._entries.values())

    def item(self, collection: str, item_id: str) -> Document | None:
        entry = self._entries.get(collection, {}).get(item_id)
        return entry.item if entry else None

    def queryables(self, collection: str | None = None) -> dict[str, Document]:
        """Name → JSON schema of what items can be filtered by, as found in the items."""
        found: dict[str, Document] = {
            "id": {"type": "string"},
            "collection": {"type": "string"},
            "geometry": {"$ref": "https://geojson.org/schema/Geometry.json"},
        }
        for name, entries in self._entries.items():
            if collection in (None, name):
                for entry in entries.values():
                    for key, value in entry.item.get("properties", {}).items():
                        if key not in found and value is not None:
                            found[key] = {"type": _json_type(value)}
        return found

    def search(self, query: Query) -> Page:
        """Items that satisfy every part of ``query``, sorted, one page of them.

        Raises
        ------
        BadQuery: the filter, the geometry or the token makes no sense.
        """
        entries = _sorted(self._matching(query), query.sortby or (("datetime", True),))
        first = _after_token(entries, query.token) if query.token else 0
        page = entries[first : first + query.limit]
        more = first + len(page) < len(entries)
        return Page(
            items=[entry.item for entry in page],
            matched=len(entries),
            next_token=_token(first + len(page), page[-1].key) if more and page else None,
        )

    def _matching(self, query: Query) -> list[_Entry]:
        content = self._entries
        names = list(content) if not query.collections else [n for n in query.collections if n in content]
        area = _area(query)
        expression = _expression(query.filter) if query.filter else None
        ids = set(query.ids) if query.ids else None
        found = []
        for name in dict.fromkeys(names):
            for entry in content[name].values():
                if ids is not None and entry.key[1] not in ids:
                    continue
                if query.start is not None and entry.end < query.start:
                    continue
                if query.end is not None and entry.start > query.end:
                    continue
                if area is not None and (entry.shape is None or not area.intersects(entry.shape)):
                    continue
                if expression is not None and not _is_true(expression, entry.item):
                    continue
                found.append(entry)
        return found


def bare_collection(collection_id: str) -> Document:
    """The least a valid STAC collection holds."""
    return {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": collection_id,
        "description": collection_id,
        "license": "proprietary",
        "extent": {
            "spatial": {"bbox": [[-180.0, -90.0, 180.0, 90.0]]},
            "temporal": {"interval": [[None, None]]},
        },
        "links": [],
    }


def parse_time(text: str) -> datetime:
    """An RFC 3339 time, or one of the near misses that archives really serve (a blank for the T), as UTC."""
    value = datetime.fromisoformat(text.strip().replace(" ", "T"))
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _item_times(item: Document) -> tuple[datetime, datetime]:
    properties = item.get("properties", {})
    single = properties.get("datetime")
    start = properties.get("start_datetime") or single
    end = properties.get("end_datetime") or single
    if start is None or end is None:
        raise ValueError(f"item {item.get('id')}: neither datetime nor start_datetime and end_datetime")
    return parse_time(start), parse_time(end)


def _area(query: Query) -> Any:
    """The searched area as a shapely geometry, or None."""
    if query.bbox is None and query.intersects is None:
        return None
    import shapely

    if query.intersects is not None:
        try:
            return shapely.geometry.shape(query.intersects)
        except (KeyError, TypeError, ValueError, AttributeError, shapely.errors.ShapelyError) as error:
            raise BadQuery(f"intersects is no GeoJSON geometry: {error}") from error
    numbers = [float(value) for value in query.bbox or ()]
    if len(numbers) == 6:
        numbers = [numbers[0], numbers[1], numbers[3], numbers[4]]
    if len(numbers) != 4:
        raise BadQuery("bbox has four or six numbers")
    west, south, east, north = numbers
    if south > north:
        raise BadQuery("bbox: south lies north of north")
    if west <= east:
        return shapely.box(west, south, east, north)
    return shapely.union(shapely.box(west, south, 180, north), shapely.box(-180, south, east, north))


def _expression(text: str | Mapping[str, Any]) -> Any:
    import cql2

    try:
        return cql2.Expr(text if isinstance(text, str) else dict(text))
    except Exception as error:
        raise BadQuery(f"filter is no CQL2: {error}") from error


def _is_true(expression: Any, item: Document) -> bool:
    """SQL's rule: a comparison with a missing value, or of a string with a number, is unknown, so not true.

    cql2 raises where it cannot decide; its one exception class is ``Exception``.
    """
    try:
        return bool(expression.matches(item))
    except Exception:
        return False


def _value(item: Document, name: str) -> Any:
    name = name.removeprefix("properties.")
    if name in ("id", "collection"):
        return item.get(name)
    value: Any = item.get("properties", {})
    if name in value:
        return value[name]
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _sorted(entries: list[_Entry], sortby: Sequence[tuple[str, bool]]) -> list[_Entry]:
    """Sort by several fields, missing values last whatever the direction; ties by collection and id."""
    entries = sorted(entries, key=lambda entry: entry.key)
    for name, descending in reversed(sortby):
        known = [(entry, _value(entry.item, name)) for entry in entries]
        present = [(entry, _rank(name, entry, value)) for entry, value in known if value is not None]
        present.sort(key=lambda pair: pair[1], reverse=descending)
        entries = [entry for entry, _ in present] + [entry for entry, value in known if value is None]
    return entries


def _rank(name: str, entry: _Entry, value: Any) -> tuple[int, Any]:
    """Comparable across types: numbers before texts before the rest; times by instant, not by spelling."""
    if name in ("datetime", "properties.datetime"):
        return 0, entry.start.timestamp()
    if isinstance(value, (bool, int, float)):
        return 0, value
    if isinstance(value, str):
        return 1, value
    return 2, json.dumps(value, sort_keys=True)


def _token(position: int, last: tuple[str, str]) -> str:
    """Where the next page starts: after this item, wherever it then stands; the position if it is gone."""
    return base64.urlsafe_b64encode(json.dumps([position, *last]).encode()).decode()


def _after_token(entries: list[_Entry], token: str) -> int:
    try:
        position, collection, item_id = json.loads(base64.urlsafe_b64decode(token.encode()))
        position = int(position)
    except ValueError as error:
        raise BadQuery("token is not one that this server gave") from error
    for index, entry in enumerate(entries):
        if entry.key == (collection, item_id):
            return index + 1
    return max(0, position)


def _json_type(value: Any) -> str:
    for kind, name in (
        (bool, "boolean"),
        (int, "number"),
        (float, "number"),
        (str, "string"),
        (list, "array"),
    ):
        if isinstance(value, kind):
            return name
    return "object"
