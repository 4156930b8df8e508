"""Drawn places follow the distribution they should, and more of them change none."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod, Transformer
from rasterio.transform import from_bounds
from scipy import stats

from catalog.errors import UsageError
from catalog.locations import location_wgs84_polygon, sample_locations
from catalog.locations.draws import Draws, grown, over_area
from catalog.locations.gazetteer import most_populated
from catalog.locations.land import on_land
from catalog.products import load_product
from catalog.recipes import Area, LocationRequest, SplitRule
from catalog.samples import Location

S2 = load_product("sentinel-2-l2a")
GEOD = Geod(ellps="WGS84")
WORLD = Area(bbox=(-180, -80, 180, 84))
ONE_SPLIT = SplitRule(block_m=10_000, shares={"pretrain": 1.0})
FIJI = Area(bbox=(177.0, -18.5, -179.5, -16.0))
CHUKOTKA = Area(bbox=(178.0, 66.0, -175.0, 69.0))


def request(strategy: str, count: int | None, **fields: object) -> LocationRequest:
    return LocationRequest(
        **{"strategy": strategy, "size_m": 960, "max_count": count, "split": ONE_SPLIT} | fields
    )


def sampled(strategy: str, count: int | None, area: Area = WORLD, **fields: object) -> list[Location]:
    return sample_locations(request(strategy, count, **fields), area, [S2])


def degrees(locations: list[Location]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([p.longitude for p in locations]), np.array([p.latitude for p in locations])


def overlaps_m2(locations: list[Location]) -> float:
    """The largest area that two places share, on a plane that touches the ground at the first of them."""
    first = locations[0]
    plane = f"+proj=laea +lat_0={first.latitude} +lon_0={first.longitude} +units=m"
    forth = Transformer.from_crs(4326, plane, always_xy=True)
    outlines = [shapely.geometry.shape(location_wgs84_polygon(place)) for place in locations]
    polygons = np.array(
        [shapely.unary_union(shapely.transform(o, forth.transform, interleaved=False)) for o in outlines]
    )
    left, right = shapely.STRtree(polygons).query(polygons, predicate="intersects")
    apart = left < right
    shared = shapely.area(shapely.intersection(polygons[left[apart]], polygons[right[apart]]))
    return float(shared.max(initial=0.0))


def least_distance_m(locations: list[Location]) -> float:
    x, y = degrees(locations)
    one, other = np.triu_indices(len(x), 1)
    return float(GEOD.inv(x[one], y[one], x[other], y[other])[2].min())


def test_distances_from_a_city_are_gaussian_with_the_spread_that_was_asked_for() -> None:
    ids, places = most_populated(1)
    assert len(ids) == 1
    x, y = degrees(sampled("cities", 3000, size_m=60, cities=1))
    bearing, _, distance = GEOD.inv(
        np.full(len(x), places.longitude[0]), np.full(len(x), places.latitude[0]), x, y
    )
    assert stats.kstest(distance, stats.rayleigh(scale=50_000).cdf).pvalue > 0.01
    assert stats.kstest((bearing + 180) / 360, "uniform").pvalue > 0.01
    east = distance * np.sin(np.radians(bearing))
    assert east.std() == pytest.approx(50_000, rel=0.04)


def test_every_city_is_drawn_equally_often_however_many_people_live_there() -> None:
    _, places = most_populated(50)
    x, y = degrees(sampled("cities", 500, size_m=60, cities=50, spread_m=500))
    distance = np.array(
        [
            GEOD.inv(np.full(50, a), np.full(50, b), places.longitude, places.latitude)[2]
            for a, b in zip(x, y, strict=True)
        ]
    )
    assert distance.min(axis=1).max() < 6 * 500 + 50
    assert np.bincount(distance.argmin(axis=1), minlength=50).tolist() == pytest.approx([10] * 50, abs=3)


def test_the_gazetteer_holds_the_ten_thousand_most_populated_cities() -> None:
    ids, places = most_populated(10_000)
    assert len(set(ids.tolist())) == 10_000
    assert on_land(places.longitude, places.latitude).mean() > 0.98
    assert (most_populated(100)[0] == ids[:100]).all()
    with pytest.raises(UsageError, match="gazetteer holds"):
        most_populated(10_000_000)


def test_places_at_sea_are_left_out_on_request() -> None:
    wet = sampled("cities", 1500, cities=300)
    dry = sampled("cities", 1500, cities=300, on_land=True)
    assert not on_land(*degrees(wet)).all() and on_land(*degrees(dry)).all()
    assert len(dry) == len(wet) == 1500


def test_uniform_places_are_on_land_and_true_to_area_at_every_latitude() -> None:
    x, y = degrees(sampled("uniform", 20_000))
    assert on_land(x, y).all()
    # The share of land in each band of latitude, from the mask and the area of the ellipsoid's zones.
    longitude, latitude = np.arange(-180, 180, 0.1) + 0.05, np.arange(-80, 84, 0.1) + 0.05
    share = on_land(*(grid.reshape(-1) for grid in np.meshgrid(longitude, latitude)))
    share = share.reshape(len(latitude), -1).mean(axis=1)
    e2 = 0.00669438
    weight = np.cos(np.radians(latitude)) / (1 - e2 * np.sin(np.radians(latitude)) ** 2) ** 2
    edges = np.arange(-80, 85, 4)
    expected, _ = np.histogram(latitude, edges, weights=share * weight)
    found, _ = np.histogram(y, edges)
    expected = expected / expected.sum() * found.sum()
    assert (
        stats.chisquare(
            found[expected > 5],
            expected[expected > 5] * found[expected > 5].sum() / expected[expected > 5].sum(),
        ).pvalue
        > 0.01
    )


@settings(max_examples=25, deadline=None)
@given(st.floats(-180, 180), st.floats(-79, 82), st.floats(0.02, 3), st.integers(0, 5))
def test_draws_from_a_part_of_an_area_are_those_of_the_whole_there(longitude, latitude, side, seed) -> None:
    south, north = latitude, min(83.9, latitude + side)
    west, east = _wrap(longitude), _wrap(longitude + side)
    if west == east or north - south < 0.01:
        return
    small, large = Area(bbox=(west, south, east, north)), grown(Area(bbox=(west, south, east, north)), 30_000)

    def drawn(area: Area) -> set[tuple[float, float]]:
        parts = list(over_area(area, seed, 8_000))
        return {
            (float(x), float(y)) for part in parts for x, y in zip(part.longitude, part.latitude, strict=True)
        }

    from catalog.windows import in_area

    inside = {(x, y) for x, y in drawn(large) if in_area(small, np.array([x]), np.array([y]))[0]}
    assert inside == drawn(small)


def _wrap(longitude: float) -> float:
    return (longitude + 180) % 360 - 180


areas = st.sampled_from(
    [
        Area(bbox=(5.0, 59.5, 7.0, 61.0)),
        Area(bbox=(11.5, 47.5, 12.6, 48.3)),
        FIJI,
        CHUKOTKA,
        Area(bbox=(14.0, 77.5, 24.0, 79.5)),
        Area(bbox=(8.5, -1.0, 11.0, 1.0)),
    ]
)


@settings(max_examples=9, deadline=None)
@given(areas, st.integers(0, 100), st.sampled_from([(960, None), (1980, 5000)]))
def test_drawn_places_never_overlap_and_keep_their_distance_also_across_zones_and_the_antimeridian(
    area, seed, sizes
) -> None:
    size, least = sizes
    locations = sampled("uniform", 400, area, size_m=size, seed=seed, min_distance_m=least)
    assert len({place.id for place in locations}) == len(locations) > 30
    assert overlaps_m2(locations) < 1
    assert least_distance_m(locations) >= (least or size * 0.999)
    assert locations == sampled("uniform", 400, area, size_m=size, seed=seed, min_distance_m=least)


def test_places_lie_on_both_sides_of_the_antimeridian() -> None:
    for strategy in ("uniform", "grid"):
        size = 960 if strategy == "uniform" else 19_200
        split = SplitRule(block_m=20_000, shares={"pretrain": 1.0})
        locations = sampled(strategy, 300, CHUKOTKA, size_m=size, split=split)
        x, _ = degrees(locations)
        assert (x > 178).any() and (x < -175).any() and ((x > 178) | (x < -175)).all()
        assert {32660, 32601} <= {place.epsg for place in locations}


@pytest.mark.parametrize(
    ("strategy", "fields"),
    [
        ("uniform", {}),
        ("cities", {"cities": 10_000}),
        ("cities", {"on_land": True, "min_distance_m": 3000.0}),
    ],
)
def test_more_places_and_a_larger_area_keep_all_that_were_there(strategy: str, fields: dict) -> None:
    small, large = Area(bbox=(11.0, 47.0, 12.5, 48.0)), Area(bbox=(9.0, 45.0, 14.0, 50.0))
    fields = fields | {"split": SplitRule(block_m=9_600, buffer_m=500)}
    few, many = (sampled(strategy, count, small, **fields) for count in (60, 200))
    assert len(few) == 60 and len(many) == 200 and set(few) < set(many)
    wide = sampled(strategy, 200, large, **fields)
    # What the larger area has within the smaller one, it has with the same id, block and split.
    within = {p for p in wide if 11.0 <= p.longitude <= 12.5 and 47.0 <= p.latitude <= 48.0}
    assert within and within <= set(many)
    assert {p.split for p in wide} == {"pretrain", "probe", "test"}


@settings(max_examples=8, deadline=None)
@given(areas, st.integers(0, 50), st.integers(5, 60), st.integers(1, 60))
def test_growing_the_count_only_adds(area, seed, count, more) -> None:
    few = sampled("uniform", count, area, seed=seed)
    many = sampled("uniform", count + more, area, seed=seed)
    assert set(few) < set(many)


def test_another_seed_draws_other_places() -> None:
    area = Area(bbox=(11.0, 47.0, 12.5, 48.0))
    assert not {p.id for p in sampled("uniform", 50, area)} & {
        p.id for p in sampled("uniform", 50, area, seed=1)
    }


def test_a_full_area_gives_what_it_has_room_for() -> None:
    _, largest = most_populated(1)
    west, south = largest.longitude[0] - 0.05, largest.latitude[0] - 0.05
    area = Area(bbox=(west, south, west + 0.1, south + 0.1))
    for strategy, fields in (("uniform", {}), ("cities", {"cities": 10, "spread_m": 5_000})):
        locations = sampled(strategy, 100_000, area, **fields)
        # Hard cores of side s leave one place in 4 s² on average; the area holds about 28.
        assert 18 <= len(locations) <= 40
        assert overlaps_m2(locations) < 1


def test_an_area_at_sea_has_no_places() -> None:
    with pytest.raises(UsageError, match="no window"):
        sampled("uniform", 10, Area(bbox=(-30.0, 40.0, -29.0, 41.0)))
    with pytest.raises(UsageError, match="no window"):
        sampled("cities", 10, Area(bbox=(-130.0, -45.0, -129.0, -44.0)))


def write_classes(
    path: Path, classes: np.ndarray, bounds: tuple[float, ...], crs: str, nodata: int | None = None
) -> Path:
    height, width = classes.shape
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=1, dtype=classes.dtype, crs=crs,
        transform=from_bounds(*bounds, width, height), nodata=nodata,
    ) as file:  # fmt: skip
        file.write(classes, 1)
    return path


def test_a_class_raster_in_degrees_is_sampled_true_to_area(tmp_path: Path) -> None:
    path = write_classes(tmp_path / "one.tif", np.ones((300, 100), np.uint8), (20, 40, 30, 70), "EPSG:4326")
    _, y = degrees(sampled("stratified", 4000, class_raster=path))
    edges = [40, 46, 52, 58, 64, 70]
    zones = [abs(GEOD.polygon_area_perimeter(*_band(a, b))[0]) for a, b in itertools.pairwise(edges)]
    expected = np.array(zones) / sum(zones) * 4000
    assert stats.chisquare(np.histogram(y, edges)[0], expected).pvalue > 0.01


def _band(south: float, north: float) -> tuple[np.ndarray, np.ndarray]:
    along = np.linspace(20, 30, 500)
    return np.concatenate([along, along[::-1]]), np.concatenate([np.full(500, south), np.full(500, north)])


def test_classes_get_equal_or_given_counts_in_any_crs(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    coarse = rng.choice([0, 1, 2, 3], p=[0.1, 0.6, 0.2, 0.1], size=(30, 40)).astype(np.uint8)
    classes = coarse.repeat(20, 0).repeat(20, 1)
    bounds = (500_000, 5_300_000, 580_000, 5_360_000)
    path = write_classes(tmp_path / "utm.tif", classes, bounds, "EPSG:32632", nodata=0)

    def classes_at(locations: list[Location]) -> np.ndarray:
        forth = Transformer.from_crs(4326, 32632, always_xy=True)
        x, y = forth.transform(*degrees(locations))
        column, row = (np.asarray(x) - bounds[0]) / 100, (bounds[3] - np.asarray(y)) / 100
        return classes[np.floor(row).astype(int), np.floor(column).astype(int)]

    equal = sampled("stratified", 61, class_raster=path, size_m=480)
    assert np.bincount(classes_at(equal), minlength=4).tolist() == [0, 21, 20, 20]
    given_counts = sampled("stratified", None, class_raster=path, size_m=480, class_counts={3: 40, 1: 5})
    assert np.bincount(classes_at(given_counts), minlength=4).tolist() == [0, 5, 0, 40]
    more = sampled("stratified", 122, class_raster=path, size_m=480)
    assert set(equal) < set(more) and overlaps_m2(more) < 1
    with pytest.raises(UsageError, match="no class 9") as error:
        sampled("stratified", None, class_raster=path, size_m=480, class_counts={9: 1})
    assert "1, 2, 3" in error.value.next_step


def test_class_rasters_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    floats = write_classes(tmp_path / "f.tif", np.ones((4, 4), np.float32), (0, 0, 1, 1), "EPSG:4326")
    nowhere = write_classes(tmp_path / "n.tif", np.ones((4, 4), np.uint8), (0, 0, 1, 1), None)  # type: ignore[arg-type]
    (tmp_path / "text.tif").write_text("no raster", encoding="utf-8")
    for path, word in (
        (floats, "float32"), (nowhere, "no coordinate system"), (tmp_path / "text.tif", "cannot read"),
        (tmp_path / "missing.tif", "no file"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=word) as error:
            sampled("stratified", 5, class_raster=path)
        assert error.value.code == "unreadable-class-raster"


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"strategy": "cities"}, "needs `max_count`"),
        ({"strategy": "uniform"}, "needs `max_count`"),
        ({"strategy": "points"}, "needs `points`"),
        ({"strategy": "stratified", "max_count": 5}, "needs `class_raster`"),
        ({"strategy": "stratified", "class_raster": "a.tif"}, "either `max_count` or `class_counts`"),
        ({"strategy": "stratified", "class_raster": "a.tif", "class_counts": {1: 0}}, "positive"),
        ({"strategy": "grid", "cities": 5}, "`cities` is for strategy cities, not grid"),
        ({"strategy": "grid", "min_distance_m": 5}, "`min_distance_m` is for strategy scenes or points"),
        (
            {"strategy": "uniform", "max_count": 5, "spacing_m": 960},
            "`spacing_m` is for strategy grid or scenes",
        ),
    ],
)
def test_keys_that_do_not_fit_the_strategy_are_refused_in_one_line(fields: dict, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        LocationRequest(size_m=960, **fields)


def test_the_land_mask_knows_land_from_sea() -> None:
    known = {
        (11.58, 48.14): True, (-43.2, -22.5): True, (178.0, -17.8): True, (0.0, -75.5): True,
        (-42.0, 72.0): True,
        (-30.0, 40.0): False, (179.99, 0.0): False, (-179.99, 0.0): False,
        (3.0, 56.0): False, (18.0, 38.0): False,
    }  # fmt: skip
    x, y = np.array(list(known)).T
    assert on_land(x, y).tolist() == list(known.values())
    assert on_land(np.empty(0), np.empty(0)).shape == (0,)


def test_growing_an_area_reaches_over_the_antimeridian_and_up_to_the_poles() -> None:
    assert grown(Area(bbox=(179.0, 0.0, -179.0, 1.0)), 111_000).bbox == pytest.approx(
        (178, -1, -178, 2), abs=0.02
    )
    assert grown(Area(bbox=(179.5, 60.0, 179.9, 61.0)), 111_000).bbox[2] < -177
    assert grown(Area(bbox=(0.0, 88.0, 1.0, 89.5)), 200_000).bbox == (
        -180,
        pytest.approx(86.2, abs=0.1),
        180,
        90,
    )
    assert isinstance(next(over_area(WORLD, 0, 1e6)), Draws)
