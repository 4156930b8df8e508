"""The index finds the places that a scene shows, as looking at each of them does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.grids import north_up
from catalog.locations import sample_locations
from catalog.recipes import Area, LocationRequest, SplitRule
from catalog.samples import Location
from catalog.scenes import Scene
from tasks.cube.footprints import PlaceIndex
from tasks.readers.plan import plan_windows
from tests.catalog.made_up import scene_on
from tests.tasks.scene_files import built_in

S2 = built_in("sentinel-2-l2a")


def places(area: tuple[float, float, float, float]) -> list[Location]:
    split = SplitRule(block_m=4_800, shares={"pretrain": 1.0})
    return sample_locations(LocationRequest(size_m=4_800, split=split), Area(bbox=area), [S2])


ALPS = places((11.5, 47.5, 12.5, 48.0))
DATE_LINE = places((179.4, 64.5, -179.4, 65.0))
ALPS_INDEX, DATE_LINE_INDEX = PlaceIndex(ALPS), PlaceIndex(DATE_LINE)
SCENE = scene_on(S2, north_up(32632, 600_000.0, 5_400_000.0, 10, (1000, 1000)), "a")


def shows(west: float, south: float, east: float, north: float) -> Scene:
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return replace(
        SCENE, bbox=(west, south, east, north), geometry={"type": "Polygon", "coordinates": [ring]}
    )


@settings(max_examples=40, deadline=None)
@given(st.floats(11.3, 12.4), st.floats(47.4, 47.95), st.floats(0.01, 0.6), st.floats(0.01, 0.4))
def test_the_places_of_a_scene_are_those_whose_outline_its_footprint_meets(
    west, south, width, height
) -> None:
    scene = shows(west, south, west + width, south + height)
    found = [location.id for location in ALPS_INDEX.at(ALPS_INDEX.touched(scene))]
    assert found == [window.location for window in plan_windows(S2, scene, ALPS)]


def test_both_sides_of_the_antimeridian_are_found() -> None:
    assert {place.epsg for place in DATE_LINE} == {32660, 32601}
    across = replace(SCENE, bbox=(179.0, 64.0, -179.0, 66.0), geometry={"type": "Polygon", "coordinates": []})
    assert DATE_LINE_INDEX.touched(across).tolist() == list(range(len(DATE_LINE)))
    west_of_it = DATE_LINE_INDEX.at(DATE_LINE_INDEX.touched(shows(179.0, 64.0, 179.9, 66.0)))
    assert {place.epsg for place in west_of_it} == {32660}
    elsewhere = shows(0.0, 64.0, 1.0, 66.0)
    assert len(DATE_LINE_INDEX.touched(elsewhere)) == 0


def test_without_places_nothing_is_found() -> None:
    assert PlaceIndex([]).touched(SCENE).dtype == np.int64 and len(PlaceIndex([]).touched(SCENE)) == 0
