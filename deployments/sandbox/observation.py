"""One satellite's pass over one square: what a scene shows, how much of it, and what becomes of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from shapely.geometry import Polygon, box

from catalog.grids import Grid
from deployments.sandbox.atmosphere import SkyRequest

Role = Literal["ordinary", "superseded", "reprocessed", "refused"]


@dataclass(frozen=True)
class Edge:
    """A line beyond which the scene holds no data."""

    bearing: float
    """Direction from the square's centre in which data end, degrees clockwise from north."""
    reach: float
    """Distance of the line from the centre as a share of the square's side; 0.5 touches its edge."""


@dataclass(frozen=True)
class Footprint:
    """The part of a square that a scene covers."""

    edges: tuple[Edge, ...] = ()

    def covers(self, grid: Grid, square: Grid) -> NDArray[np.bool_]:
        """True where ``grid`` has data, ``(y, x)``."""
        _, _, west, _, _, north = grid.affine
        step = grid.resolution[0]
        centre_x, centre_y, side = _frame(square)
        x = (west + (np.arange(grid.shape[1]) + 0.5) * step - centre_x)[None, :]
        y = (north - (np.arange(grid.shape[0]) + 0.5) * step - centre_y)[:, None]
        inside = np.ones(grid.shape, bool)
        for edge in self.edges:
            angle = math.radians(edge.bearing)
            inside &= x * math.sin(angle) + y * math.cos(angle) <= edge.reach * side
        return inside

    def polygon(self, grid: Grid, square: Grid) -> Polygon:
        """Outline of the data, in metres."""
        outline = box(*grid.bounds)
        centre_x, centre_y, side = _frame(square)
        for edge in self.edges:
            angle = math.radians(edge.bearing)
            ahead, aside = (
                np.array([math.sin(angle), math.cos(angle)]),
                np.array([math.cos(angle), -math.sin(angle)]),
            )
            on_line = np.array([centre_x, centre_y]) + edge.reach * side * ahead
            far = 4 * side
            corners = (
                on_line + far * aside,
                on_line + far * aside - far * ahead,
                on_line - far * aside - far * ahead,
                on_line - far * aside,
            )
            outline = outline.intersection(Polygon([tuple(corner) for corner in corners]))
        return outline


def _frame(square: Grid) -> tuple[float, float, float]:
    west, south, east, north = square.bounds
    return (west + east) / 2, (south + north) / 2, east - west


CLEAR = SkyRequest()
_WHOLE = Footprint()


@dataclass(frozen=True)
class Observation:
    """One scene to simulate."""

    product: str
    zone: int
    """0: EPSG:32632, 1: EPSG:32633."""
    when: datetime
    platform: str
    """As Swath spells it, e.g. ``sentinel-2a``."""
    sky: SkyRequest = CLEAR
    footprint: Footprint = _WHOLE
    snow_line_m: float = 9999.0
    version: str = ""
    """Processing baseline or version."""
    generated: datetime = datetime(2000, 1, 1, tzinfo=UTC)
    role: Role = "ordinary"
    orbit: int = 0
    """Relative orbit, WRS path or EnMAP datatake."""
    ascending: bool = False
    claims: dict[str, float] = field(default_factory=dict)
    """What the metadata say although the pixels say otherwise."""
    nodata_tag: bool = True
    """Some of the real archive's files lack it."""
    same_as: str = ""
    """Product that was made of the same measurement (Level-2A for Level-1C): they share sky and noise."""
    always: bool = False
    """Kept however few dates are asked for."""

    @property
    def truth(self) -> tuple[str, int, str]:
        """Versions of one observation share their sky and their noise."""
        return self.same_as or self.product, self.zone, self.when.isoformat()


ZONES = (32632, 32633)
S2_TILES = ("32UQU", "33UTP")
LANDSAT_PATHS = (193, 192)
LANDSAT_ROW = 26


def clouds(cover: float, cirrus: float = 0.0, cell_m: float = 1700, base_m: float = 1400) -> SkyRequest:
    """A sky with clouds; ``cell_m`` is the size of the largest, ``base_m`` their height."""
    return SkyRequest(cover, cirrus, cell_m, base_m)


def at(day: str, clock: str) -> datetime:
    """A day and a time of day, UTC."""
    return datetime.combine(date.fromisoformat(day), time.fromisoformat(clock), UTC)


def with_reprocessing(
    scenes: list[Observation], zone: int, day: str, version: str, generated: datetime
) -> list[Observation]:
    """The same with a second version of one observation."""
    index = next(i for i, one in enumerate(scenes) if one.zone == zone and one.when.date().isoformat() == day)
    older = replace(scenes[index], role="superseded")
    newer = replace(older, role="reprocessed", version=version, generated=generated, nodata_tag=True)
    return [*scenes[:index], older, newer, *scenes[index + 1 :]]


def spread(scenes: Sequence[Observation], count: int) -> list[Observation]:
    """``count`` of them, spread over the period."""
    if count >= len(scenes):
        return list(scenes)
    picked = sorted({round(i) for i in np.linspace(0, len(scenes) - 1, count)})
    return [scenes[i] for i in picked]
