"""What a scene's pixels say beyond their percentiles: radiometric verdict, structure, a small picture.

One dictionary per scene, merged into its row of ``tasks.gate.statistics``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.products import Product
from catalog.quality import FLAGS
from catalog.radiometric_bands import sees_ground
from catalog.radiometric_truth import gather_evidence, judge_radiometry
from catalog.radiometry import Calibration, conversion, to_physical
from tasks.gate.pixel_structure import band_order_gain, strongest_stripes

PICTURE_PX = 96
MANY_BANDS = 32
HISTOGRAM_BINS = 64
SPANS = {"reflectance": (-0.25, 0.75), "kelvin": (200.0, 340.0)}
"""Quantity → what a histogram shows; decibels otherwise."""
DECIBELS = (-40.0, 15.0)


def pixel_evidence(
    product: Product,
    calibration: Calibration,
    values: NDArray[Any],
    flags: NDArray[np.uint8],
    looks: float = math.nan,
) -> dict[str, Any]:
    """Findings of one scene.

    Parameters
    ----------
    values: raw numbers ``(band, y, x)``, bands in product order
    flags:  ``catalog.quality`` flags ``(y, x)``
    looks:  equivalent number of looks (radar), NaN where it is not known

    Returns
    -------
    ``radiometry`` (``agrees``, ``contradicts``, ``undecidable``) and ``radiometry_reason``; ``band_order``,
    the best other order, and ``band_order_gain``, how much better it fits; ``stripe_strength`` and
    ``striped_band``; ``looks``; ``histograms``, band → counts between two ends in physical units, of a scene
    whose radiometry is not borne out; ``picture``, uint8 ``(y, x, 3)``, or None where nothing is valid.
    """
    by_name = dict(zip(product.band_names, values, strict=True))
    nothing = (flags & FLAGS["nodata"]) != 0
    cloud = (flags & (FLAGS["cloud"] | FLAGS["cirrus"])) != 0
    # Pixels flagged as nodata by the QA layer, and left in by the bands, are no evidence.
    masked = {name: _without(raw, nothing, product.nodata) for name, raw in by_name.items()}
    evidence = gather_evidence(product, calibration, masked, cloud, looks=looks)
    judgement = judge_radiometry(product, calibration, evidence)
    valid = {name: _valid(raw, product.nodata) for name, raw in masked.items()}
    gain, order = math.nan, None
    held = [name for name in product.band_names if valid[name].any()]
    if held:
        whole = np.logical_and.reduce([valid[name] for name in held]) & ~cloud
        gain, order = band_order_gain(product, {name: masked[name] for name in held}, whole)
    stripes, striped = strongest_stripes(masked, valid, _looked_at_for_stripes(product, held))
    row: dict[str, Any] = {
        "radiometry": judgement.verdict,
        "radiometry_reason": judgement.reason,
        "band_order_gain": gain,
        "band_order": order,
        "stripe_strength": stripes,
        "striped_band": striped,
        "looks": looks,
        "histograms": {},
        "picture": _picture(product, by_name, nothing),
    }
    if judgement.verdict != "agrees":
        row["histograms"] = _histograms(product, calibration, masked, cloud)
    return row


def _without(raw: NDArray[Any], nothing: NDArray[np.bool_], nodata: float | None) -> NDArray[Any]:
    if nodata is None or math.isnan(nodata) or not nothing.any():
        return raw
    return np.where(nothing, np.asarray(nodata, raw.dtype), raw)


def _valid(raw: NDArray[Any], nodata: float | None) -> NDArray[np.bool_]:
    valid = np.isfinite(raw)
    return valid & (raw != nodata) if nodata is not None else valid


def _looked_at_for_stripes(product: Product, held: list[str]) -> list[str]:
    """Bands that see the ground: where water vapour hides it, what is left is the detector's noise."""
    names = [n for n in held if not any(a <= (product.band(n).center_nm or 0) <= b for a, b in OPAQUE_NM)]
    return names[:: max(1, len(names) // MANY_BANDS)]


OPAQUE_NM = ((930.0, 960.0), (1_110.0, 1_160.0), (1_330.0, 1_500.0), (1_780.0, 2_050.0), (2_380.0, 2_600.0))


def _histograms(
    product: Product, calibration: Calibration, values: Mapping[str, NDArray[Any]], cloud: NDArray[np.bool_]
) -> dict[str, dict[str, Any]]:
    found = {}
    for name in _told_by(product, calibration, values):
        place = product.band_names.index(name)
        physical, valid = to_physical(
            values[name],
            conversion=conversion(product, name),
            scale=calibration.scale[place],
            offset=calibration.offset[place],
            nodata=product.nodata,
            k1=calibration.k1[place],
            k2=calibration.k2[place],
        )
        low, high = SPANS.get(product.band(name).quantity, DECIBELS)
        shown = np.clip(physical[valid & ~cloud], low, high)
        counts, _ = np.histogram(shown, bins=HISTOGRAM_BINS, range=(low, high))
        if not shown.size:
            continue
        found[name] = {"low": low, "high": high, "counts": [int(count) for count in counts]}
    return found


def _told_by(product: Product, calibration: Calibration, values: Mapping[str, NDArray[Any]]) -> list[str]:
    """Three bands at most: the cirrus band, and those whose dark end is lowest."""
    cirrus = [band.name for band in product.bands if band.common_name == "cirrus"]
    low = {}
    reflects = [name for name in product.band_names if sees_ground(product, name)]
    for name in reflects or product.band_names:
        raw = values[name][_valid(values[name], product.nodata)]
        if raw.size:
            low[name] = float(np.percentile(raw, 2) * calibration.scale[product.band_names.index(name)])
    return [*cirrus, *sorted(low, key=lambda name: low[name])][:3]


def _picture(
    product: Product, values: Mapping[str, NDArray[Any]], nothing: NDArray[np.bool_]
) -> NDArray[np.uint8] | None:
    if nothing.all():
        return None
    names = _colours(product)
    step = max(1, -(-max(nothing.shape) // PICTURE_PX))
    shown = np.zeros((*nothing[::step, ::step].shape, 3), np.uint8)
    empty = nothing[::step, ::step]
    for place, name in enumerate(names):
        raw = values[name][::step, ::step].astype(np.float64)
        if product.radiometry.rule in ("power-to-db", "amplitude-to-db"):
            raw = np.log10(np.maximum(raw, 1e-6))
        taken = raw[~empty & np.isfinite(raw)]
        if not taken.size:
            continue
        low, high = np.percentile(taken, (2, 98))
        scaled = (raw - low) / max(high - low, 1e-9)
        shown[..., place] = np.where(empty, 128, 255 * np.clip(np.nan_to_num(scaled), 0, 1)).astype(np.uint8)
    return shown


def _colours(product: Product) -> tuple[str, str, str]:
    """Three bands for red, green and blue: by wavelength, or the polarisations."""
    optical = [band for band in product.bands if band.center_nm is not None and band.center_nm < 3_000]
    if len(optical) < 3:
        first, last = product.band_names[0], product.band_names[-1]
        return first, last, first
    red, green, blue = (
        min(optical, key=lambda band: abs((band.center_nm or 0) - wanted)).name for wanted in (660, 560, 490)
    )
    return red, green, blue
