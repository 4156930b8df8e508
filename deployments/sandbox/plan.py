"""When which satellite passed: every scene of the sandbox archive, with its version and its fate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, timedelta

from deployments.sandbox import plan_landsat
from deployments.sandbox.atmosphere import SkyRequest
from deployments.sandbox.observation import (
    CLEAR,
    LANDSAT_PATHS,
    LANDSAT_ROW,
    S2_TILES,
    ZONES,
    Edge,
    Footprint,
    Observation,
    Role,
    at,
    clouds,
    spread,
    with_reprocessing,
)
from deployments.sandbox.plan_siblings import level_1c, older_enmap

__all__ = [
    "ALL_PRODUCTS",
    "LANDSAT_PATHS",
    "LANDSAT_ROW",
    "PASSES",
    "PRODUCTS",
    "S2_TILES",
    "ZONES",
    "Edge",
    "Footprint",
    "Observation",
    "Role",
    "plan_scenes",
]

_SLANT = 8.0


def _sentinel2() -> list[Observation]:
    # Five days apart by the two satellites in turn. What the date does not tell: the July 2021 scene was
    # reprocessed with 05.00, the next three still carry no offset, everything after 25 January 2022 does.
    table: tuple[tuple[str, str, SkyRequest, SkyRequest], ...] = (
        ("2021-07-20", "05.00", clouds(0.06), clouds(0.12)),
        ("2021-08-29", "03.01", CLEAR, clouds(0.22, cell_m=900)),
        ("2021-10-08", "03.01", clouds(0.45, cell_m=3600), CLEAR),
        ("2022-01-16", "03.01", clouds(0.18, cell_m=3200), clouds(0.08, 0.3)),
        ("2022-03-22", "04.00", CLEAR, CLEAR),
        ("2022-05-11", "04.00", clouds(0.30, base_m=1800), clouds(0.05)),
        ("2022-06-20", "04.00", clouds(0.03), CLEAR),
        ("2022-08-09", "04.00", CLEAR, clouds(0.03, 0.5)),
        ("2023-02-10", "05.09", CLEAR, clouds(0.06)),
        ("2023-04-26", "05.09", clouds(0.08), clouds(0.38, cell_m=2600)),
        ("2023-06-15", "05.09", clouds(0.02), CLEAR),
    )
    scenes = []
    for day, version, *skies in table:
        when = at(day, "10:10:41.024000")
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
                    generated=at("2023-02-02", "04:17:55") if version == "05.00" else later,
                    orbit=22,
                    nodata_tag=day != "2022-01-16",
                )
            )
    scenes = with_reprocessing(scenes, 0, "2022-06-20", "05.10", at("2024-06-17", "12:32:08"))
    scenes.append(
        Observation(
            "sentinel-2-l2a",
            1,
            at("2023-07-10", "10:10:41.024000"),
            "sentinel-2a",
            clouds(1.0),
            version="05.09",
            generated=at("2023-07-10", "17:40:02"),
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
            when = at(day, clock) + timedelta(days=12 * cycles)
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
    scenes = with_reprocessing(
        scenes, 1, first.when.date().isoformat(), "Fast-24h", first.when + timedelta(days=1, hours=3)
    )
    day, clock, orbit, _ = passes[0][1]
    when = at(day, clock) + timedelta(days=12 * 30)
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
        (0, CLEAR, clouds(0.10)),
        (48, clouds(0.07), clouds(0.25, cell_m=2600)),
        (88, CLEAR, clouds(0.05)),
        (136, clouds(0.14, base_m=1900), CLEAR),
        (200, clouds(0.05, 0.35), CLEAR),
        (344, CLEAR, clouds(0.09)),
        (424, clouds(0.33, cell_m=2800), CLEAR),
        (480, CLEAR, clouds(0.12, 0.3)),
    )
    scenes = []
    for days, *skies in table:
        for zone, sky in enumerate(skies):
            when = at("2022-03-25", "10:02:51.306122") + timedelta(days=days - 7 * zone, seconds=-361 * zone)
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
    scenes = with_reprocessing(scenes, 0, "2022-06-21", "T1", again.when + timedelta(days=40))
    when = at("2022-03-25", "10:02:51.306122") + timedelta(days=248 - 7, seconds=-361)
    scenes.append(
        Observation(
            "landsat-oli-sr",
            1,
            when,
            "landsat-9",
            clouds(0.1),
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
        (0, "2022-06-22", "10:31:17.412086", 1411, CLEAR),
        (0, "2022-09-10", "10:34:52.870411", 9177, clouds(0.10)),
        (0, "2023-04-24", "10:28:09.203377", 13852, clouds(0.05)),
        (1, "2022-06-26", "10:27:40.118530", 1536, clouds(0.12)),
        (1, "2022-09-14", "10:30:21.664092", 9340, CLEAR),
        (1, "2023-05-13", "10:25:33.009114", 14790, clouds(0.20, cell_m=2600)),
    )
    scenes = []
    for zone, day, clock, datatake, sky in table:
        when = at(day, clock)
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
                generated=at("2024-07-02", "12:22:37.804501") + timedelta(minutes=datatake % 600),
                orbit=datatake,
            )
        )
    scenes = with_reprocessing(scenes, 0, "2022-06-22", "01.05.02", at("2025-02-11", "03:59:21.589889"))
    when = at("2023-01-21", "20:41:02.550108")
    scenes.append(
        Observation(
            "enmap-l2a",
            1,
            when,
            "enmap",
            CLEAR,
            Footprint(tuple(Edge(11.5 + turn, 0.465) for turn in (0, 90, 180, 270))),
            version="01.04.02",
            generated=at("2024-07-02", "21:48:10.391177"),
            role="refused",
            orbit=11862,
        )
    )
    return scenes


PRODUCTS = ("sentinel-2-l2a", "sentinel-1-rtc", "landsat-oli-sr", "enmap-l2a")
"""What the archive holds unless it is asked for more."""

PASSES: dict[str, Callable[[], list[Observation]]] = {
    "sentinel-2-l2a": _sentinel2,
    "sentinel-1-rtc": _sentinel1,
    "landsat-oli-sr": _landsat,
    "enmap-l2a": _enmap,
    "sentinel-2-l1c": lambda: level_1c(_sentinel2()),
    "sentinel-1-grd": lambda: [
        replace(one, product="sentinel-1-grd", same_as=one.product) for one in _sentinel1()
    ],
    "landsat-tm-sr": plan_landsat.tm_surface,
    "landsat-tm-toa": plan_landsat.tm_level_1,
    "landsat-etm-sr": plan_landsat.etm_surface,
    "landsat-etm-toa": plan_landsat.etm_level_1,
    "landsat-oli-toa": lambda: plan_landsat.oli_level_1(_landsat()),
}
"""Product → all its scenes."""

ALL_PRODUCTS = tuple(PASSES)
"""Every product that can be simulated."""


def plan_scenes(dates: int | None = None, products: Sequence[str] | None = None) -> list[Observation]:
    """Every scene of the archive, oldest first per product.

    ``dates`` keeps that many ordinary dates per product and zone, spread over the period; the reprocessed and
    the refused scenes, and those that show a quirk, always stay. Without ``products`` it is the four of
    ``PRODUCTS``; asked for by name, EnMAP also has scenes of the older wavelength grid.
    """
    kept: list[Observation] = []
    for product in PRODUCTS if products is None else products:
        scenes = PASSES[product]()
        if products is not None and product == "enmap-l2a":
            scenes += older_enmap()
        special = [one for one in scenes if one.role != "ordinary" or one.always]
        ordinary = [one for one in scenes if one.role == "ordinary" and not one.always]
        if dates is not None:
            ordinary = [
                one for zone in (0, 1) for one in spread([s for s in ordinary if s.zone == zone], dates)
            ]
        kept += sorted([*ordinary, *special], key=lambda one: (one.when, one.zone, one.generated))
    return kept
