"""A radar pass over one square: a circular orbit beside it, and which line and pixel sees which ground.

Simpler than the Earth's: the satellite flies a great circle in the earth-fixed frame, so that the time at
which it passes a point at a right angle is an arc tangent. State vectors, range conversion and ground-control
points follow from the same circle, and are as consistent as a real annotation's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer

from catalog.grids import Grid

ORBIT_RADIUS_M = 7_071_000.0
SPEED_M_S = 7_480.0
SPEED_OF_LIGHT_M_S = 299_792_458.0
SPACING_M = 10.0
MARGIN_PX = 24
"""Raster beyond the square on every side."""
RANGE_DEGREE = 5
HEIGHT_SPAN_M = 300.0
STEPS = 7
"""From the mean height to that of the ground: each step leaves a fifth of the last one's error."""
_POWERS = [(i, j, k) for i in range(4) for j in range(4) for k in range(3) if i + j + k <= 4]
"""Of line, pixel and height, in the way back from the radar to the ground."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class RadarPass:
    """One pass; places are metres in the square's UTM zone and heights above the ellipsoid."""

    square: Grid
    height_m: float
    """Mean height of the ground, for which the range conversion holds."""
    look_deg: float
    """Where the antenna looks, clockwise from grid north."""
    incidence_deg: float
    """In the middle of the square."""

    @cached_property
    def shape(self) -> tuple[int, int]:
        """(lines, pixels)."""
        lines, pixels = self._extent
        return math.ceil(lines[1] - lines[0]), math.ceil(pixels[1] - pixels[0])

    @property
    def line_interval_s(self) -> float:
        """Lines lie 10 m apart on the ground."""
        return SPACING_M / (SPEED_M_S * float(np.linalg.norm(self._centre)) / ORBIT_RADIUS_M)

    @property
    def first_line_s(self) -> float:
        """Time of the first line, seconds from the pass over the middle."""
        return self._extent[0][0] * self.line_interval_s

    @property
    def near_slant_m(self) -> float:
        """Slant range of the first pixel."""
        return float(self._near_m)

    @cached_property
    def range_conversion(self) -> Numbers:
        """Ground range in metres = Σ coefficient · (slant range − ``near_slant_m``)ⁿ."""
        return self._fit_range(self._near_m)

    def radar_place(self, x: Any, y: Any, height_m: Any) -> tuple[Numbers, Numbers]:
        """Line and pixel (fractions) that see a place."""
        seconds, slant_m = self.time_and_range(x, y, height_m)
        line = (seconds - self._late_s(slant_m)) / self.line_interval_s - self._extent[0][0]
        pixel = np.polynomial.polynomial.polyval(slant_m - self._near_m, self.range_conversion) / SPACING_M
        return line, np.asarray(pixel)

    def time_and_range(self, x: Any, y: Any, height_m: Any) -> tuple[Numbers, Numbers]:
        """Seconds from the pass over the middle, and slant range in metres."""
        place = self._earth_fixed(x, y, height_m)
        over, ahead = self._frame
        angle = np.arctan2(place @ ahead, place @ over)
        satellite = self._satellite(angle)
        return angle * ORBIT_RADIUS_M / SPEED_M_S, np.linalg.norm(place - satellite, axis=-1)

    def incidence_at(self, x: Any, y: Any, height_m: Any) -> Numbers:
        """Degrees between the vertical and the line of sight."""
        place = self._earth_fixed(x, y, height_m)
        up = self._earth_fixed(x, y, np.asarray(height_m) + 1.0) - place
        seconds, _ = self.time_and_range(x, y, height_m)
        sight = self._satellite(seconds * SPEED_M_S / ORBIT_RADIUS_M) - place
        cosine = (up * sight).sum(-1) / np.linalg.norm(up, axis=-1) / np.linalg.norm(sight, axis=-1)
        return np.degrees(np.arccos(cosine))

    def ground_under(self, line: Any, pixel: Any, heights: Any) -> tuple[Numbers, Numbers, Numbers]:
        """x, y and height of what a line and pixel see.

        Parameters
        ----------
        heights: gives the height of the ground at x, y; slopes must be gentler than the line of sight
        """
        line, pixel = np.asarray(line, np.float64), np.asarray(pixel, np.float64)
        by_height = self._inverse(line, pixel)
        height = np.full(np.broadcast_shapes(line.shape, pixel.shape), self.height_m)
        for _ in range(STEPS):
            x, y = self._at_height(by_height, height)
            height = heights(x, y)
        x, y = self._at_height(by_height, height)
        return x, y, height

    def state_vectors(self, times_s: Numbers) -> tuple[Numbers, Numbers]:
        """Positions and velocities ``(n, 3)`` at seconds from the pass over the middle."""
        angle = np.asarray(times_s) * SPEED_M_S / ORBIT_RADIUS_M
        over, ahead = self._frame
        forward = -np.sin(angle)[:, None] * over + np.cos(angle)[:, None] * ahead
        return self._satellite(angle), SPEED_M_S * forward

    def late_s(self, slant_m: Numbers) -> Numbers:
        """How much later than its line far range is passed: half of the echo's extra travel time."""
        return self._late_s(slant_m)

    # Everything below follows from the five fields.

    def _late_s(self, slant_m: Any) -> Numbers:
        return np.asarray((slant_m - self._near_m) / SPEED_OF_LIGHT_M_S)

    def _earth_fixed(self, x: Any, y: Any, height_m: Any) -> Numbers:
        to_degrees = Transformer.from_crs(self.square.epsg, 4326, always_xy=True)
        to_earth_fixed = Transformer.from_crs(4979, 4978, always_xy=True)
        x, y, height_m = np.broadcast_arrays(*(np.asarray(v, np.float64) for v in (x, y, height_m)))
        longitude, latitude = to_degrees.transform(x, y)
        return np.stack(to_earth_fixed.transform(longitude, latitude, height_m), axis=-1)

    @cached_property
    def _middle(self) -> tuple[float, float, float]:
        """x, y of the square's middle and half of its side."""
        west, south, east, north = self.square.bounds
        return (west + east) / 2, (south + north) / 2, (east - west) / 2

    @cached_property
    def _centre(self) -> Numbers:
        x, y, _ = self._middle
        return self._earth_fixed(x, y, self.height_m)

    @cached_property
    def _frame(self) -> tuple[Numbers, Numbers]:
        """Unit vectors to the satellite when it passes the middle, and along its flight."""
        x, y, _ = self._middle
        look = math.radians(self.look_deg)
        up = _unit(self._earth_fixed(x, y, self.height_m + 1) - self._centre)
        ahead_m = 100.0
        sideways = _unit(
            self._earth_fixed(x + ahead_m * math.sin(look), y + ahead_m * math.cos(look), self.height_m)
            - self._centre
        )
        theta = math.radians(self.incidence_deg)
        sight = _unit(math.cos(theta) * up - math.sin(theta) * sideways)
        along = float(self._centre @ sight)
        slant = -along + math.sqrt(along**2 + ORBIT_RADIUS_M**2 - float(self._centre @ self._centre))
        over = _unit(self._centre + slant * sight)
        # The antenna looks to the right of the flight.
        return over, _unit(np.cross(sight, over))

    def _satellite(self, angle: Any) -> Numbers:
        over, ahead = self._frame
        angle = np.asarray(angle)[..., None]
        return np.asarray(ORBIT_RADIUS_M * (np.cos(angle) * over + np.sin(angle) * ahead))

    @cached_property
    def _near_m(self) -> float:
        return float(self._slants.min())

    @cached_property
    def _slants(self) -> Numbers:
        x, y = self._across()
        _, slant_m = self.time_and_range(x, y, np.full(x.shape, self.height_m))
        return slant_m

    def _across(self) -> tuple[Numbers, Numbers]:
        """Places across the track at mean height, beyond the square on both sides."""
        x, y, half = self._middle
        look = math.radians(self.look_deg)
        reach = half * (abs(math.sin(look)) + abs(math.cos(look))) + MARGIN_PX * SPACING_M
        along = np.linspace(-reach, reach, 64)
        return x + along * math.sin(look), y + along * math.cos(look)

    def _fit_range(self, near_m: float) -> Numbers:
        x, y = self._across()
        ground_m = np.hypot(x - x[0], y - y[0])
        wide = self._slants - near_m
        powers = np.stack([wide**n for n in range(RANGE_DEGREE + 1)], axis=1)
        size = np.abs(powers).max(axis=0)
        weights, *_ = np.linalg.lstsq(powers / size, ground_m, rcond=None)
        return np.asarray(weights / size)

    @cached_property
    def _extent(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """First and end line, counted from the pass over the middle, and first and end pixel."""
        west, south, east, north = self.square.bounds
        x, y = np.array([west, west, east, east]), np.array([south, north, south, north])
        seconds, slant_m = self.time_and_range(x, y, np.full(4, self.height_m))
        lines = (seconds - self._late_s(slant_m)) / self.line_interval_s
        pixels = np.polynomial.polynomial.polyval(slant_m - self._near_m, self.range_conversion) / SPACING_M
        first = math.floor(lines.min()) - MARGIN_PX
        return (first, math.ceil(lines.max()) + MARGIN_PX), (0.0, math.ceil(pixels.max()) + MARGIN_PX)

    def _inverse(self, line: Numbers, pixel: Numbers) -> Numbers:
        """x and y as polynomials in height, ``(x or y, power of height, …)``."""
        u, v, _ = self._scaled(line, pixel, self.height_m)
        powers = {(i, j): u**i * v**j for i, j in {(i, j) for i, j, _ in _POWERS}}
        found = np.zeros((2, 1 + max(k for _, _, k in _POWERS), *np.broadcast_shapes(u.shape, v.shape)))
        for weights, (i, j, k) in zip(self._weights, _POWERS, strict=True):
            for axis in (0, 1):
                found[axis, k] += weights[axis] * powers[i, j]
        return found

    def _at_height(self, by_height: Numbers, height_m: Numbers) -> tuple[Numbers, Numbers]:
        w = (height_m - self.height_m) / HEIGHT_SPAN_M
        x, y = (np.asarray(c[0] + w * (c[1] + w * c[2])) for c in by_height)
        return x, y

    @cached_property
    def _weights(self) -> Numbers:
        """Of the polynomial that leads back to the ground, fitted where radar places are known exactly."""
        x, y, half = self._middle
        reach = 1.6 * half + 2 * MARGIN_PX * SPACING_M
        steps = np.linspace(-reach, reach, 9)
        grid = np.meshgrid(
            x + steps, y + steps, self.height_m + np.linspace(-HEIGHT_SPAN_M, HEIGHT_SPAN_M, 5)
        )
        places = [axis.ravel() for axis in grid]
        line, pixel = self.radar_place(*places)
        u, v, w = self._scaled(line, pixel, places[2])
        design = np.stack([u**i * v**j * w**k for i, j, k in _POWERS], axis=1)
        weights, *_ = np.linalg.lstsq(design, np.stack(places[:2], axis=1), rcond=None)
        return np.asarray(weights)

    def _scaled(self, line: Any, pixel: Any, height_m: Any) -> tuple[Any, Any, Any]:
        lines, pixels = self.shape
        return 2 * line / lines - 1, 2 * pixel / pixels - 1, (height_m - self.height_m) / HEIGHT_SPAN_M


def _unit(vector: Numbers) -> Numbers:
    return np.asarray(vector / np.linalg.norm(vector))
