"""When Landsat 5 and 7 passed, and which passes there are at Level 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from deployments.sandbox.atmosphere import SkyRequest
from deployments.sandbox.observation import (
    CLEAR,
    LANDSAT_PATHS,
    Edge,
    Footprint,
    Observation,
    at,
    clouds,
    with_reprocessing,
)

Row = tuple[int, SkyRequest, SkyRequest]

SLC_OFF = at("2003-05-31", "21:42:35")
"""When the scan line corrector of Landsat 7 failed (USGS)."""

_OLI_LEVEL_1_DAYS = (
    "2022-03-25",
    "2022-03-18",
    "2022-06-21",
    "2022-10-11",
    "2022-10-04",
    "2023-07-18",
    "2023-07-11",
)
"""Passes of Landsat 8 and 9 of which there is Level 1 too, besides the refused one."""


def tm_surface() -> list[Observation]:
    """Landsat 5 TM at Level 2."""
    table: tuple[Row, ...] = (
        (0, CLEAR, clouds(0.10)),
        (64, clouds(0.12, base_m=1900), CLEAR),
        (128, CLEAR, clouds(0.06)),
    )
    return _series("landsat-tm-sr", "landsat-5", at("1999-05-03", "09:45:12.018063"), table, refused_after=80)


def etm_surface() -> list[Observation]:
    """Landsat 7 ETM+ at Level 2; all but the first date are after the failure of the scan line corrector."""
    table: tuple[Row, ...] = (
        (0, clouds(0.08), CLEAR),
        (1072, CLEAR, clouds(0.15)),
        (1136, clouds(0.10, cell_m=2600), CLEAR),
    )
    return _series(
        "landsat-etm-sr", "landsat-7", at("2002-06-20", "09:58:47.530219"), table, refused_after=1088
    )


def tm_level_1() -> list[Observation]:
    """The same passes of Landsat 5 at Level 1."""
    return _level_1(tm_surface(), "landsat-tm-toa")


def etm_level_1() -> list[Observation]:
    """The same passes of Landsat 7 at Level 1."""
    return _level_1(etm_surface(), "landsat-etm-toa")


def oli_level_1(level_2: Sequence[Observation]) -> list[Observation]:
    """Some passes of Landsat 8 and 9 at Level 1."""
    chosen = [
        one for one in level_2 if one.role != "ordinary" or one.when.date().isoformat() in _OLI_LEVEL_1_DAYS
    ]
    return _level_1(chosen, "landsat-oli-toa")


def _level_1(level_2: Sequence[Observation], product: str) -> list[Observation]:
    # Level 2 is made from Level 1, a day later.
    return [
        replace(one, product=product, same_as=one.product, generated=one.generated - timedelta(days=1))
        for one in level_2
    ]


def _series(
    product: str, platform: str, first: datetime, table: Sequence[Row], *, refused_after: int
) -> list[Observation]:
    """Passes counted in days from the first; path 192 comes seven days before path 193."""
    scenes = []
    for days, *skies in table:
        for zone, sky in enumerate(skies):
            when = first + timedelta(days=days - 7 * zone, seconds=-361 * zone)
            scenes.append(
                Observation(
                    product,
                    zone,
                    when,
                    platform,
                    sky,
                    version="T1",
                    generated=when + timedelta(days=9, hours=2),
                    orbit=LANDSAT_PATHS[zone],
                )
            )
    # Tier 2 at first, and Tier 1 when better control points were at hand.
    again = next(one for one in scenes if one.zone == 0 and one.when > first)
    scenes[scenes.index(again)] = replace(again, version="T2")
    scenes = with_reprocessing(
        scenes, 0, again.when.date().isoformat(), "T1", again.when + timedelta(days=40)
    )
    when = first + timedelta(days=refused_after - 7, seconds=-361)
    scenes.append(
        Observation(
            product,
            1,
            when,
            platform,
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
