"""Finds a product's scenes in an archive: asks for them page by page, and believes nothing it is told.

Archives answer late, twice, or with items that were not asked for; a filter on a property that an archive
stores as text finds nothing without an error. So every condition is checked again on this side.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from catalog.errors import ArchiveError, SceneError, UsageError
from catalog.products import Product
from catalog.recipes import Area, Period
from catalog.scenes import Scene
from tasks.signing import redact

if TYPE_CHECKING:
    from pystac_client import Client

    from catalog.archives import Archive

SLICE_DAYS = 92
"""Longest stretch of sensing dates asked for at once; a search that dies has then lost little."""

_OVERLOADED = {413, 502, 503, 504}


@dataclass(frozen=True)
class SearchResult:
    """What an archive holds of a product."""

    product: str
    scenes: tuple[Scene, ...]
    """Oldest first, each id once."""
    refusals: tuple[tuple[str, str], ...]
    """(item id, reasons) of items that could not be made into scenes."""
    matched: int
    """Items the archive answered with, duplicates left out."""
    passed_over: tuple[tuple[str, str], ...] = ()
    """(scene id, reason) of good scenes that were not asked for, whatever the archive thought."""


def search_scenes(
    archive: Archive,
    product: Product,
    area: Area,
    period: Period,
    *,
    max_cloud_percent: float | None = None,
    timeout_s: tuple[float, float] = (5, 30),
    retries: int = 5,
    pause_s: float = 0.5,
) -> SearchResult:
    """Scenes of ``product`` that touch ``area`` and were sensed in ``period`` (both days inclusive, UTC).

    Parameters
    ----------
    max_cloud_percent: by the scene's metadata; a scene that states no cloud cover passes
    timeout_s:         to connect, and between two bytes of an answer
    retries:           of one request (429 and 5xx, POST too), with pauses that grow from ``pause_s``

    Raises
    ------
    ArchiveError: ``archive-unreachable``, ``archive-refused`` or ``not-an-archive``.
    UsageError:   ``product-not-in-archive``.
    """
    from catalog.normalise import normalise_item

    collection = archive.collection(product)
    client = _open(archive, timeout_s, retries, pause_s)
    _require_collection(client, archive, product, collection)
    items: dict[str, dict[str, Any]] = {}
    for box in _boxes(area):
        for start, end in _slices(period):
            for item in _items(client, archive, product, collection, box, start, end, max_cloud_percent):
                name = str(item.get("id", ""))
                if name not in items or _stamp(item) > _stamp(items[name]):
                    items[name] = item
    scenes: list[Scene] = []
    refusals: list[tuple[str, str]] = []
    passed_over: list[tuple[str, str]] = []
    for name, item in items.items():
        try:
            scene = normalise_item(item, archive, product)
        except SceneError as error:
            refusals.append((name, redact(error.message)))
            continue
        reason = not_asked_for(scene, product, area, period, max_cloud_percent)
        if reason:
            passed_over.append((scene.id, reason))
        else:
            scenes.append(scene)
    scenes.sort(key=lambda scene: (scene.sensed, scene.id))
    return SearchResult(
        product.id, tuple(scenes), tuple(sorted(refusals)), len(items), tuple(sorted(passed_over))
    )


def not_asked_for(
    scene: Scene, product: Product, area: Area, period: Period, max_cloud_percent: float | None = None
) -> str | None:
    """Why a scene lies outside what was asked for, or None."""
    sensed = scene.sensed.astimezone(UTC).date()
    if not period.start <= sensed <= period.end:
        return f"sensed {sensed}, outside {period.start} to {period.end}"
    if not _boxes_touch(scene.bbox, area.bbox):
        return "does not touch the area"
    if product.platforms and scene.platform not in product.platforms:
        return f"platform {scene.platform} is none of {', '.join(product.platforms)}"
    cloud = scene.cloud_cover_percent
    if max_cloud_percent is not None and cloud is not None and cloud > max_cloud_percent:
        return f"cloud cover {cloud:g} % exceeds {max_cloud_percent:g} %"
    return None


def take_scenes(scenes: Sequence[Scene], max_scenes: int | None) -> tuple[Scene, ...]:
    """At most ``max_scenes``, least cloud first; returned oldest first."""
    if max_scenes is None or len(scenes) <= max_scenes:
        return tuple(scenes)
    clearest = sorted(
        scenes,
        key=lambda s: (s.cloud_cover_percent if s.cloud_cover_percent is not None else 50.0, s.sensed, s.id),
    )
    return tuple(sorted(clearest[:max_scenes], key=lambda s: (s.sensed, s.id)))


def _open(archive: Archive, timeout_s: tuple[float, float], retries: int, pause_s: float) -> Client:
    from pystac_client import Client
    from pystac_client.exceptions import APIError
    from pystac_client.stac_api_io import StacApiIO
    from urllib3 import Retry

    if not archive.url:
        raise UsageError(
            "archive-has-no-address",
            f"the archive {archive.name} has no address until it is served",
            subject=archive.name,
            next_step="start it with `swath archive serve`",
        )
    # The library's own default is an integer: no retry of a POST, and none of 504.
    retry = Retry(
        total=retries,
        backoff_factor=pause_s,
        backoff_max=30,
        status_forcelist=[429, 500, 502, 503, 504],
        allowed_methods=None,
        raise_on_status=False,
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what an archive claims to conform to is no news
            return Client.open(archive.url, stac_io=StacApiIO(timeout=timeout_s, max_retries=retry))
    except APIError as error:
        raise _refused(archive, error) from error
    except Exception as error:  # pystac's and json's, for a page that is no STAC landing page
        raise ArchiveError(
            "not-an-archive",
            redact(f"{archive.url} is no STAC API: {error}"),
            subject=archive.name,
            next_step="give the address of the landing page",
        ) from error


def _require_collection(client: Client, archive: Archive, product: Product, collection: str) -> None:
    """A search in a collection that does not exist finds nothing, and says so without an error."""
    from pystac import STACError
    from pystac_client.exceptions import APIError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if client.get_collection(collection) is not None:
                return
    except APIError as error:
        raise _refused(archive, error) from error
    except (ValueError, KeyError, STACError):
        return  # it is there; that its description is no valid STAC is no reason not to search it
    raise UsageError(
        "product-not-in-archive",
        f"the archive {archive.name} has no collection {collection!r} for {product.id}",
        subject=product.id,
        next_step="choose another archive, or name the collection in the product file",
    )


def _items(
    client: Client,
    archive: Archive,
    product: Product,
    collection: str,
    box: tuple[float, float, float, float],
    start: date,
    end: date,
    max_cloud_percent: float | None,
) -> Iterator[dict[str, Any]]:
    """Items of one box and stretch of dates; an archive that gives up on it is asked for half as much."""
    from pystac_client.exceptions import APIError

    found: list[dict[str, Any]] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            options = property_filter(archive, product, max_cloud_percent)
            if archive.sort:
                options["sortby"] = [{"field": "properties.datetime", "direction": "asc"}]
            search = client.search(
                method=archive.method,
                collections=[collection],
                bbox=box,
                datetime=_interval(start, end),
                limit=archive.page_size,
                **options,
            )
            for page in search.pages_as_dicts():
                found += page.get("features", [])
    except APIError as error:
        if error.status_code in _OVERLOADED and start < end:
            middle = start + (end - start) // 2
            for first, last in ((start, middle), (middle + timedelta(days=1), end)):
                yield from _items(client, archive, product, collection, box, first, last, max_cloud_percent)
            return
        raise _refused(archive, error) from error
    yield from found


def property_filter(archive: Archive, product: Product, max_cloud_percent: float | None) -> dict[str, Any]:
    """The part of a search that narrows by properties, in the archive's dialect; empty where it has none."""
    sees_ground = any(band.quantity in {"reflectance", "kelvin"} for band in product.bands)
    if max_cloud_percent is None or max_cloud_percent >= 100 or not sees_ground:
        return {}
    match archive.filter:
        case "cql2-json":
            condition = {"op": "<=", "args": [{"property": "eo:cloud_cover"}, max_cloud_percent]}
            return {"filter": condition, "filter_lang": "cql2-json"}
        case "query":
            # As a dict: the library's short form sends the number as text, compared letter by letter.
            return {"query": {"eo:cloud_cover": {"lte": max_cloud_percent}}}
        case _:
            # cql2-text is GeoServer's, over DLR's items, where cloud cover is text.
            return {}


