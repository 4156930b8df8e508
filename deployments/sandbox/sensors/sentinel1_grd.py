"""Sentinel-1 GRD: VV and VH amplitudes in radar geometry, with relief displacement, noise and annotation."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import numpy as np
from scipy.ndimage import binary_dilation, map_coordinates

from deployments.sandbox.landscape import MARGIN, Ground
from deployments.sandbox.observation import Observation
from deployments.sandbox.radar_geometry import RadarPass
from deployments.sandbox.seasons import Weather
from deployments.sandbox.sensors import Document, Picture, Raster
from deployments.sandbox.sensors.sentinel1 import NOISE_FLOOR, echo_decibel, speckle
from deployments.sandbox.sensors.sentinel1_annotation import (
    ControlPoint,
    Tables,
    calibration_xml,
    interference_xml,
    noise_xml,
    product_xml,
)
from deployments.sandbox.spectra import Array

LOOK_DEG = {True: 78.0, False: 282.0}
"""Ascending passes look to the east-north-east, descending ones to the west-north-west."""
INCIDENCE_DEG = {True: 37.5, False: 40.5}
EDGE_PX = 8
"""Border noise along every edge of what was measured."""
EDGE_POWER = 0.12
"""Of the thermal noise: what the border holds."""
POINTS = (4, 5)
"""Ground-control points along lines and pixels."""
POLARISATIONS = ("vv", "vh")


def simulate(
    ground: Ground,
    seen: Observation,
    day: Weather,
    rng: np.random.Generator,
    truth: dict[str, Array] | None = None,
) -> Picture:
    """Both polarisations of one scene; ``truth`` is filled with sigma nought on the square's 10 m grid."""
    seen_from = scene_pass(ground, seen)
    lines, pixels = seen_from.shape
    line, pixel = np.meshgrid(np.arange(lines), np.arange(pixels), indexing="ij")
    x, y, _ = seen_from.ground_under(line, pixel, lambda x, y: height_at(ground, x, y))
    inside = _measured(ground, seen, x, y)
    edge = ~inside & binary_dilation(inside, np.ones((2 * EDGE_PX + 1,) * 2, bool))
    tables = Tables.of(seen_from.shape, seen.role)
    echo = echo_decibel(ground, seen, day, rng)
    relief = _brightness_of_slopes(ground, seen_from)
    rasters: dict[str, Raster] = {}
    control = control_points(ground, seen_from, seen)
    start = seen.when + timedelta(seconds=seen_from.first_line_s)
    documents: dict[str, Document] = {}
    for name in POLARISATIONS:
        sigma = np.exp(echo[name] * np.float32(math.log(10) / 10)) * relief
        if truth is not None:
            truth[name] = sigma
        factor = tables.amplitude_factor()
        noise = NOISE_FLOOR[name] * tables.noise_shape()
        power = _at(sigma, ground, x, y) + noise
        power = np.where(inside, power, EDGE_POWER * noise) * speckle(rng, seen_from.shape)
        if seen.role == "reprocessed":
            power *= 1.009
        amplitude = np.where(inside | edge, np.sqrt(power) * factor, 0)
        dn = np.clip(np.rint(amplitude), 0, 65535).astype(np.uint16)
        # What was measured is never 0, which is nodata.
        dn[inside] = np.maximum(dn[inside], 1)
        points = tuple((p.line, p.pixel, p.longitude, p.latitude, p.height_m) for p in control)
        rasters[name] = Raster(dn[None], ground.grid, None, points=points)
        xml = {
            "product": product_xml(name, seen_from, seen, start, control),
            "calibration": calibration_xml(name, seen_from, start, tables),
            "noise": noise_xml(name, seen_from, start, tables, NOISE_FLOOR[name]),
            "rfi": interference_xml(name),
        }
        folders = {"product": "annotation/iw-", "rfi": "annotation/rfi/rfi-iw-"}
        for part, text in xml.items():
            head = folders.get(part, f"annotation/calibration/{part}-iw-")
            documents[f"schema-{part}-{name}"] = Document(f"{head}{name}.xml", "application/xml", text)
    return Picture(
        rasters,
        {"nodata": 100 * float((~inside).mean()), "lines": lines, "pixels": pixels},
        documents,
    )


def scene_pass(ground: Ground, seen: Observation) -> RadarPass:
    """The pass that made a scene."""
    height = float(np.median(ground.height_m[MARGIN:-MARGIN, MARGIN:-MARGIN]))
    return RadarPass(ground.grid, height, LOOK_DEG[seen.ascending], INCIDENCE_DEG[seen.ascending])


def height_at(ground: Ground, x: Any, y: Any) -> Any:
    """Height of the ground, metres; beyond the landscape that of its rim."""
    return _sample(ground.height_m, ground, x, y, MARGIN)


def control_points(ground: Ground, seen_from: RadarPass, seen: Observation) -> list[ControlPoint]:
    """A coarse grid of them, at the height of the ground."""
    lines, pixels = (
        np.round(np.linspace(0, size - 1, count)) for size, count in zip(seen_from.shape, POINTS, strict=True)
    )
    line, pixel = (axis.ravel() for axis in np.meshgrid(lines, pixels, indexing="ij"))
    x, y, height = seen_from.ground_under(line, pixel, lambda x, y: height_at(ground, x, y))
    return ControlPoint.of(seen_from, line, pixel, x, y, height)


def _measured(ground: Ground, seen: Observation, x: Any, y: Any) -> Any:
    """Where the raster holds measurements, ``(line, pixel)``."""
    west, south, east, north = ground.grid.bounds
    side = east - west
    inside = np.zeros(x.shape, bool)
    inside[EDGE_PX:-EDGE_PX, EDGE_PX:-EDGE_PX] = True
    for edge in seen.footprint.edges:
        angle = math.radians(edge.bearing)
        ahead = (x - (west + east) / 2) * math.sin(angle) + (y - (south + north) / 2) * math.cos(angle)
        inside &= ahead <= edge.reach * side
    if seen.role == "refused":
        inside &= (x >= west) & (x <= east) & (y >= south) & (y <= north)
    return inside


def _brightness_of_slopes(ground: Ground, seen_from: RadarPass) -> Any:
    """Sigma nought over the gamma nought of flat ground: slopes that face the sensor are brighter."""
    inner = slice(MARGIN, -MARGIN)
    look, theta = math.radians(seen_from.look_deg), math.radians(seen_from.incidence_deg)
    tilt = ground.slope_x[inner, inner] * math.sin(look) + ground.slope_y[inner, inner] * math.cos(look)
    facing = np.tan(np.clip(theta - np.arctan(tilt), 0.15, 1.4))
    return (math.cos(theta) * np.clip(math.tan(theta) / facing, 0.3, 3.0)).astype(np.float32)


def _at(values: Any, ground: Ground, x: Any, y: Any) -> Any:
    return _sample(values, ground, x, y, 0)


def _sample(values: Any, ground: Ground, x: Any, y: Any, margin: int) -> Any:
    _, _, west, _, _, north = ground.grid.affine
    step = ground.grid.resolution[0]
    rows, cols = (north - y) / step - 0.5 + margin, (x - west) / step - 0.5 + margin
    return map_coordinates(values, [rows, cols], order=1, mode="nearest", output=np.float64)
