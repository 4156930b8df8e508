"""When which satellite passed: every scene of the sandbox archive, with its version and its fate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
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


_CLEAR = SkyRequest()
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
    sky: SkyRequest = _CLEAR
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

    @property
    def truth(self) -> tuple[str, int, str]:
        """Versions of one observation share their sky and their noise."""
        return self.product, self.zone, self.when.isoformat()


ZONES = (32632, 32633)
S2_TILES = ("32UQU", "33UTP")
LANDSAT_PATHS = (193, 192)
LANDSAT_ROW = 26

_SLANT = 8.0


def _clouds(cover: float, cirrus: float = 0.0, cell_m: float = 1700, base_m: float = 1400) -> SkyRequest:
    return SkyRequest(cover, cirrus, cell_m, base_m)


def _at(day: str, clock: str) -> datetime:
    return datetime.combine(date.fromisoformat(day), time.fromisoformat(clock), UTC)


def _sentinel2() -> list[Observation]:
    # Five days apart by the two satellites in turn. What the date does not tell: the July 2021 scene was
    # reprocessed with 05.00, the next three still carry no offset, everything after 25 January 2022 does.
    table: tuple[tuple[str, str, SkyRequest, SkyRequest], ...] = (
        ("2021-07-20", "05.00", _clouds(0.06), _clouds(0.12)),
        ("2021-08-29", "03.01", _CLEAR, _clouds(0.22, cell_m=900)),
        ("2021-10-08", "03.01", _clouds(0.45, cell_m=3600), _CLEAR),
        ("2022-01-16", "03.01", _clouds(0.18, cell_m=3200), _clouds(0.08, 0.3)),
        ("2022-03-22", "04.00", _CLEAR, _CLEAR),
        ("2022-05-11", "04.00", _clouds(0.30, base_m=1800), _clouds(0.05)),
        ("2022-06-20", "04.00", _clouds(0.03), _CLEAR),
        ("2022-08-09", "04.00", _CLEAR, _clouds(0.03, 0.5)),
        ("2023-02-10", "05.09", _CLEAR, _clouds(0.06)),
        ("2023-04-26", "05.09", _clouds(0.08), _clouds(0.38, cell_m=2600)),
        ("2023-06-15", "05.09", _clouds(0.02), _CLEAR),
    )
    scenes = []
    for day, version, *skies in table:
        when = _at(day, "10:10:41.024000")
        platform = "sentinel-2a" if (when.date() - date(2021, 7, 20)).days % 10 == 0 else "sentinel-2b"
        later = when + timedelta(hours=7, minutes=21, seconds=19)
        for zone, sky in enumerate(skies):
            swath_edge = (
                Footprint((Edge(90 + _SLANT, 0.36),)) if (day, zone) == ("2022-08-09", 1) else Footprint()
            )
            scenes.append(
                Observation(
                    "sentinel-2-l2a",
                    zone,
                    when,
                    platform,
                    sky,
                    swath_edge,
                    snow_line_m=590.0 if day == "2023-02-10" else 640.0 if day == "2022-01-16" else 9999.0,
                    version=version,
                    generated=_at("2023-02-02", "04:17:55") if version == "05.00" else later,
                    orbit=22,
                    nodata_tag=day != "2022-01-16",
                )
            )
    scenes = _with_reprocessing(scenes, 0, "2022-06-20", "05.10", _at("2024-06-17", "12:32:08"))
    scenes.append(
        Observation(
            "sentinel-2-l2a",
            1,
            _at("2023-07-10", "10:10:41.024000"),
            "sentinel-2a",
            _clouds(1.0),
            version="05.09",
            generated=_at("2023-07-10", "17:40:02"),
            role="refused",
            orbit=22,
            claims={"cloud": 35.118402},
        )
    )
    return scenes


def _sentinel1() -> list[Observation]:
    # Passes twelve days apart; the first of each: (day, clock, relative orbit, ascending).
    passes = (
        (("2022-01-04", "16:58:57.104000", 117, True), ("2022-01-08", "05:26:11.480000", 168, False)),
        (("2022-01-11", "17:06:48.271000", 44, True), ("2022-01-03", "05:17:33.902000", 95, False)),
    )
    # Which pass, how many cycles after the first.
    wanted = ((0, 3), (1, 10), (0, 14), (1, 18), (0, 23), (1, 40))
    scenes = []
    for zone, orbits in enumerate(passes):
        for index, (which, cycles) in enumerate(wanted):
            day, clock, orbit, ascending = orbits[which]
            when = _at(day, clock) + timedelta(days=12 * cycles)
            # The slanted end of a slice.
            bearing = -12.0 if ascending else 12.0
            ends = (Edge(bearing, 0.33),) if index == 3 and zone == 0 else ()
            scenes.append(
                Observation(
                    "sentinel-1-rtc",
                    zone,
                    when,
                    "sentinel-1a",
                    footprint=Footprint(ends),
                    version="NRT-3h",
                    generated=when + timedelta(hours=5, minutes=11),
                    orbit=orbit,
                    ascending=ascending,
                )
            )
    first = next(scene for scene in scenes if scene.zone == 1)
    scenes = _with_reprocessing(
        scenes, 1, first.when.date().isoformat(), "Fast-24h", first.when + timedelta(days=1, hours=3)
    )
    day, clock, orbit, _ = passes[0][1]
    when = _at(day, clock) + timedelta(days=12 * 30)
    scenes.append(
        Observation(
            "sentinel-1-rtc",
            0,
            when,
            "sentinel-1a",
            footprint=Footprint((Edge(102.0, -0.44),)),
            version="NRT-3h",
            generated=when + timedelta(hours=5),
            role="refused",
            orbit=orbit,
            claims={"whole": 1.0},
        )
    )
    return scenes


def _landsat() -> list[Observation]:
    # Eight days apart by the two satellites in turn; path 192 comes seven days before path 193.
    table = (
        (0, _CLEAR, _clouds(0.10)),
        (48, _clouds(0.07), _clouds(0.25, cell_m=2600)),
        (88, _CLEAR, _clouds(0.05)),
        (136, _clouds(0.14, base_m=1900), _CLEAR),
        (200, _clouds(0.05, 0.35), _CLEAR),
        (344, _CLEAR, _clouds(0.09)),
        (424, _clouds(0.33, cell_m=2800), _CLEAR),
        (480, _CLEAR, _clouds(0.12, 0.3)),
    )
    scenes = []
    for days, *skies in table:
        for zone, sky in enumerate(skies):
            when = _at("2022-03-25", "10:02:51.306122") + timedelta(days=days - 7 * zone, seconds=-361 * zone)
            edge = Footprint((Edge(-90 + 13, 0.41),)) if (days, zone) == (136, 1) else Footprint()
            scenes.append(
                Observation(
                    "landsat-oli-sr",
                    zone,
                    when,
                    "landsat-8" if (days // 8) % 2 == 0 else "landsat-9",
                    sky,
                    edge,
                    snow_line_m=600.0 if days == 344 else 9999.0,
                    version="T1",
                    generated=when + timedelta(days=9, hours=2),
                    orbit=LANDSAT_PATHS[zone],
                )
            )
    again = next(scene for scene in scenes if scene.zone == 0 and scene.when.date() == date(2022, 6, 21))
    scenes[scenes.index(again)] = replace(again, version="T2")
    scenes = _with_reprocessing(scenes, 0, "2022-06-21", "T1", again.when + timedelta(days=40))
    when = _at("2022-03-25", "10:02:51.306122") + timedelta(days=248 - 7, seconds=-361)
    scenes.append(
        Observation(
            "landsat-oli-sr",
            1,
            when,
            "landsat-9",
            _clouds(0.1),
            Footprint((Edge(77.0, -0.45),)),
            version="T1",
            generated=when + timedelta(days=8),
            role="refused",
            orbit=LANDSAT_PATHS[1],
            claims={"whole": 1.0},
        )
    )
    return scenes


def _enmap() -> list[Observation]:
    table = (
        (0, "2022-06-22", "10:31:17.412086", 1411, _CLEAR),
        (0, "2022-09-10", "10:34:52.870411", 9177, _clouds(0.10)),
        (0, "2023-04-24", "10:28:09.203377", 13852, _clouds(0.05)),
        (1, "2022-06-26", "10:27:40.118530", 1536, _clouds(0.12)),
        (1, "2022-09-14", "10:30:21.664092", 9340, _CLEAR),
        (1, "2023-05-13", "10:25:33.009114", 14790, _clouds(0.20, cell_m=2600)),
    )
    scenes = []
    for zone, day, clock, datatake, sky in table:
        when = _at(day, clock)
        heading = 11.5
        tile = tuple(Edge(heading + turn, 0.465) for turn in (0, 90, 180, 270))
        scenes.append(
            Observation(
                "enmap-l2a",
                zone,
                when,
                "enmap",
                sky,
                Footprint(tile),
                version="01.04.02",
                generated=_at("2024-07-02", "12:22:37.804501") + timedelta(minutes=datatake % 600),
                orbit=datatake,
            )
        )
    scenes = _with_reprocessing(scenes, 0, "2022-06-22", "01.05.02", _at("2025-02-11", "03:59:21.589889"))
    when = _at("2023-01-21", "20:41:02.550108")
    scenes.append(
        Observation(
            "enmap-l2a",
            1,
            when,
            "enmap",
            _CLEAR,
            Footprint(tuple(Edge(11.5 + turn, 0.465) for turn in (0, 90, 180, 270))),
            version="01.04.02",
            generated=_at("2024-07-02", "21:48:10.391177"),
            role="refused",
            orbit=11862,
        )
    )
    return scenes


def _with_reprocessing(
    scenes: list[Observation], zone: int, day: str, version: str, generated: datetime
) -> list[Observation]:
    """The same with a second version of one observation."""
    index = next(i for i, one in enumerate(scenes) if one.zone == zone and one.when.date().isoformat() == day)
    older = replace(scenes[index], role="superseded")
    newer = replace(older, role="reprocessed", version=version, generated=generated, nodata_tag=True)
    return [*scenes[:index], older, newer, *scenes[index + 1 :]]


PRODUCTS = ("sentinel-2-l2a", "sentinel-1-rtc", "landsat-oli-sr", "enmap-l2a")


def plan_scenes(dates: int | None = None) -> list[Observation]:
    """Every scene of the archive, oldest first per product.

    ``dates`` keeps that many ordinary dates per product and zone, spread over the period; the reprocessed and
    the refused scenes always stay.
    """
    kept: list[Observation] = []
    for scenes in (_sentinel2(), _sentinel1(), _landsat(), _enmap()):
        special = [one for one in scenes if one.role != "ordinary"]
        ordinary = [one for one in scenes if one.role == "ordinary"]
        if dates is not None:
            ordinary = [
                one for zone in (0, 1) for one in _spread([s for s in ordinary if s.zone == zone], dates)
            ]
        kept += sorted([*ordinary, *special], key=lambda one: (one.when, one.zone, one.generated))
    return kept


def _spread(scenes: Sequence[Observation], count: int) -> list[Observation]:
    if count >= len(scenes):
        return list(scenes)
    picked = sorted({round(i) for i in np.linspace(0, len(scenes) - 1, count)})
    return [scenes[i] for i in picked]
