"""Per-pixel quality flags: every product's QA layer in one bit vocabulary."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.products.model import Product, QualityLayer
from catalog.scenes import Scene

FLAGS = {
    "nodata": 1,
    "cloud": 2,
    "shadow": 4,
    "cirrus": 8,
    "snow": 16,
    "water": 32,
    "saturated": 64,
}
"""Meaning → bit value in a ``quality`` array (uint8)."""

INVALID = FLAGS["nodata"] | FLAGS["saturated"]
"""Pixels that hold no measurement."""
CLOUDY = FLAGS["cloud"] | FLAGS["shadow"] | FLAGS["cirrus"]
"""Pixels that hide the ground; masked when the recipe says ``mask_cloud``."""


def quality_flags(layer: QualityLayer, raw: NDArray[Any] | dict[str, NDArray[Any]]) -> NDArray[np.uint8]:
    """A product's raw QA values as flags.

    ``raw`` is the layer's integers ``(y, x)``, or one array per meaning for a ``flags`` layer.
    """
    if layer.kind == "flags":
        if not isinstance(raw, dict):
            raise TypeError("a `flags` layer needs one array per meaning")
        shape = next(iter(raw.values())).shape
        flags = np.zeros(shape, np.uint8)
        for meaning, values in raw.items():
            hit = np.isin(values, layer.meanings.get(meaning, (1,)))
            flags |= np.where(hit, FLAGS[meaning], 0).astype(np.uint8)
        return flags
    if isinstance(raw, dict):
        raise TypeError(f"a `{layer.kind}` layer is one array")
    flags = np.zeros(raw.shape, np.uint8)
    for meaning, codes in layer.meanings.items():
        if layer.kind == "classes":
            hit = np.isin(raw, codes)
        else:
            hit = (raw & sum(1 << bit for bit in codes)) != 0
        flags |= np.where(hit, FLAGS[meaning], 0).astype(np.uint8)
    return flags


def cloud_source(product: Product, scene: Scene) -> str:
    """Where the cloud of a scene's pixels is known from, in words."""
    layer = product.qa
    if layer is None or not {"cloud", "shadow", "cirrus"} & {*layer.meanings, *layer.flags}:
        return "not told by this product"
    names = {layer.asset, *layer.aliases, *layer.flags.values()}
    known = [asset for key, asset in scene.assets.items() if key in names]
    if not known:
        return "unknown (no L2A of this datatake)" if layer.optional else "unknown"
    own = {asset.href.rpartition("/")[0] for asset in scene.assets.values() if asset.bands}
    folder = known[0].href.rpartition("/")[0]
    if layer.optional and folder not in own:
        return f"{known[0].key} of {folder.rpartition('/')[2]}"
    return ", ".join(sorted(asset.key for asset in known))
