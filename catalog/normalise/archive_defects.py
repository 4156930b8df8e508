"""Defects that all items of one archive have; more quirks of more archives belong here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from catalog.archives.model import Archive
from catalog.normalise.findings import Findings
from catalog.normalise.values import number, text

Item = Mapping[str, Any]
Mended = tuple[Item, dict[str, Any]]


def mend(archive: Archive, item: Item, properties: dict[str, Any], findings: Findings) -> Mended:
    """The item and its properties with the archive's known defects mended; the originals stay as they are.

    What an archive's description names is not all: an EnMAP item keeps its defects in a copy elsewhere.
    """
    defects: list[Callable[[Item, dict[str, Any], Findings], Mended]] = []
    if archive.normaliser == "dlr-eoc" or any(name.startswith("enmap:") for name in properties):
        defects.append(_dlr_eoc)
    for defect in defects:
        item, properties = defect(item, properties, findings)
    return item, properties


def _dlr_eoc(item: Item, properties: dict[str, Any], findings: Findings) -> Mended:
    """Text for numbers is read everywhere; here: the sun turned by 180°, hrefs without a folder."""
    stated, own = number(properties.get("view:sun_azimuth")), number(properties.get("enmap:sunAzimuthAngle"))
    if stated is not None:
        azimuth = own if own is not None else (stated - 180.0) % 360.0
        if abs(azimuth - stated) > 0.01:
            findings.repair(f"view:sun_azimuth {stated:g} is turned by 180°: {azimuth:g}")
        properties["view:sun_azimuth"] = azimuth
    item_id, assets = text(item.get("id")), item.get("assets")
    if item_id is None or not isinstance(assets, Mapping):
        return item, properties
    mended = {key: _with_folder(asset, item_id, findings) for key, asset in assets.items()}
    return {**item, "assets": mended}, properties


def _with_folder(asset: Any, item_id: str, findings: Findings) -> Any:
    """…/02/<id>-IMAGE.TIF is really …/02/<id>/<id>-IMAGE.TIF."""
    href = asset.get("href") if isinstance(asset, Mapping) else None
    if not isinstance(href, str) or not href.startswith("https://download.geoservice.dlr.de/"):
        return asset
    parts = urlsplit(href)
    folder, _, name = parts.path.rpartition("/")
    if not name.startswith(item_id) or folder.endswith(f"/{item_id}"):
        return asset
    findings.repair("the scene's folder was missing from its hrefs")
    return {**asset, "href": urlunsplit(parts._replace(path=f"{folder}/{item_id}/{name}"))}
