"""Finds a product's scenes in an archive: asks for them page by page, and believes nothing it is told.

Archives answer late, twice, or with items that were not asked for; a filter on a property that an archive
stores as text finds nothing without an error. So every condition is checked again on this side.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from catalog.errors import ArchiveError, SceneError, UsageError
from catalog.normalise.digest import item_digest
from catalog.products import Product
from catalog.recipes import Area, Period
from catalog.scenes import Scene
from tasks.search.item_pages import Item
from tasks.search.pages import Asker, Question, property_filter, refused
from tasks.signing import redact

__all__ = [
    "SearchResult",
    "clearest_first",
    "not_asked_for",
    "property_filter",
    "search_scenes",
    "take_scenes",
]

if TYPE_CHECKING:
    from pystac_client import Client

    from catalog.archives import Archive

Known = Callable[[dict[str, str]], set[str]]
"""Item id → digest, and out of these the ids of items that are known just as they are."""

SLICE_DAYS = 92
"""Longest stretch of sensing dates asked for at once; a search that dies has then lost little."""


@dataclass(frozen=True)
class SearchResult:
    """What an archive holds of a product."""

    product: str
    scenes: tuple[Scene, ...]
    """Oldest first, each id once."""
    refusals: tuple[tuple[str, str], ...]
    """(item id, reasons) of items that could not be made into scenes; not of other products' items."""
    matched: int
    """Items the archive answered with, duplicates left out."""
    passed_over: tuple[tuple[str, str], ...] = ()
    """(scene id, reason) of good scenes that were not asked for, whatever the archive thought."""
    notes: tuple[str, ...] = ()
    """What the archive did otherwise than described, and what was done about it."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """Scene id → ``item_digest`` of its item."""
    known: int = 0
    """Items left out because they were known just as they are; ``matched`` counts them."""
    period: Period | None = None
    """What was searched."""
    others: int = 0
    """Items of other products in a collection that several share."""


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
    known: Known | None = None,
) -> SearchResult:
    """Scenes of ``product`` that touch ``area`` and were sensed in ``period`` (both days inclusive, UTC).

    Parameters
    ----------
    max_cloud_percent: by the scene's metadata; a scene that states no cloud cover passes
    timeout_s:         to connect, and between two bytes of an answer
    retries:           of one request (429 and 5xx, POST too), with pauses that grow from ``pause_s``
    known:             says which items (id → digest) have been looked at before; these are left out at once

    Raises
    ------
    ArchiveError: ``archive-unreachable``, ``archive-refused``, ``archive-loses-items`` or ``not-an-archive``.
    UsageError:   ``product-not-in-archive``.
    """
    from catalog.normalise import normalise_item

    collection = archive.collection(product)
    client = _open(archive, timeout_s, retries, pause_s)
    terms = _terms(client, archive, product, collection)
    notes: list[str] = []
    if not archive.described:
        from tasks.search.probe import as_probed

        archive, notes = as_probed(archive, collection)
    sieve = _Sieve(known)
    asker = Asker(client, archive, product, max_cloud_percent, notes, sieve)
    items: dict[str, dict[str, Any]] = {}
    for box in _boxes(area):
        for start, end in _slices(period):
            for item in asker.items(Question(collection, box, start, end)):
                name = str(item.get("id", ""))
                if name not in items or _stamp(item) > _stamp(items[name]):
                    items[name] = item
    left_out = sieve.known_ids - items.keys()
    scenes: list[Scene] = []
    refusals: list[tuple[str, str]] = []
    passed_over: list[tuple[str, str]] = []
    others = 0
    for name, item in items.items():
        try:
            scene = normalise_item(item, archive, product, terms)
        except SceneError as error:
            # A collection that several instruments share is no fault of the others' items.
            if error.code == "other-product":
                others += 1
            else:
                refusals.append((name, redact(error.message)))
            continue
        reason = not_asked_for(scene, product, area, period, max_cloud_percent, collection=collection)
        if reason:
            passed_over.append((scene.id, reason))
        else:
            scenes.append(scene)
    scenes.sort(key=lambda scene: (scene.sensed, scene.id))
    return SearchResult(
        product.id,
        tuple(scenes),
        tuple(sorted(refusals)),
        len(items) + len(left_out),
        tuple(sorted(passed_over)),
        tuple(asker.notes),
        {scene.id: item_digest(items[scene.id]) for scene in scenes if scene.id in items},
        len(left_out),
        period,
        others,
    )


class _Sieve:
    """Leaves out items that are known just as they are, page by page."""

    def __init__(self, known: Known | None) -> None:
        self.known = known
        self.known_ids: set[str] = set()

    def __call__(self, page: list[Item]) -> list[Item]:
        if self.known is None:
            return page
        digests = {str(item.get("id", "")): item_digest(item) for item in page}
        known = self.known(digests)
        self.known_ids |= known
        return [item for item in page if str(item.get("id", "")) not in known]


def not_asked_for(
    scene: Scene,
    product: Product,
    area: Area,
    period: Period,
    max_cloud_percent: float | None = None,
    *,
    collection: str | None = None,
) -> str | None:
    """Why a scene lies outside what was asked for, or None.

    What the product itself requires (level, instrument mode, orbit, bands) the normaliser has checked.
    """
    if collection is not None and scene.collection != collection:
        return f"of the collection {scene.collection}, not {collection}"
    if scene.product != product.id:
        return f"a scene of {scene.product}, not {product.id}"
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
        raise refused(archive, error) from error
    except Exception as error:  # pystac's and json's, for a page that is no STAC landing page
        raise ArchiveError(
            "not-an-archive",
            redact(f"{archive.url} is no STAC API: {error}"),
            subject=archive.name,
            next_step="give the address of the landing page",
        ) from error


def _terms(client: Client, archive: Archive, product: Product, collection: str) -> dict[str, Any]:
    """The collection's description, whose licence its scenes carry; empty where it is no valid STAC.

    A search in a collection that does not exist finds nothing, and says so without an error: hence the look.
    """
    from pystac import STACError
    from pystac_client.exceptions import APIError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = client.get_collection(collection)
            if found is not None:
                return found.to_dict(include_self_link=False, transform_hrefs=False)
    except APIError as error:
        raise refused(archive, error) from error
    except (ValueError, KeyError, TypeError, AttributeError, STACError):
        return {}  # it is there; that its description is no valid STAC is no reason not to search it
    raise UsageError(
        "product-not-in-archive",
        f"the archive {archive.name} has no collection {collection!r} for {product.id}",
        subject=product.id,
        next_step="choose another archive, or name the collection in the product file",
    )


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


def _slices(period: Period) -> Iterator[tuple[datetime, datetime]]:
    start = period.start
    while start <= period.end:
        end = min(start + timedelta(days=SLICE_DAYS - 1), period.end)
        yield datetime.combine(start, time.min, UTC), datetime.combine(end, time.max, UTC)
        start = end + timedelta(days=1)


def _stamp(item: dict[str, Any]) -> str:
    return str((item.get("properties") or {}).get("updated") or "")


def clearest_first(result: SearchResult, max_scenes: int | None) -> SearchResult:
    """The same result cut down to ``max_scenes``; what is left out is passed over, with that reason."""
    kept = take_scenes(result.scenes, max_scenes)
    names = {scene.id for scene in kept}
    left = tuple(
        (scene.id, f"beyond the clearest {max_scenes}") for scene in result.scenes if scene.id not in names
    )
    return replace(result, scenes=kept, passed_over=tuple(sorted((*result.passed_over, *left))))
