"""An item's files: which one holds which band, on which grid, and what the item says of their numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from catalog.grids import Grid
from catalog.normalise.findings import Findings
from catalog.normalise.values import epsg_of, number, text
from catalog.products.model import Band, Product
from catalog.scenes import SceneAsset
from catalog.wavelengths import TOLERANCE_NM, file_order

Assets = Mapping[str, Mapping[str, Any]]
Unsign = Callable[[Any, str], str | None]


def read_assets(item: Mapping[str, Any], findings: Findings) -> Assets:
    """The item's assets that are objects at all."""
    assets = item.get("assets")
    if not isinstance(assets, Mapping) or not assets:
        findings.refuse("no assets")
        return {}
    return {str(key): asset for key, asset in assets.items() if isinstance(asset, Mapping)}


def scene_assets(
    assets: Assets, properties: Mapping[str, Any], product: Product, unsign: Unsign, findings: Findings
) -> tuple[dict[str, SceneAsset], int | None]:
    """The files a product needs, by the archive's asset key, and the EPSG code they agree on."""
    wanted: dict[str, tuple[str, ...]] = dict(_pixel_assets(assets, product, findings))
    for key in _quality_assets(assets, product, findings):
        wanted.setdefault(key, ())
    for name in product.metadata_assets:
        if name in assets:
            wanted.setdefault(name, ())

    georeferenced = product.grid.crs != "none"
    epsg = _epsg(assets, properties, wanted, findings) if georeferenced else None
    if not georeferenced and (epsg_of(properties) or "proj:transform" in properties):
        findings.repair("its stated CRS and transform are made from the bounding box: left out")
    result: dict[str, SceneAsset] = {}
    for key, bands in wanted.items():
        asset = assets[key]
        href = unsign(asset.get("href"), key)
        if href is None:
            continue
        size = number(asset.get("file:size"))
        gsd = product.band(bands[0]).gsd_m if bands else None
        result[key] = SceneAsset(
            key=key,
            href=href,
            bands=bands,
            grid=_grid(asset, properties, epsg, gsd) if georeferenced else None,
            size_bytes=int(size) if size is not None and size >= 0 else None,
            checksum=_multihash(asset.get("file:checksum"), findings),
        )
    return result, epsg


def stated_numbers(assets: Assets, product: Product, findings: Findings) -> dict[str, Any]:
    """What the item says of its numbers, for ``Scene.radiometry``: wavelengths, gains and offsets per band.

    Refuses an item whose own scale and offset contradict a product with constant ones: that is how a
    Collection-1 scene in a Collection-2 folder shows itself.
    """
    facts: dict[str, Any] = {}
    if product.multiband_asset is not None:
        described = _described_bands(assets.get(product.multiband_asset, {}))
        facts |= _wavelengths(described, product, findings)
        facts |= _gains(described, product)
    elif product.radiometry.rule == "linear":
        for band in product.bands:
            key = _asset_of(assets, band)
            stated = _stated_scale(assets[key]) if key is not None else None
            scale = product.radiometry.scale if band.scale is None else band.scale
            offset = product.radiometry.offset if band.offset is None else band.offset
            if stated is not None and not (_close(stated[0], scale) and _close(stated[1], offset)):
                findings.refuse(
                    f"{band.name} states scale {stated[0]:g} and offset {stated[1]:g}, {product.id} has "
                    f"{scale:g} and {offset:g}: another processing generation"
                )
    return facts


def _pixel_assets(
    assets: Assets, product: Product, findings: Findings
) -> Iterator[tuple[str, tuple[str, ...]]]:
    if product.multiband_asset is not None:
        if product.multiband_asset in assets:
            order = _order(_described_bands(assets[product.multiband_asset]), product)
            names = product.band_names
            yield product.multiband_asset, tuple(names[place] for place in order) if order else names
        else:
            findings.refuse(f"no asset {product.multiband_asset}")
        return
    missing = []
    for band in product.bands:
        key = _asset_of(assets, band)
        if key is None:
            missing.append(band.name)
        else:
            yield key, (band.name,)
    if missing:
        findings.refuse(f"no asset for band{'s' if len(missing) > 1 else ''} {', '.join(missing)}")


def _asset_of(assets: Assets, band: Band) -> str | None:
    return next((key for key in (band.asset or band.name, *band.aliases) if key in assets), None)


def _quality_assets(assets: Assets, product: Product, findings: Findings) -> Iterator[str]:
    layer = product.qa
    if layer is None:
        return
    if layer.kind == "flags":
        for key in dict.fromkeys(layer.flags.values()):
            if key in assets:
                yield key
            else:
                findings.refuse(f"no quality layer {key}")
        return
    names = tuple(name for name in (layer.asset, *layer.aliases) if name)
    found = next((name for name in names if name in assets), None)
    if found is not None:
        yield found
    elif not layer.optional:
        findings.refuse(f"no quality layer {' or '.join(names)}")


def _epsg(
    assets: Assets, properties: Mapping[str, Any], wanted: Mapping[str, Any], findings: Findings
) -> int | None:
    own = epsg_of(properties)
    if own is not None:
        return own
    stated = {code for key, bands in wanted.items() if bands and (code := epsg_of(assets[key])) is not None}
    if len(stated) > 1:
        findings.refuse(f"its bands lie in different CRSs: EPSG {', '.join(map(str, sorted(stated)))}")
        return None
    return stated.pop() if stated else None


