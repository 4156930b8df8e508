"""Places never overlap, never move, keep their split, and stay a buffer away from other splits."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod, Transformer

from catalog.errors import UsageError
from catalog.grids import Grid, north_up
from catalog.locations import location_wgs84_polygon, sample_grid, sample_locations
from catalog.products import Product, load_product
from catalog.recipes import Area, LocationRequest, SplitRule
from catalog.samples import Location
from tests.catalog.made_up import scene_on

S2, OLI, RTC, ENMAP = (
    load_product(name) for name in ("sentinel-2-l2a", "landsat-oli-sr", "sentinel-1-rtc", "enmap-l2a")
)
ALL = [S2, OLI, RTC, ENMAP]
GEOD = Geod(ellps="WGS84")
NO_SPLIT = SplitRule(shares={"pretrain": 1.0})


def request(**fields) -> LocationRequest:
    return LocationRequest(**({"size_m": 480, "split": SplitRule(block_m=1440)} | fields))


def box_at(longitude: float, latitude: float, side_m: float) -> Area:
    """An area of about side_m around a place."""
    dy = side_m / 2 / 111_200
    dx = dy / math.cos(math.radians(latitude))
    return Area(bbox=(longitude - dx, latitude - dy, longitude + dx, latitude + dy))


def outline(location: Location) -> shapely.Polygon:
    return shapely.geometry.shape(location_wgs84_polygon(location))


def assert_apart(locations: list[Location]) -> None:
    # A hair inside the window: neighbours share edges, and degrees are rounded.
    polygons = np.asarray([outline(place).buffer(-2e-6) for place in locations])
    left, right = shapely.STRtree(polygons).query(polygons, predicate="intersects")
    assert (left == right).all()


places_on_earth = st.tuples(
    st.sampled_from([-179.99, -120.0, -0.02, 5.99, 9.0, 12.001, 120.5, 177.0]) | st.floats(-179, 179),
    st.sampled_from([-78.0, -33.5, -0.01, 0.01, 47.9, 60.0, 82.0]) | st.floats(-78, 82),
)


@settings(max_examples=40, deadline=None)
@given(places_on_earth, st.sampled_from([[S2], [RTC], ALL]), st.integers(0, 3), st.sampled_from([None, 960]))
def test_locations_are_the_same_every_time_and_no_two_overlap(place, products, seed, spacing) -> None:
    area = box_at(*place, 6000) if -179 < place[0] < 179 else Area(bbox=(179.97, 10, -179.97, 10.05))
    wanted = request(seed=seed, spacing_m=spacing)
    locations = sample_locations(wanted, area, products)
    assert locations == sample_locations(wanted, area, products)
    assert len({location.id for location in locations}) == len(locations)
    assert_apart(locations)
    west, south, east, north = area.bbox
    for location in locations:
        assert south <= location.latitude <= north
        assert location.longitude >= west or location.longitude <= east


@settings(max_examples=30, deadline=None)
@given(places_on_earth, st.integers(0, 5))
def test_a_growing_area_keeps_every_old_place_with_its_split(place, seed) -> None:
    longitude, latitude = place[0] % 350 - 175, place[1] * 0.95
    wanted = request(seed=seed, split=SplitRule(block_m=1440, buffer_m=200))
    try:
        small = {p.id: p for p in sample_locations(wanted, box_at(longitude, latitude, 4000), [S2])}
    except UsageError as error:
        assert error.code == "no-locations"
        return
    large = {p.id: p for p in sample_locations(wanted, box_at(longitude, latitude, 9000), [S2])}
    assert all(large[name] == location for name, location in small.items())


def gaps_between_splits_m(locations: list[Location], within_m: float) -> list[float]:
    """True distances between windows of different splits, on a plane that touches the ground there."""
    middle = locations[len(locations) // 2]
    plane = f"+proj=aeqd +lat_0={middle.latitude} +lon_0={middle.longitude} +units=m"
    to_plane = Transformer.from_crs(4326, plane, always_xy=True)
    polygons = shapely.transform(
        np.asarray([outline(place) for place in locations]), to_plane.transform, interleaved=False
    )
    left, right = shapely.STRtree(polygons).query(polygons, predicate="dwithin", distance=within_m)
    split = np.asarray([place.split for place in locations])
    apart = split[left] != split[right]
    return shapely.distance(polygons[left[apart]], polygons[right[apart]]).tolist()


@pytest.mark.parametrize("longitude", [9.0, 11.5, 12.0, 0.0])
@pytest.mark.parametrize("buffer_m", [300, 1000])
def test_the_buffer_is_kept_in_true_metres_at_60_north(longitude: float, buffer_m: float) -> None:
    split = SplitRule(block_m=2880, buffer_m=buffer_m)
    locations = sample_locations(request(split=split, seed=3), box_at(longitude, 60.0, 20000), ALL)
    assert len({location.split for location in locations}) == 3
    gaps = gaps_between_splits_m(locations, buffer_m + 2000)
    assert gaps and min(gaps) >= buffer_m


def test_without_a_buffer_windows_of_different_splits_touch_at_most() -> None:
    split = SplitRule(block_m=1500)  # blocks that windows do not fit
    locations = sample_locations(request(split=split), box_at(9.0, 48.0, 20000), [S2])
    owner: dict[str, str] = {}
    for location in locations:
        assert owner.setdefault(location.block, location.split) == location.split
    apart = [(a, b) for a, b in itertools.combinations(locations, 2) if a.split != b.split]
    assert min(max(abs(a.x - b.x), abs(a.y - b.y)) for a, b in apart) >= 480


def test_shares_hold() -> None:
    shares = {"pretrain": 0.55, "probe": 0.2, "test": 0.25}
    split = SplitRule(block_m=480, shares=shares)
    locations = sample_locations(request(split=split), box_at(9.0, 48.0, 40000), [S2])
    counted = Counter(location.split for location in locations)
    for name, share in shares.items():
        assert counted[name] / len(locations) == pytest.approx(share, abs=0.01)


def test_even_a_small_area_has_every_split() -> None:
    for seed in range(12):
        locations = sample_locations(
            request(seed=seed, split=SplitRule(block_m=480)), box_at(9.0, 48.0, 480 * 9), [S2]
        )
        assert {location.split for location in locations} == {"pretrain", "probe", "test"}


def test_another_seed_draws_other_splits() -> None:
    drawn = [
        [p.split for p in sample_locations(request(seed=seed), box_at(9.0, 48.0, 20000), [S2])]
        for seed in (1, 2)
    ]
    assert drawn[0] != drawn[1]


def test_a_maximum_keeps_a_fixed_choice() -> None:
    area = box_at(9.0, 48.0, 20000)
    everything = {p.id for p in sample_locations(request(), area, [S2])}
    ten = {p.id for p in sample_locations(request(max_count=10), area, [S2])}
    twenty = {p.id for p in sample_locations(request(max_count=20), area, [S2])}
    assert len(ten) == 10 and ten < twenty < everything
    assert ten != {p.id for p in sample_locations(request(max_count=10, seed=1), area, [S2])}


@settings(max_examples=60, deadline=None)
@given(places_on_earth)
def test_every_native_resolution_nests_exactly_and_all_products_cover_the_place(place) -> None:
    longitude, latitude = place[0] % 350 - 175, place[1] * 0.95
    try:
        location = sample_locations(request(split=NO_SPLIT), box_at(longitude, latitude, 3000), ALL)[0]
    except UsageError:  # the box lies on a border of zones
        return
    for product in (*ALL, load_product("landsat-etm-toa")):
        grids = [sample_grid(product, location, gsd) for gsd in product.resolutions_m]
        assert len({grid.bounds for grid in grids}) == 1
        for grid, gsd in zip(grids, product.resolutions_m, strict=True):
            assert grid.shape == (round(480 / gsd),) * 2 and grid.resolution == (gsd, gsd)
            step = product.grid.snap_m or gsd
            x0, y0 = product.grid.origin_in(grid.epsg)
            assert (grid.affine[2] - x0) % step == 0 and (grid.affine[5] - y0) % step == 0
        x, y = Transformer.from_crs(location.epsg, grids[0].epsg, always_xy=True).transform(
            location.x, location.y
        )
        west, south, east, north = grids[0].bounds
        shift = (product.grid.snap_m or 0) / 2 + 1e-3
        assert abs((west + east) / 2 - x) <= shift and abs((south + north) / 2 - y) <= shift


def test_southern_landsat_lies_in_northern_zones_and_southern_sentinel_2_counts_from_the_equator() -> None:
    location = sample_locations(request(), box_at(145.5, -44.0, 3000), ALL)[0]
    assert location.epsg == 32755
    landsat, sentinel = sample_grid(OLI, location, 30), sample_grid(S2, location, 10)
    # A real scene of each: pixels of both are to be copied, not resampled.
    real_landsat = Grid(32655, (30.0, 0.0, 355785.0, 0.0, -30.0, -4821585.0), (7881, 7871))
    real_sentinel = Grid(32755, (10.0, 0.0, 399960.0, 0.0, -10.0, 5200000.0), (10980, 10980))
    assert landsat.epsg == 32655 and landsat.affine[5] < 0
    assert real_landsat.window_offset(landsat) is not None
    assert sentinel.epsg == 32755 and real_sentinel.window_offset(sentinel) is not None
    for gsd in (20, 60):
        real = Grid(32755, (gsd, 0.0, 399960.0, 0.0, -gsd, 5200000.0), (10980, 10980))
        assert real.window_offset(sample_grid(S2, location, gsd)) is not None


def test_a_product_in_degrees_is_sampled_in_utm() -> None:
    product = S2.model_copy(update={"grid": S2.grid.model_copy(update={"crs": "geographic", "snap_m": None})})
    location = sample_locations(request(), box_at(9.0, 48.0, 3000), [product])[0]
    assert sample_grid(product, location, 10).epsg == 32632


def test_locations_that_share_a_product_grid_do_not_overlap_on_it() -> None:
    locations = sample_locations(request(split=NO_SPLIT), box_at(9.0, 48.0, 6000), ALL)
    for product in ALL:
        corners = {sample_grid(product, p, product.resolutions_m[0]).affine[2:6:3] for p in locations}
        assert len(corners) == len(locations)
        xs = sorted({x for x, _ in corners})
        assert {round(b - a) for a, b in itertools.pairwise(xs)} == {480}


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"size_m": 500}, "480 or 540"),
        ({"size_m": 480, "spacing_m": 490}, "spacing_m 490"),
        ({"size_m": 480, "spacing_m": 240}, "overlap"),
        ({"size_m": 1920, "split": SplitRule(block_m=960)}, "block_m 960 is below"),
    ],
)
def test_sizes_that_do_not_fit_are_named(fields: dict, word: str) -> None:
    with pytest.raises(UsageError, match=word) as error:
        sample_locations(request(**fields), box_at(9.0, 48.0, 6000), [S2])
    assert error.value.subject.startswith("locations.")


def test_a_place_too_large_for_a_product_is_named() -> None:
    location = sample_locations(request(size_m=490), box_at(9.0, 48.0, 6000), [RTC])[0]
    with pytest.raises(UsageError, match="no multiple of 60"):
        sample_grid(S2, location, 10)


def test_nothing_left_is_an_error_that_says_why() -> None:
    with pytest.raises(UsageError, match="no window"):
        sample_locations(request(), Area(bbox=(9.0, 48.0, 9.0001, 48.0001)), [S2])
    split = SplitRule(block_m=1440, buffer_m=50_000)
    with pytest.raises(UsageError, match="buffer"):
        sample_locations(request(split=split), box_at(9.0, 48.0, 6000), [S2])
    with pytest.raises(UsageError, match="smaller area"):
        sample_locations(request(size_m=60), Area(bbox=(6, 40, 12, 50)), [S2])


def site(product: Product, side_m: float, scene_id: str, west=501360.0, north=5629680.0, **more):
    gsd = product.bands[0].gsd_m
    return scene_on(product, north_up(32631, west, north, gsd, (round(side_m / gsd),) * 2), scene_id, **more)


def test_scenes_are_tiled_from_their_own_corner() -> None:
    wanted = request(strategy="scenes", size_m=960, split=NO_SPLIT)
    enmap = site(ENMAP, 960, "tile", west=340845.0, north=5059695.0)
    (location,) = sample_locations(wanted, Area(bbox=(-180, -80, 180, 84)), [ENMAP], [enmap])
    grid = sample_grid(ENMAP, location, 30)
    assert grid == next(iter(enmap.assets.values())).grid
    larger = site(ENMAP, 960 * 3 + 30, "scene", west=340845.0, north=5059695.0)
    assert len(sample_locations(wanted, Area(bbox=(-180, -80, 180, 84)), [ENMAP], [larger])) == 9


def test_scenes_of_one_place_give_its_locations_once_and_new_ones_change_nothing() -> None:
    wanted = request(strategy="scenes", split=SplitRule(block_m=960))
    world = Area(bbox=(-180, -80, 180, 84))
    first = site(RTC, 4800, "first")
    again = site(RTC, 4800, "again", day=3)
    shifted = site(RTC, 4800, "shifted", west=501360.0 + 2410, day=5)
    alone = sample_locations(wanted, world, [RTC], [first])
    assert len(alone) == 100
    assert sample_locations(wanted, world, [RTC], [again, first]) == alone
    more = sample_locations(wanted, world, [RTC], [shifted, first, again])
    assert set(alone) < set(more)
    assert_apart(more)


def test_footprints_decide_not_rasters() -> None:
    import dataclasses

    scene = site(RTC, 4800, "half")
    west, south, east, north = scene.bbox
    middle = (west + east) / 2
    ring = [[west, south], [middle, south], [middle, north], [west, north], [west, south]]
    half = dataclasses.replace(scene, geometry={"type": "Polygon", "coordinates": [ring]})
    wanted = request(strategy="scenes", split=NO_SPLIT)
    locations = sample_locations(wanted, Area(bbox=(-180, -80, 180, 84)), [RTC], [half])
    assert 40 <= len(locations) <= 50
    assert all(location.longitude <= middle for location in locations)


def test_scenes_without_a_usable_grid_are_tiled_in_the_zone_they_lie_in() -> None:
    import dataclasses

    scene = dataclasses.replace(site(RTC, 4800, "geographic"), assets={}, epsg=4326)
    wanted = request(strategy="scenes", split=NO_SPLIT)
    locations = sample_locations(wanted, Area(bbox=(-180, -80, 180, 84)), [RTC], [scene])
    assert {location.epsg for location in locations} == {32631} and len(locations) >= 81
    assert sample_locations(wanted, Area(bbox=(-180, -80, 180, 84)), [RTC], []) == []


def test_southern_landsat_scenes_give_places_on_their_own_grid() -> None:
    grid = Grid(32655, (30.0, 0.0, 355785.0, 0.0, -30.0, -4821585.0), (64, 64))
    wanted = request(strategy="scenes", split=NO_SPLIT)
    locations = sample_locations(wanted, Area(bbox=(-180, -80, 180, 84)), [OLI], [scene_on(OLI, grid, "s")])
    assert len(locations) == 16 and {location.epsg for location in locations} == {32755}
    assert all(location.latitude < 0 for location in locations)
    offsets = {grid.window_offset(sample_grid(OLI, location, 30)) for location in locations}
    assert offsets == set(itertools.product((0, 16, 32, 48), repeat=2))


def write_points(path: Path, points: list[list[float]]) -> Path:
    features = [{"type": "Feature", "geometry": {"type": "Point", "coordinates": p}} for p in points]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")
    return path


def test_points_get_windows_around_them_and_the_first_of_two_neighbours_wins(tmp_path: Path) -> None:
    path = write_points(tmp_path / "p.geojson", [[9.0, 48.0], [9.001, 48.0], [9.1, 48.0], [30.0, 48.0]])
    wanted = request(strategy="points", points=path, split=NO_SPLIT)
    locations = sample_locations(wanted, Area(bbox=(8, 47, 10, 49)), [S2])
    assert sorted(round(location.longitude, 2) for location in locations) == [9.0, 9.1]
    for location in locations:
        near = min(([9.0, 48.0], [9.1, 48.0]), key=lambda p: abs(p[0] - location.longitude))
        assert GEOD.inv(location.longitude, location.latitude, *near)[2] < 30 * math.sqrt(2) + 1
    # Points that come later take nothing from those before them.
    write_points(path, [[9.0, 48.0], [9.001, 48.0], [9.1, 48.0], [9.102, 48.0], [9.3, 48.2]])
    assert set(locations) < set(sample_locations(wanted, Area(bbox=(8, 47, 10, 49)), [S2]))


@pytest.mark.parametrize("content", [None, "no json", '{"type": "Polygon"}', "[]", '{"features": [3]}'])
def test_unreadable_points_are_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "p.geojson"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError) as error:
        sample_locations(request(strategy="points", points=path), Area(bbox=(8, 47, 10, 49)), [S2])
    assert error.value.code == "no-points"


def test_tiles_give_their_split_to_what_they_cover() -> None:
    scenes = [
        site(RTC, 4800, "a", tile="paris"),
        site(RTC, 4800, "b", tile="rome", west=501360.0 + 4800),
        site(RTC, 4800, "c", tile="oslo", west=501360.0 + 20000),
        site(RTC, 4800, "d", tile="unlisted", west=501360.0 + 40000),
    ]
    tiles = {"pretrain": ("paris", "oslo"), "test": ("rome", "atlantis")}
    world = Area(bbox=(-180, -80, 180, 84))
    wanted = request(strategy="scenes", split=SplitRule(by="tile", tiles=tiles))
    locations = sample_locations(wanted, world, [RTC], scenes)
    assert {(location.block, location.split) for location in locations} == {
        ("paris", "pretrain"), ("rome", "test"), ("oslo", "pretrain"),
    }  # fmt: skip
    split = SplitRule(by="tile", tiles=tiles, buffer_m=1000)
    buffered = sample_locations(wanted.model_copy(update={"split": split}), world, [RTC], scenes)
    gaps = gaps_between_splits_m(buffered, 5000)
    assert gaps and min(gaps) >= 1000
    assert Counter(p.block for p in buffered)["oslo"] == 100


def test_tiles_need_scenes() -> None:
    split = SplitRule(by="tile", tiles={"test": ("32TQU",)})
    with pytest.raises(UsageError, match="no scenes"):
        sample_locations(request(split=split), box_at(9.0, 48.0, 6000), [S2])


def test_the_outline_is_closed_anticlockwise_and_as_large_as_the_sample() -> None:
    location = sample_locations(request(), box_at(9.0, 60.0, 6000), [S2])[0]
    polygon = location_wgs84_polygon(location)
    ring = polygon["coordinates"][0]
    assert ring[0] == ring[-1] and shapely.LinearRing(ring).is_ccw
    area, _ = GEOD.geometry_area_perimeter(shapely.geometry.shape(polygon))
    assert area == pytest.approx(480**2, rel=2e-3)