def _boxes(area: Area) -> list[tuple[float, float, float, float]]:
    west, south, east, north = area.bbox
    if west < east:
        return [(west, south, east, north)]
    return [(west, south, 180.0, north), (-180.0, south, east, north)]


def _boxes_touch(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    if not (one[1] <= other[3] and one[3] >= other[1]):
        return False

    def spans(west: float, east: float) -> list[tuple[float, float]]:
        return [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]

    return any(a <= d and b >= c for a, b in spans(one[0], one[2]) for c, d in spans(other[0], other[2]))


def _slices(period: Period) -> Iterator[tuple[date, date]]:
    start = period.start
    while start <= period.end:
        end = min(start + timedelta(days=SLICE_DAYS - 1), period.end)
        yield start, end
        start = end + timedelta(days=1)


def _interval(start: date, end: date) -> str:
    first = datetime.combine(start, time.min, UTC)
    last = datetime.combine(end, time.max, UTC)
    return f"{first:%Y-%m-%dT%H:%M:%SZ}/{last:%Y-%m-%dT%H:%M:%S.999Z}"


def _stamp(item: dict[str, Any]) -> str:
    return str((item.get("properties") or {}).get("updated") or "")


def _refused(archive: Archive, error: Exception) -> ArchiveError:
    status = getattr(error, "status_code", None)
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
        next_step="check `filter`, `method` and `page_size` in the archive file",
    )


def clearest_first(result: SearchResult, max_scenes: int | None) -> SearchResult:
    """The same result cut down to ``max_scenes``; what is left out is passed over, with that reason."""
    kept = take_scenes(result.scenes, max_scenes)
    names = {scene.id for scene in kept}
    left = tuple(
        (scene.id, f"beyond the clearest {max_scenes}") for scene in result.scenes if scene.id not in names
    )
    return replace(result, scenes=kept, passed_over=tuple(sorted((*result.passed_over, *left))))
