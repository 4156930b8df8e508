"""Landsat's metadata file (MTL): coefficients for top-of-atmosphere reflectance and temperature."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from catalog.errors import SceneError
from catalog.normalise.values import number
from catalog.products.model import Product
from catalog.scenes import Scene

COEFFICIENTS = {
    "reflectance_mult": "REFLECTANCE_MULT_BAND_",
    "reflectance_add": "REFLECTANCE_ADD_BAND_",
    "radiance_mult": "RADIANCE_MULT_BAND_",
    "radiance_add": "RADIANCE_ADD_BAND_",
    "k1": "K1_CONSTANT_BAND_",
    "k2": "K2_CONSTANT_BAND_",
}


def read_mtl(content: str) -> dict[str, Any]:
    """Coefficients of an MTL file, JSON or text.

    Returns ``{"bands": {"B1": {"reflectance_mult": …, "k1": …}, …}, "sun_elevation_deg": …}``. Level-2 groups
    are passed over: they repeat the same keys with the coefficients of surface reflectance.

    Raises
    ------
    SceneError: ``unreadable-mtl``.
    """
    bands: dict[str, dict[str, float]] = {}
    elevation: float | None = None
    for key, stated in _level_1_entries(content):
        value = number(stated)
        if value is None:
            continue
        if key == "SUN_ELEVATION":
            elevation = value
        for name, prefix in COEFFICIENTS.items():
            if key.startswith(prefix):
                bands.setdefault(f"B{key.removeprefix(prefix)}", {})[name] = value
    if not bands:
        raise SceneError(
            "unreadable-mtl",
            "the MTL file holds no coefficients",
            next_step="fetch it again; a page of HTML may stand in for it where a login is needed",
        )
    return {"bands": bands, "sun_elevation_deg": elevation} if elevation is not None else {"bands": bands}


def with_mtl(scene: Scene, content: str) -> Scene:
    """The scene with its MTL's coefficients, ready for ``catalog.radiometry.calibrate``."""
    try:
        facts = read_mtl(content)
    except SceneError as error:
        error.subject = scene.id
        raise
    return dataclasses.replace(scene, radiometry={**scene.radiometry, "mtl": facts})


def coefficients_in(properties: Mapping[str, Any], product: Product) -> dict[str, Any]:
    """``{"mtl": …}`` where an item carries them itself: ``landsat:mtl``, in the form of ``read_mtl``."""
    stated = properties.get("landsat:mtl")
    if not isinstance(stated, Mapping) or not isinstance(stated.get("bands"), Mapping):
        return {}
    bands = {
        band: {name: value for name in COEFFICIENTS if (value := number(own.get(name))) is not None}
        for band, own in stated["bands"].items()
        if band in product.band_names and isinstance(own, Mapping)
    }
    elevation = number(stated.get("sun_elevation_deg"))
    return {"mtl": {"bands": bands} | ({} if elevation is None else {"sun_elevation_deg": elevation})}


def _level_1_entries(content: str) -> Iterator[tuple[str, Any]]:
    """(key, value) of every entry outside the Level-2 groups."""
    try:
        document = json.loads(content)
    except ValueError:
        yield from _text_entries(content)
        return
    if isinstance(document, Mapping):
        yield from _json_entries(document)


def _json_entries(group: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in group.items():
        if isinstance(value, Mapping):
            if not key.startswith("LEVEL2"):
                yield from _json_entries(value)
        else:
            yield key, value


def _text_entries(content: str) -> Iterator[tuple[str, str]]:
    groups: list[str] = []
    for line in content.replace("\0", "").splitlines():
        match = re.fullmatch(r'\s*(\w+)\s*=\s*"?([^"]*?)"?\s*', line)
        if match is None:
            continue
        key, value = match[1], match[2]
        if key == "GROUP":
            groups.append(value)
        elif key == "END_GROUP":
            del groups[-1:]
        elif not any(group.startswith("LEVEL2") for group in groups):
            yield key, value
