"""Sentinel-1 annotation files: the numbers in a ground-range product's product, calibration and noise XML.

Element names are those of the *Sentinel-1 Product Specification* (S1-RS-MDA-52-7441). XML from outside is
parsed with defusedxml: entities, external references and document types are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.errors import SceneError

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class StateVectors:
    """Where the satellite was, earth-fixed; one row per state vector."""

    times_s: Numbers
    """Seconds after the product's first line."""
    positions_m: Numbers
    """``(n, 3)``"""
    velocities_m_s: Numbers
    """``(n, 3)``"""


@dataclass(frozen=True)
class RangeConversion:
    """Ground range of a slant range: one polynomial that holds around one azimuth time."""

    time_s: float
    """Seconds after the product's first line."""
    origin_m: float
    """Slant range at which the polynomial is expanded (``sr0``)."""
    coefficients: tuple[float, ...]
    """Ground range in metres = Σ coefficient · (slant range − origin)ⁿ."""


@dataclass(frozen=True)
class GeolocationGrid:
    """The ground-control points: rows of ``(azimuth, range)``, each array of that shape."""

    line: Numbers
    pixel: Numbers
    longitude: Numbers
    latitude: Numbers
    height_m: Numbers
    """Above the ellipsoid: the terrain as the processor knew it."""
    incidence_deg: Numbers
    time_s: Numbers
    """Zero-Doppler time of each point, seconds after the product's first line."""
    slant_range_s: Numbers
    """Two-way travel time."""


@dataclass(frozen=True)
class ProductAnnotation:
    """What places a pixel."""

    lines: int
    samples: int
    line_interval_s: float
    range_spacing_m: float
    azimuth_spacing_m: float
    orbit: StateVectors
    conversions: tuple[RangeConversion, ...]
    grid: GeolocationGrid


@dataclass(frozen=True)
class LineVector:
    """Values along one line, linear between the pixels given."""

    line: float
    pixel: Numbers
    value: Numbers


@dataclass(frozen=True)
class AzimuthBlock:
    """Part of the raster with a factor per line, linear between the lines given."""

    first_line: int
    last_line: int
    first_sample: int
    last_sample: int
    line: Numbers
    value: Numbers


@dataclass(frozen=True)
class NoiseAnnotation:
    """Thermal noise power in squared digital numbers: range vectors times azimuth blocks."""

    ranges: tuple[LineVector, ...]
    azimuths: tuple[AzimuthBlock, ...]
    """Empty in products before March 2018, whose one list of vectors holds all of the noise."""


def read_product_annotation(content: bytes) -> ProductAnnotation:
    """What a product annotation says of geometry.

    Raises
    ------
    SceneError: ``unreadable-annotation``, no annotation of a ground-range product, or a hostile file.
    """
    return _reading(content, "product", _product)


def read_calibration(content: bytes) -> tuple[LineVector, ...]:
    """The ``sigmaNought`` vectors A of a calibration annotation, by line: σ⁰ = DN² / A².

    Raises
    ------
    SceneError: ``unreadable-annotation``.
    """
    return _reading(content, "calibration", _calibration)


def read_noise(content: bytes) -> NoiseAnnotation:
    """The noise vectors of a noise annotation, in the layout before or since March 2018 (IPF 2.90).

    Raises
    ------
    SceneError: ``unreadable-annotation``.
    """
    return _reading(content, "noise", _noise)


def product_annotation_href(href: str) -> str:
    """Address of the product annotation, given what an archive calls so.

    Since processing version 3.40 catalogues point ``schema-product-*`` to the interference annotation
    (``annotation/rfi/rfi-iw-vv.xml``), which holds no geometry; the product annotation lies one folder up.
    """
    head, slash, name = href.rpartition("/")
    if head.endswith("/annotation/rfi") and name.startswith("rfi-"):
        return f"{head.removesuffix('/rfi')}{slash}{name.removeprefix('rfi-')}"
    return href


def _reading[T](content: bytes, root: str, read: Callable[[Any], T]) -> T:
    from xml.etree.ElementTree import ParseError

    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        tree = fromstring(content, forbid_dtd=True)
        if tree.tag != root:
            raise ValueError(f"it is a <{str(tree.tag)[:40]}>")
        return read(tree)
    except DefusedXmlException as error:
        reason = f"it declares entities or a document type ({type(error).__name__})"
    except (ParseError, ValueError, IndexError) as error:
        reason = str(error)
    raise SceneError(
        "unreadable-annotation",
        f"the {root} annotation cannot be used: {reason}",
        next_step="fetch it again; a page of HTML may stand in for it where a login is needed",
    )