def _grid(
    asset: Mapping[str, Any], properties: Mapping[str, Any], epsg: int | None, gsd_m: float | None
) -> Grid | None:
    for holder in (asset, properties):
        transform, shape = _numbers(holder.get("proj:transform")), _numbers(holder.get("proj:shape"))
        if epsg is None or transform is None or shape is None:
            continue
        if len(transform) not in (6, 9) or len(shape) != 2 or min(shape) < 1:
            continue
        a, b, c, d, e, f = transform[:6]
        if a == 0 or e == 0:
            continue
        # An item-level grid is that of most bands, not of a panchromatic one.
        if holder is properties and gsd_m is not None and epsg != 4326 and abs(abs(a) - gsd_m) > 0.01 * gsd_m:
            continue
        return Grid(epsg, (a, b, c, d, e, f), (int(shape[0]), int(shape[1])))
    return None


def _multihash(value: Any, findings: Findings) -> str | None:
    stated = text(value)
    if stated is not None and re.fullmatch(r"[0-9a-fA-F]{32}", stated):
        findings.repair("file:checksum is a bare MD5: written as multihash")
        return f"d50110{stated.lower()}"
    return stated


def _described_bands(asset: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    for name in ("eo:bands", "bands"):
        bands = asset.get(name)
        if isinstance(bands, list) and bands:
            return [band for band in bands if isinstance(band, Mapping)]
    return []


def _stated_wavelengths(
    described: list[Mapping[str, Any]],
) -> tuple[list[float], list[float] | None, float] | None:
    """(centres, widths, factor) of the bands in file order, nanometres; None where an item does not state
    them.

    ``factor`` is 1 where the item states nanometres and 1000 where it keeps to micrometres.
    """
    centres = [number(b.get("center_wavelength", b.get("eo:center_wavelength"))) for b in described]
    widths = [number(b.get("full_width_half_max", b.get("eo:full_width_half_max"))) for b in described]
    known = [value for value in centres if value is not None and value > 0]
    if not known or len(known) != len(described):
        return None
    # STAC wants µm; EnMAP items hold nm. No optical band lies beyond 20 µm or below 100 nm.
    factor = 1000.0 if max(known) < 20 else 1.0
    spans = [value * factor for value in widths if value is not None and value > 0]
    return [value * factor for value in known], spans if len(spans) == len(known) else None, factor


def _order(described: list[Mapping[str, Any]], product: Product) -> tuple[int, ...] | None:
    """Place among the product's bands of every band in the file; None where it is not told, or not found."""
    stated = _stated_wavelengths(described)
    if stated is None or len(described) != len(product.bands):
        return None
    return file_order(product, stated[0], stated[1])


def _wavelengths(
    described: list[Mapping[str, Any]], product: Product, findings: Findings
) -> dict[str, list[float]]:
    """The scene's own wavelengths and widths, in the product's band order."""
    if not described:
        return {}
    if len(described) != len(product.bands):
        findings.refuse(f"its file has {len(described)} bands, {product.id} has {len(product.bands)}")
        return {}
    stated = _stated_wavelengths(described)
    if stated is None:
        return {}
    centres, widths, factor = stated
    if factor == 1.0:
        findings.repair("band wavelengths are nanometres where STAC wants micrometres")
    order = _order(described, product)
    if order is None:
        shifted = [
            f"{band.name} {own:g} nm instead of {band.center_nm:g}"
            for band, own in zip(product.bands, centres, strict=True)
            if band.center_nm is not None and abs(own - band.center_nm) > TOLERANCE_NM
        ]
        findings.refuse(
            f"{len(shifted)} bands have other wavelengths than {product.id}: {', '.join(shifted[:3])}"
            f"{' …' if len(shifted) > 3 else ''}"
        )
        return {}
    if order != tuple(range(len(order))):
        findings.repair("another band list: bands are told by their wavelength, not by their index")
    facts = {"wavelengths_nm": _in_places(centres, order)}
    if widths is not None:
        facts["fwhm_nm"] = _in_places(widths, order)
    return facts


def _in_places(values: list[float], order: tuple[int, ...]) -> list[float]:
    return [value for _, value in sorted(zip(order, values, strict=True))]


def _gains(described: list[Mapping[str, Any]], product: Product) -> dict[str, dict[str, float]]:
    if len(described) != len(product.bands):
        return {}
    gains = [number(band.get("enmap:gain_of_band")) for band in described]
    offsets = [number(band.get("enmap:offset_of_band")) for band in described]
    if any(value is None or value <= 0 for value in gains) or any(value is None for value in offsets):
        return {}
    names = [product.band_names[place] for place in _order(described, product) or range(len(described))]
    return {
        "gains": {n: v for n, v in zip(names, gains, strict=True) if v is not None},
        "offsets": {n: v for n, v in zip(names, offsets, strict=True) if v is not None},
    }


def _stated_scale(asset: Mapping[str, Any]) -> tuple[float, float] | None:
    bands = asset.get("raster:bands")
    holder = bands[0] if isinstance(bands, list) and bands and isinstance(bands[0], Mapping) else asset
    scale = number(holder.get("scale", holder.get("raster:scale")))
    offset = number(holder.get("offset", holder.get("raster:offset", 0)))
    return None if scale is None or offset is None else (scale, offset)


def _close(one: float, other: float) -> bool:
    return abs(one - other) <= 1e-6 * max(abs(one), abs(other))


def _numbers(value: Any) -> list[float] | None:
    if not isinstance(value, list | tuple):
        return None
    numbers = [number(part) for part in value]
    return [part for part in numbers if part is not None] if None not in numbers else None
