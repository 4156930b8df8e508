"""Zones, distances and buffers hold where degrees mislead: zone borders, 60° N, 180° E, the wide zones."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod

from catalog.errors import UsageError
from catalog.grids import utm_epsg
from catalog.locations import location_wgs84_polygon, sample_locations
from catalog.locations.apart import Table, first_come, joined, too_close
from catalog.products import load_product
from catalog.recipes import Area, LocationRequest, SplitRule
from catalog.samples import Location
from catalog.windows import equator_m, from_degrees, to_degrees, zones_of
from tests.catalog.locations.test_locations import gaps_between_splits_m

S2 = load_product("sentinel-2-l2a")
GEOD = Geod(ellps="WGS84")


@pytest.mark.parametrize(
    ("longitude", "latitude", "epsg"),
    [
        (5.32, 60.39, 32632),  # Bergen, tile 32VKM
        (2.99, 60.0, 32631),
        (5.32, 55.99, 32631),
        (5.32, 64.01, 32631),
        (15.63, 78.22, 32633),  # Longyearbyen, tile 33XWG
        (8.9, 78.0, 32631),
        (9.1, 78.0, 32633),
        (20.9, 80.0, 32633),
        (21.1, 80.0, 32635),
        (32.9, 80.0, 32635),
        (33.1, 80.0, 32637),
        (41.9, 80.0, 32637),
        (42.1, 80.0, 32638),
        (10.0, 71.9, 32632),
        (5.32, -60.0, 32731),
        (180.0, 10.0, 32660),
        (-180.0, 10.0, 32601),
    ],
)
def test_the_wide_zones_of_norway_and_svalbard_are_known(
    longitude: float, latitude: float, epsg: int
) -> None:
    assert utm_epsg(longitude, latitude) == epsg
    assert zones_of(np.array([longitude]), np.array([latitude])).tolist() == [epsg]


@given(st.floats(-180, 180), st.floats(-80, 84))
def test_many_places_get_the_zones_that_single_ones_get(longitude: float, latitude: float) -> None:
    assert zones_of(np.array([longitude]), np.array([latitude])).tolist() == [utm_epsg(longitude, latitude)]


BORDERS = {
    "12 E": (12.0, 48.0),
    "equator": (9.5, 0.0),
    "zone border at the equator": (12.0, 0.0),
    "60 N": (18.0, 60.0),
    "antimeridian": (180.0, 65.0),
    "antimeridian, south": (180.0, -17.0),
    "zone 32 V, west": (3.0, 60.0),
    "zone 32 V, south-west": (3.0, 56.0),
    "zone 32 V, south-east of 31": (6.0, 56.0),
    "zone 32 V, north": (6.0, 64.0),
    "zones 31 and 33 X": (9.0, 75.0),
    "band X over zones 32 and 33": (12.0, 72.0),
    "zones 33 and 35 X": (21.0, 80.0),
    "zones 35 and 37 X": (33.0, 72.0),
}


def around(longitude: float, latitude: float, side_m: float) -> Area:
    dy = side_m / 2 / 111_200
    dx = dy / np.cos(np.radians(latitude))
    west, east = ((x + 180) % 360 - 180 for x in (longitude - dx, longitude + dx))
    return Area(bbox=(west, latitude - dy, east, latitude + dy))


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(sorted(BORDERS)),
    st.floats(-0.02, 0.02),
    st.floats(-0.02, 0.02),
    st.sampled_from([300.0, 1200.0, 4000.0]),
    st.integers(0, 1000),
    st.sampled_from([480, 1920]),
)
def test_no_place_lies_within_the_buffer_of_a_place_of_another_split(
    border: str, east: float, north: float, buffer_m: float, seed: int, size: int
) -> None:
    longitude, latitude = BORDERS[border]
    wanted = LocationRequest(
        size_m=size,
        seed=seed,
        split=SplitRule(
            block_m=9_600, buffer_m=buffer_m, shares={"pretrain": 0.5, "probe": 0.0, "test": 0.5}
        ),
    )
    try:
        locations = sample_locations(wanted, around(longitude + east, latitude + north, 26_000), [S2])
    except UsageError as error:
        assert error.code == "no-locations"
        return
    gaps = gaps_between_splits_m(locations, buffer_m + 1)
    assert min(gaps, default=buffer_m) >= buffer_m


def test_places_of_different_splits_are_found_on_both_sides_of_every_border() -> None:
    split = SplitRule(block_m=2_880, buffer_m=300)
    for name, (longitude, latitude) in BORDERS.items():
        found = sample_locations(
            LocationRequest(size_m=960, split=split), around(longitude, latitude, 24_000), [S2]
        )
        assert len({place.epsg for place in found}) >= 2, name
        gaps = gaps_between_splits_m(found, 5_000)
        assert gaps and min(gaps) >= 300, name


def test_the_grid_has_no_gap_and_no_overlap_where_zone_32_takes_from_zone_31() -> None:
    wanted = LocationRequest(size_m=4_800, split=SplitRule(block_m=4_800, shares={"pretrain": 1.0}))
    locations = sample_locations(wanted, Area(bbox=(2.0, 55.0, 7.0, 65.0)), [S2])
    assert all(place.epsg == utm_epsg(place.longitude, place.latitude) for place in locations)
    outlines = np.array([shapely.geometry.shape(location_wgs84_polygon(place)) for place in locations])
    assert shapely.area(outlines).sum() == pytest.approx(shapely.union_all(outlines).area, rel=1e-6)
    # Only windows that a border cuts are left out: one column on either side, and one line.
    assert shapely.union_all(outlines).area > 0.96 * 5 * 10


def windows_near(
    longitude: float, latitude: float, count: int, spread_m: float, seed: int, size: float
) -> Table:
    rng = np.random.default_rng(seed)
    x, y, _ = GEOD.fwd(
        np.full(count, longitude),
        np.full(count, latitude),
        rng.uniform(0, 360, count),
        rng.uniform(0, spread_m, count),
    )
    x, y = np.asarray(x), np.asarray(y)
    tables = []
    for one in range(count):
        code = utm_epsg(x[one], y[one])
        east, north = from_degrees(code, x[one : one + 1], y[one : one + 1])
        west, top = np.round(east) - size / 2, np.round(north - equator_m(code)) + equator_m(code) + size / 2
        centre = to_degrees(code, west + size / 2, top - size / 2)
        tables.append(Table(np.array([code]), west, top, *centre, size))
    return joined(tables)


def outline(table: Table, row: int) -> shapely.Geometry:
    x, y = table.west[row] + table.size_m / 2, table.north[row] - table.size_m / 2
    place = Location("", int(table.epsg[row]), x, y, table.size_m, 0, 0, "", "")
    return shapely.geometry.shape(location_wgs84_polygon(place))


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(BORDERS)), st.integers(0, 1000), st.sampled_from([None, 900.0, 2500.0]))
def test_pairs_that_are_too_close_are_those_that_overlap_on_the_ground_or_lie_nearer_than_asked(
    border: str, seed: int, least: float | None
) -> None:
    from pyproj import Transformer

    longitude, latitude = BORDERS[border]
    table = windows_near(longitude, latitude, 40, 4_000, seed, 960.0)
    found = {
        pair
        for later, earlier in too_close(table, least)
        for pair in zip(later.tolist(), earlier.tolist(), strict=True)
    }
    plane = f"+proj=laea +lat_0={latitude} +lon_0={longitude} +units=m"
    forth = Transformer.from_crs(4326, plane, always_xy=True)
    shapes = [
        shapely.transform(outline(table, row), forth.transform, interleaved=False)
        for row in range(len(table))
    ]
    for later, earlier in itertools.combinations(range(len(table)), 2):
        later, earlier = earlier, later
        shared = shapely.intersection(shapes[later], shapes[earlier]).area
        distance = GEOD.inv(
            table.longitude[later], table.latitude[later], table.longitude[earlier], table.latitude[earlier]
        )[2]
        close = least is not None and distance < least
        if shared > 2_000 or close:
            assert (later, earlier) in found
        elif shared == 0 and not close:
            assert (later, earlier) not in found
    kept = first_come(table, least)
    assert kept[0] and not any(kept[a] and kept[b] for a, b in found)
    assert all(kept[row] or any(kept[b] for a, b in found if a == row) for row in range(len(table)))


def test_an_outline_across_the_antimeridian_has_a_part_on_either_side() -> None:
    x, y = from_degrees(32660, np.array([180.0]), np.array([65.0]))
    polygon = location_wgs84_polygon(Location("", 32660, float(x[0]), float(y[0]), 960, 180, 65, "", ""))
    assert polygon["type"] == "MultiPolygon"
    shape = shapely.geometry.shape(polygon)
    assert shape.is_valid and shape.bounds[0] == -180 and shape.bounds[2] == 180
    area = sum(GEOD.geometry_area_perimeter(part)[0] for part in shape.geoms)
    assert area == pytest.approx(960**2, rel=2e-3)
