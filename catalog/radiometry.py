"""Raw numbers to physical ones: the one audited place where scale, offset and logarithm are applied.

``calibrate`` decides, per product and scene, the coefficients; ``to_physical`` applies them, to numpy arrays
and torch tensors alike. What it needs of a scene lies in ``Scene.radiometry``:

========================  ====================================================================================
``boa_offset_applied``    Earth Search says the Sentinel-2 offset is in the pixels already
``gains``, ``offsets``    band → number, where the item states them per band (EnMAP)
``mtl``                   Landsat's coefficients, as ``catalog.normalise.read_mtl`` returns them
``sigma_nought``          band → the scene's calibration constant A (Sentinel-1 GRD)
========================  ====================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from catalog.errors import SceneError
from catalog.products.model import Band, Product
from catalog.scenes import Scene
from catalog.wavelengths import foreign_bands

Conversion = Literal["linear", "power-db", "amplitude-db", "db-linear", "planck"]

OFFSET_SINCE = (4, 0)
"""Sentinel-2 baseline from which 1000 is added to every DN (ESA, products from 25 January 2022 and all
reprocessed ones): a 2020 scene of baseline 05.00 has it, so the date says nothing."""
OFFSET_DN = -1000


@dataclass(frozen=True)
class Calibration:
    """Coefficients of one scene, one per band; NaN where a band has no use for one."""

    bands: tuple[str, ...]
    scale: NDArray[np.float64]
    offset: NDArray[np.float64]
    k1: NDArray[np.float64]
    """W m⁻² sr⁻¹ µm⁻¹; thermal bands that are given as radiance."""
    k2: NDArray[np.float64]
    """Kelvin."""
    source: str
    """One line: how it was decided."""


def conversion(product: Product, band: str | Band) -> Conversion:
    """How ``to_physical`` converts one band."""
    quantity = (product.band(band) if isinstance(band, str) else band).quantity
    match product.radiometry.rule:
        case "power-to-db":
            return "power-db"
        case "amplitude-to-db":
            return "amplitude-db"
        case "db-linear":
            return "db-linear"
        case "landsat-toa" if quantity == "kelvin":
            return "planck"
        case _:
            return "linear"


def to_physical(
    raw: Any,
    *,
    conversion: Conversion,
    scale: Any,
    offset: Any,
    nodata: float | None,
    k1: Any = None,
    k2: Any = None,
    xp: Any = np,
) -> tuple[Any, Any]:
    """Physical values (float32) and where they are valid (bool), both shaped like ``raw``.

    Invalid are: nodata, NaN and infinity, what has no logarithm, and radiances that have no temperature.
    There the value is 0 and means nothing.

    Parameters
    ----------
    raw:            numbers as archived, any shape; a numpy array, or a torch tensor with ``xp=torch``
    scale, offset:  numbers, or arrays that broadcast against ``raw``
    nodata:         raw value that holds no measurement
    k1, k2:         for ``planck``: T = k2 / ln(k1 / L + 1), L = raw · scale + offset

    ``power-db`` is 10 · log10(raw · scale) + offset, ``amplitude-db`` 20 · log10(raw · scale) + offset, and
    ``linear`` (``db-linear`` alike) raw · scale + offset.
    """
    raw = xp.asarray(raw)
    if str(raw.dtype) in ("torch.uint16", "torch.uint32"):
        raw = raw.to(xp.int64)  # torch can hold these, but hardly compute with them

    def number(value: Any) -> Any:
        return xp.asarray(value, dtype=xp.float32, device=raw.device)

    values = xp.asarray(raw, dtype=xp.float32)
    valid = xp.isfinite(values)
    if nodata is not None and not math.isnan(nodata):
        valid = valid & (raw != nodata)
    one, zero = number(1.0), number(0.0)
    values = xp.where(valid, values, one)
    match conversion:
        case "linear" | "db-linear":
            values = values * number(scale) + number(offset)
        case "power-db" | "amplitude-db":
            power = values * number(scale)
            valid = valid & (power > 0)
            factor = 10.0 if conversion == "power-db" else 20.0
            values = factor * xp.log10(xp.where(valid, power, one)) + number(offset)
        case "planck":
            if k1 is None or k2 is None:
                raise ValueError("`planck` needs k1 and k2")
            radiance = values * number(scale) + number(offset)
            valid = valid & (radiance > 0)
            values = number(k2) / xp.log(number(k1) / xp.where(valid, radiance, one) + one)
    # A coefficient may be NaN; what it touches is no measurement either.
    valid = valid & xp.isfinite(values)
    return xp.where(valid, values, zero), valid


def calibrate(product: Product, scene: Scene) -> Calibration:
    """The coefficients of one scene, in product band order.

    Raises
    ------
    SceneError: ``baseline-unknown``, ``calibration-missing``: nothing is guessed.
    """
    match product.radiometry.rule:
        case "sentinel-2-offset":
            return _sentinel_2(product, scene)
        case "landsat-toa":
            return _landsat_toa(product, scene)
        case "amplitude-to-db":
            return _amplitude(product, scene)
        case _:
            return _constant(product, scene)


def _constant(product: Product, scene: Scene) -> Calibration:
    rule = product.radiometry
    scale = [rule.scale if band.scale is None else band.scale for band in product.bands]
    offset = [rule.offset if band.offset is None else band.offset for band in product.bands]
    source = f"{rule.rule} by the product file"
    gains, offsets = scene.radiometry.get("gains"), scene.radiometry.get("offsets")
    if gains and rule.rule == "linear":
        scale = [float(gains.get(name, own)) for name, own in zip(product.band_names, scale, strict=True)]
        stated = offsets or {}
        offset = [float(stated.get(name, own)) for name, own in zip(product.band_names, offset, strict=True)]
        source = "gain and offset per band as the item states them"
    foreign = foreign_bands(product, scene)
    if foreign:
        # Stored, but no measurement of the band whose place they have: without a scale they are invalid.
        scale = [
            math.nan if name in foreign else own for name, own in zip(product.band_names, scale, strict=True)
        ]
        source += f"; bands {', '.join(foreign)} are of another wavelength"
    return _calibration(product, scale, offset, source)


def _sentinel_2(product: Product, scene: Scene) -> Calibration:
    scale = product.radiometry.scale
    if scene.radiometry.get("boa_offset_applied") is True:
        offset, source = 0.0, "the archive says the offset is in the pixels already"
    else:
        version = _numbers(scene.baseline)
        if version is None:
            raise SceneError(
                "baseline-unknown",
                "the offset depends on the processing baseline, which the item does not state",
                subject=scene.id,
                next_step="take the scene from an archive that states it",
            )
        shifted = version >= OFFSET_SINCE
        offset = OFFSET_DN * scale if shifted else 0.0
        source = f"baseline {scene.baseline}: {'1000 was added to every DN' if shifted else 'no offset'}"
    # A product file may carry an offset of its own on top, per band.
    offsets = [offset if band.offset is None else band.offset for band in product.bands]
    scales = [scale if band.scale is None else band.scale for band in product.bands]
    return _calibration(product, scales, offsets, source)


def _landsat_toa(product: Product, scene: Scene) -> Calibration:
    mtl: Mapping[str, Any] = scene.radiometry.get("mtl") or {}
    coefficients: Mapping[str, Mapping[str, float]] = mtl.get("bands") or {}
    elevation = mtl.get("sun_elevation_deg", scene.sun_elevation_deg)
    missing: list[str] = []
    rows: list[tuple[float, float, float, float]] = []
    for band in product.bands:
        own = coefficients.get(band.name, {})
        needed = (
            ("radiance_mult", "radiance_add", "k1", "k2")
            if band.quantity == "kelvin"
            else ("reflectance_mult", "reflectance_add")
        )
        absent = [key for key in needed if not isinstance(own.get(key), int | float)]
        if absent:
            missing.append(f"{band.name} {', '.join(absent)}")
        elif band.quantity == "kelvin":
            rows.append((own["radiance_mult"], own["radiance_add"], own["k1"], own["k2"]))
        else:
            sine = math.sin(math.radians(elevation)) if elevation is not None and elevation > 0 else 0.0
            if not sine:
                missing.append(f"{band.name} a sun above the horizon")
                continue
            rows.append((own["reflectance_mult"] / sine, own["reflectance_add"] / sine, math.nan, math.nan))
    if missing:
        raise SceneError(
            "calibration-missing",
            f"top-of-atmosphere values need the MTL's coefficients; missing: {', '.join(missing)}",
            subject=scene.id,
            next_step="read the scene's MTL file (catalog.normalise.with_mtl)",
        )
    scale, offset, k1, k2 = (list(column) for column in zip(*rows, strict=True))
    return _calibration(product, scale, offset, f"MTL coefficients, sun elevation {elevation:g}°", k1, k2)


def _amplitude(product: Product, scene: Scene) -> Calibration:
    constants: Mapping[str, float] = scene.radiometry.get("sigma_nought") or {}
    if all(name in constants for name in product.band_names):
        scale = [1.0 / float(constants[name]) for name in product.band_names]
        source = "calibration constant of the scene"
    elif "scale" in product.radiometry.model_fields_set:
        scale, source = [product.radiometry.scale] * len(product.bands), "scale by the product file"
    else:
        raise SceneError(
            "calibration-missing",
            "radar amplitudes need the scene's calibration table",
            subject=scene.id,
            next_step="use sentinel-1-rtc, which is calibrated and terrain corrected",
        )
    return _calibration(product, scale, [product.radiometry.offset] * len(product.bands), source)


def _calibration(
    product: Product,
    scale: list[float],
    offset: list[float],
    source: str,
    k1: list[float] | None = None,
    k2: list[float] | None = None,
) -> Calibration:
    unused = [math.nan] * len(product.bands)
    return Calibration(
        bands=product.band_names,
        scale=np.asarray(scale, np.float64),
        offset=np.asarray(offset, np.float64),
        k1=np.asarray(k1 or unused, np.float64),
        k2=np.asarray(k2 or unused, np.float64),
        source=source,
    )


def _numbers(version: str | None) -> tuple[int, ...] | None:
    """``05.11`` → (5, 11); None for what is no such version."""
    parts = (version or "").split(".")
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else None
