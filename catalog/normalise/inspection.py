"""Says what would be done with one item: usable or refused, and what was mended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from catalog.archives.model import Archive
from catalog.archives.registry import load_archive, load_archives
from catalog.errors import SceneError, UsageError
from catalog.normalise.findings import Findings, RefusedScene
from catalog.normalise.item import normalise_item
from catalog.normalise.values import platform as read_platform
from catalog.normalise.values import text
from catalog.products.model import Product
from catalog.products.registry import load_product, load_products
from catalog.radiometry import calibrate


def inspect_item(
    item: Mapping[str, Any], *, archive: str | None = None, product: str | None = None
) -> dict[str, Any]:
    """Normalise one item; archive and product are guessed from it unless given.

    Returns a JSON document: ``id``, ``archive``, ``product`` (None if it is of none that is known; the one
    that takes it, where several might), ``refused`` (reasons; empty if usable),
    ``repairs``, ``scene`` (None if refused), ``key``, ``version`` and ``calibration`` (how numbers become
    physical).

    Raises
    ------
    UsageError: ``not-an-item``; ``product-not-guessed``, where several products would take it.
    """
    if not isinstance(item, Mapping):
        raise UsageError(
            "not-an-item", "this JSON document is no STAC item", next_step="give one item, not a list of them"
        )
    source = load_archive(archive) if archive else guess_archive(item)
    wanted = [load_product(product)] if product else candidates(item, source)
    tried = [_judged(item, source, candidate) for candidate in wanted]
    takers = [verdict for verdict in tried if not verdict["refused"]]
    if len(tried) == 1 or len(takers) == 1:
        return (takers or tried)[0]
    if takers:
        raise UsageError(
            "product-not-guessed",
            f"it is usable as {' and as '.join(verdict['product'] for verdict in takers)}",
            subject=text(item.get("id")) or "item",
            next_step="pass --product with one of them",
        )
    shared = [r for r in tried[0]["refused"] if all(r in verdict["refused"] for verdict in tried)]
    names = ", ".join(verdict["product"] for verdict in tried)
    return tried[0] | {"product": None, "refused": [f"it is of no known product (tried: {names})", *shared]}


def _judged(item: Mapping[str, Any], source: Archive, wanted: Product) -> dict[str, Any]:
    verdict: dict[str, Any] = {"id": text(item.get("id")), "archive": source.name, "product": wanted.id}
    try:
        scene = normalise_item(item, source, wanted)
    except RefusedScene as refusal:
        return verdict | {
            "refused": list(refusal.reasons),
            "repairs": list(refusal.repairs),
            "scene": None,
            "key": None,
            "version": None,
            "calibration": None,
        }
    try:
        calibration = calibrate(wanted, scene).source
    except SceneError as error:
        calibration = f"not yet: {error.message}"
    return verdict | {
        "refused": [],
        "repairs": list(scene.repairs),
        "scene": scene.to_dict(),
        "key": scene.key,
        "version": list(scene.version),
        "calibration": calibration,
    }


def guess_archive(item: Mapping[str, Any]) -> Archive:
    """The archive whose address an item's links name, or on whose hosts its files lie; else an open one."""
    archives = load_archives()
    links = [text(link.get("href")) for link in _objects(item.get("links"))]
    for archive in archives.values():
        if archive.url and any(link and link.startswith(archive.url) for link in links):
            return archive
    hosts = [_host(text(asset.get("href"))) for asset in _objects(item.get("assets"))]
    best = max(
        archives.values(),
        key=lambda archive: sum(bool(archive.hosts and host and archive.may_hold(host)) for host in hosts),
    )
    if any(host and best.hosts and best.may_hold(host) for host in hosts):
        return best
    return Archive(name="unknown", title="an archive that is not described")


def candidates(item: Mapping[str, Any], archive: Archive) -> list[Product]:
    """The products whose collection, platform, level and bands an item names; at least one."""
    properties = item.get("properties")
    properties = properties if isinstance(properties, Mapping) else {}
    collection = text(item.get("collection"))
    platform = read_platform(properties, text(item.get("id")) or "", Findings())
    products = list(load_products().values())
    clues = (
        [p for p in products if collection in (p.id, archive.collections.get(p.id))],
        [p for p in products if platform in p.platforms],
        [p for p in products if _meets(properties, p)],
        [p for p in products if _holds_bands(item, p)],
    )
    for fitting in clues:
        # A clue that fits nothing is no clue: Earth Search has three collections of Sentinel-2 Level-2A.
        products = [product for product in products if product in fitting] or products
    return products


def _meets(properties: Mapping[str, Any], product: Product) -> bool:
    return all(_accepts(properties.get(name), accepted) for name, accepted in product.requires.items())


def _accepts(stated: Any, accepted: tuple[str, ...]) -> bool:
    value = text(stated)
    return value is None or value.lower() in {word.lower() for word in accepted}


def _holds_bands(item: Mapping[str, Any], product: Product) -> bool:
    assets = item.get("assets")
    keys = set(assets) if isinstance(assets, Mapping) else set()
    if product.multiband_asset is not None:
        return product.multiband_asset in keys
    return all(keys & {band.asset or band.name, *band.aliases} for band in product.bands)


def _objects(value: Any) -> list[Mapping[str, Any]]:
    values = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return [part for part in values if isinstance(part, Mapping)]


def _host(href: str | None) -> str | None:
    try:
        return urlsplit(href or "").hostname
    except ValueError:
        return None
