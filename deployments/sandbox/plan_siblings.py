"""Further products of planned passes: Sentinel-2 Level-1C, and EnMAP as it was made before 2024."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from deployments.sandbox.observation import Edge, Footprint, Observation, at, clouds

_LEVEL_1C = {
    # Level-1C was not reprocessed with Level-2A: the baseline of the partner is another one here.
    "2021-07-20": "03.01",
    "2021-08-29": "03.01",
    "2022-05-11": "04.00",
    "2022-06-20": "",
    "2023-06-15": "05.09",
    "2023-07-10": "05.09",
}
"""Sensing date → baseline of the Level-1C product; the partner's own where empty."""


def level_1c(level_2a: Sequence[Observation]) -> list[Observation]:
    """Level-1C of some Level-2A passes, and one pass of which no Level-2A was made."""
    scenes = []
    for seen in level_2a:
        version = _LEVEL_1C.get(seen.when.date().isoformat())
        if version is None:
            continue
        made = seen.generated if not version else seen.when + timedelta(hours=3, minutes=2, seconds=7)
        scenes.append(
            replace(
                seen,
                product="sentinel-2-l1c",
                same_as=seen.product,
                version=version or seen.version,
                generated=made,
                nodata_tag=True,
            )
        )
    alone = at("2022-07-10", "10:10:41.024000")
    scenes.append(
        Observation(
            "sentinel-2-l1c",
            1,
            alone,
            "sentinel-2b",
            clouds(0.25, cell_m=2600),
            version="04.00",
            generated=alone + timedelta(hours=3, minutes=2),
            orbit=22,
            always=True,
        )
    )
    return scenes


def older_enmap() -> list[Observation]:
    """EnMAP scenes of processor 01.03, whose 224 bands are not all those of 2024 on."""
    tile = Footprint(tuple(Edge(11.5 + turn, 0.465) for turn in (0, 90, 180, 270)))
    table = ((0, "2022-07-24", "10:33:05.660418", 1867), (1, "2022-08-20", "10:29:50.204557", 3010))
    return [
        Observation(
            "enmap-l2a",
            zone,
            at(day, clock),
            "enmap",
            footprint=tile,
            version="01.03.02",
            generated=at(day, clock) + timedelta(days=3, hours=9),
            orbit=datatake,
            always=True,
        )
        for zone, day, clock, datatake in table
    ]
