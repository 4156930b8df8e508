"""A digest of what an item says, so that the same item is not looked at twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import orjson

UNSTABLE = "updated"
"""A property that archives touch without changing the scene."""


def item_digest(item: Mapping[str, Any]) -> str:
    """Digest of an item's place, properties and files; links, previews and signatures are left out.

    Two items of one digest make the same scene. The time of the last update is left out too: archives set it
    anew when they move a database.
    """
    said = [item.get(name) for name in ("id", "collection", "geometry", "bbox", "properties", "assets")]
    if isinstance(said[4], dict) and UNSTABLE in said[4]:
        said[4] = {name: value for name, value in said[4].items() if name != UNSTABLE}
    if isinstance(said[5], dict):
        said[5] = {key: _without_signature(asset) for key, asset in said[5].items()}
    return hashlib.blake2b(_canonical(said), digest_size=12).hexdigest()


def _without_signature(asset: Any) -> Any:
    href = asset.get("href") if isinstance(asset, dict) else None
    if isinstance(href, str) and "?" in href:
        return {**asset, "href": href.split("?", 1)[0]}
    return asset


def _canonical(said: list[Any]) -> bytes:
    """JSON with sorted keys; a refresh makes it of every item it is answered with, so it must be fast."""
    try:
        return orjson.dumps(said, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        # Text that is no Unicode, and integers beyond 64 bits.
        return json.dumps(said, sort_keys=True, default=str).encode("utf-8", "surrogatepass")
