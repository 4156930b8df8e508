"""Puts one STAC item into the fields of a scene, or refuses it with every reason."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from catalog.archives.model import Archive
from catalog.licences import UNNAMED, collection_attribution, collection_licence, known_licence
from catalog.normalise import values
from catalog.normalise.archive_defects import mend
from catalog.normalise.assets import read_assets, scene_assets, stated_numbers
from catalog.normalise.findings import Findings
from catalog.normalise.footprint import footprint
from catalog.normalise.hrefs import unsigned
from catalog.normalise.landsat_mtl import coefficients_in
from catalog.products.model import Product
from catalog.scenes import Scene

SCENE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+~@-]{0,199}")
"""Ids become parts of sample ids and file names."""


def normalise_item(
    item: Mapping[str, Any],
    archive: Archive,
    product: Product,
    collection: Mapping[str, Any] | None = None,
) -> Scene:
    """The scene that an item describes.

    Parameters
    ----------
    collection: the description of its collection, whose licence and attribution it carries; the product's
        stand in for what the description does not state

    Raises
    ------
    RefusedScene: a ``SceneError`` that lists every reason; ``other-product`` or ``item-refused``.
    """
    findings = Findings()
    item_id = values.text(item.get("id")) if isinstance(item, Mapping) else None
    if item_id is None or not SCENE_ID.fullmatch(item_id):
        findings.refuse(f"its id {item_id!r} is no name")
        findings.settle(str(item_id))
    assert item_id is not None
    properties = item.get("properties")
    if not isinstance(properties, Mapping):
        findings.refuse("no properties")
        properties = {}
    item, properties = mend(archive, item, dict(properties), findings)

    platform = values.platform(properties, item_id, findings)
    if platform is not None and product.platforms and platform not in product.platforms:
        findings.mismatch(f"platform {platform} is not one of {product.id}: {', '.join(product.platforms)}")
    for name, accepted in product.requires.items():
        stated = values.text(properties.get(name))
        if stated is not None and stated.lower() not in {value.lower() for value in accepted}:
            findings.mismatch(f"{name} is {stated}, {product.id} has {' or '.join(accepted)}")

    assets = read_assets(item, findings)
    files, epsg = scene_assets(
        assets,
        properties,
        product,
        lambda href, key: unsigned(href, key, item, archive, findings),
        findings,
    )
    place = footprint(item, findings)
    sensed = values.sensing_time(properties, findings)
    version = values.baseline(properties, item_id, findings)
    if product.radiometry.rule == "sentinel-2-offset" and not re.fullmatch(r"\d+(\.\d+)*", version or ""):
        findings.refuse("no processing baseline, on which the offset of its numbers depends")
    facts = stated_numbers(assets, product, findings)
    if isinstance(flag := properties.get("earthsearch:boa_offset_applied"), bool):
        facts["boa_offset_applied"] = flag
    if product.radiometry.rule == "landsat-toa":
        facts |= coefficients_in(properties, product)
    elevation, azimuth = values.sun(properties)
    tile = values.tile(properties, item_id, findings)
    cloud = values.cloud_cover(properties, findings)

    findings.settle(item_id)
    assert platform is not None and sensed is not None and place is not None
    return Scene(
        id=item_id,
        product=product.id,
        archive=archive.name,
        collection=values.text(item.get("collection")) or archive.collection(product),
        platform=platform,
        sensed=sensed,
        tile=tile,
        geometry=place[0],
        bbox=place[1],
        assets=files,
        epsg=epsg,
        cloud_cover_percent=cloud,
        sun_elevation_deg=elevation,
        sun_azimuth_deg=azimuth,
        baseline=version,
        generated=values.generated(
            properties, " ".join((item_id, *(file.href.rpartition("/")[2] for file in files.values())))
        ),
        orbit_state=(values.text(properties.get("sat:orbit_state")) or "").lower() or None,
        licence=_licence(properties, collection or {}, archive, product),
        attribution=_attribution(collection or {}, product, sensed),
        origin=_origin(properties),
        radiometry=facts,
        repairs=tuple(findings.repairs),
    )


def _licence(
    properties: Mapping[str, Any], collection: Mapping[str, Any], archive: Archive, product: Product
) -> str:
    """The item's own (derived and simulated scenes state one), else its collection's, else the product's."""
    own = values.text(properties.get("license"))
    if own is not None and own.lower() not in UNNAMED:
        return own
    stated = collection_licence(collection)
    if stated is not None:
        # One wording per licence: a product says in full what a link only leads to.
        return product.licence if known_licence(stated) is known_licence(product.licence) else stated
    if not archive.described and collection.get("license"):
        # Nobody vouches that an archive which is not described holds the product on the product's terms.
        return f"{collection['license']}, terms not named by {archive.name}"
    return product.licence


def _attribution(collection: Mapping[str, Any], product: Product, sensed: datetime) -> str:
    cited = collection_attribution(collection, sensed)
    return (
        cited
        if cited and (collection.get("sci:citation") or not product.attribution)
        else product.attribution
    )


def _origin(properties: Mapping[str, Any]) -> str:
    """``observed`` unless the item says that it was simulated, or converted from another file layout."""
    if properties.get("swath:simulated") is True:
        return "simulated"
    return "derived" if properties.get("swath:derived") is True else "observed"