def _product(tree: Any) -> ProductAnnotation:
    image = _child(tree, "imageAnnotation/imageInformation")
    start = _time(_text(image, "productFirstLineUtcTime"))

    def after_start(element: Any, name: str) -> float:
        return (_time(_text(element, name)) - start).total_seconds()

    orbits = tree.findall("generalAnnotation/orbitList/orbit")
    if len(orbits) < 4:
        raise ValueError(f"{len(orbits)} orbit state vectors, 4 are needed")
    conversions = tuple(
        RangeConversion(
            after_start(one, "azimuthTime"),
            _number(one, "sr0"),
            tuple(_numbers(one, "srgrCoefficients").tolist()),
        )
        for one in tree.findall("coordinateConversion/coordinateConversionList/coordinateConversion")
    )
    if not conversions:
        raise ValueError("no conversion from slant range to ground range: no ground-range product")
    return ProductAnnotation(
        lines=int(_number(image, "numberOfLines")),
        samples=int(_number(image, "numberOfSamples")),
        line_interval_s=_positive(image, "azimuthTimeInterval"),
        range_spacing_m=_positive(image, "rangePixelSpacing"),
        azimuth_spacing_m=_positive(image, "azimuthPixelSpacing"),
        orbit=StateVectors(
            np.array([after_start(one, "time") for one in orbits]),
            np.array([[_number(one, f"position/{axis}") for axis in "xyz"] for one in orbits]),
            np.array([[_number(one, f"velocity/{axis}") for axis in "xyz"] for one in orbits]),
        ),
        conversions=tuple(sorted(conversions, key=lambda one: one.time_s)),
        grid=_grid(
            tree.findall("geolocationGrid/geolocationGridPointList/geolocationGridPoint"), after_start
        ),
    )


def _grid(points: list[Any], after_start: Callable[[Any, str], float]) -> GeolocationGrid:
    names = ("line", "pixel", "longitude", "latitude", "height", "incidenceAngle")
    rows = [
        [
            *(_number(point, name) for name in names),
            after_start(point, "azimuthTime"),
            _number(point, "slantRangeTime"),
        ]
        for point in points
    ]
    table = np.array(rows).reshape(-1, len(names) + 2)
    lines = np.unique(table[:, 0])
    if len(lines) < 2 or len(table) % len(lines) or len(table) // len(lines) < 2:
        raise ValueError(f"{len(table)} ground-control points on {len(lines)} lines make no grid")
    table = table[np.lexsort((table[:, 1], table[:, 0]))]
    shaped = table.reshape(len(lines), -1, table.shape[1])
    if (shaped[:, :, 0] != shaped[:, :1, 0]).any() or (shaped[:, :, 1] != shaped[:1, :, 1]).any():
        raise ValueError("the ground-control points make no grid of lines and pixels")
    if (np.diff(shaped[0, :, 1]) <= 0).any():
        raise ValueError("two ground-control points lie on the same pixel")
    return GeolocationGrid(*np.ascontiguousarray(np.moveaxis(shaped, -1, 0)))


def _calibration(tree: Any) -> tuple[LineVector, ...]:
    vectors = _vectors(tree.findall("calibrationVectorList/calibrationVector"), "sigmaNought")
    if not all((vector.value > 0).all() for vector in vectors):
        raise ValueError("sigmaNought holds values that are not positive")
    return vectors


def _noise(tree: Any) -> NoiseAnnotation:
    if old := tree.findall("noiseVectorList/noiseVector"):
        return NoiseAnnotation(_vectors(old, "noiseLut"), ())
    ranges = _vectors(tree.findall("noiseRangeVectorList/noiseRangeVector"), "noiseRangeLut")
    blocks = []
    for one in tree.findall("noiseAzimuthVectorList/noiseAzimuthVector"):
        line, value = _numbers(one, "line"), _numbers(one, "noiseAzimuthLut")
        _check_pair(line, value, "noiseAzimuthLut")
        first_line, last_line, first_sample, last_sample = (
            int(_number(one, name))
            for name in ("firstAzimuthLine", "lastAzimuthLine", "firstRangeSample", "lastRangeSample")
        )
        blocks.append(AzimuthBlock(first_line, last_line, first_sample, last_sample, line, value))
    return NoiseAnnotation(ranges, tuple(blocks))


def _vectors(elements: list[Any], name: str) -> tuple[LineVector, ...]:
    vectors = []
    for one in elements:
        pixel, value = _numbers(one, "pixel"), _numbers(one, name)
        _check_pair(pixel, value, name)
        vectors.append(LineVector(_number(one, "line"), pixel, value))
    if not vectors:
        raise ValueError(f"no {name} vectors")
    return tuple(sorted(vectors, key=lambda vector: vector.line))


def _check_pair(place: Numbers, value: Numbers, name: str) -> None:
    if len(place) != len(value) or not len(place) or (np.diff(place) <= 0).any():
        raise ValueError(f"{name}: {len(value)} values at {len(place)} places that must increase")


def _child(element: Any, path: str) -> Any:
    found = element.find(path)
    if found is None:
        raise ValueError(f"no {path}")
    return found


def _text(element: Any, path: str) -> str:
    return (_child(element, path).text or "").strip()


def _number(element: Any, path: str) -> float:
    value = float(_text(element, path))
    if not np.isfinite(value):
        raise ValueError(f"{path} is {value}")
    return value


def _positive(element: Any, path: str) -> float:
    value = _number(element, path)
    if value <= 0:
        raise ValueError(f"{path} is {value:g}")
    return value


def _numbers(element: Any, path: str) -> Numbers:
    values = np.array(_text(element, path).split(), np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"{path} holds values that are not finite")
    return values


def _time(text: str) -> datetime:
    # Annotation times are UTC without saying so; naive on both sides, their differences are right.
    return datetime.fromisoformat(text.removesuffix("Z"))
