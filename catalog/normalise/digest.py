"""A digest of what an item says, so that the same item is not looked at twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

UNSTABLE = ("updated",)
"""Properties that archives touch without changing the scene."""


def item_digest(item: Mapping[str, Any]) -> str:
    """Digest of an item's place, properties and files; links, previews and signatures are left out.

    Two items of one digest make the same scene. The time of the last update is left out too: archives set it
    anew when they move a database.
    """
    properties = item.get("properties")
    if isinstance(properties, Mapping):
        properties = {name: value for name, value in properties.items() if name not in UNSTABLE}
    assets = item.get("assets")
    if isinstance(assets, Mapping):
        assets = {key: _without_signature(asset) for key, asset in assets.items()}
    said = [
        item.get("id"),
        item.get("collection"),
        item.get("geometry"),
        item.get("bbox"),
        properties,
        assets,
    ]
    text = json.dumps(said, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def _without_signature(asset: Any) -> Any:
    if isinstance(asset, Mapping) and isinstance(asset.get("href"), str) and "?" in asset["href"]:
        return {**asset, "href": asset["href"].split("?", 1)[0]}
    return asset
