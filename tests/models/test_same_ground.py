"""Places that overlap on the ground are one ground, and are told to the losses as such."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pyproj import Transformer

from catalog.samples import Location
from models.same_ground import same_ground
from models.sample_pool import BatchPlan, open_pool
from tests.models.learnable_cube import location, make_cube, sample, scene


def shifted(number: int, metres: float) -> Location:
    place = location(number)
    return replace(place, id=f"{place.id}-{metres:g}", x=place.x + metres)


def test_windows_that_share_an_edge_are_places_of_their_own() -> None:
    assert same_ground([location(number) for number in range(4)]).tolist() == [0, 1, 2, 3]


def test_overlap_holds_through_the_places_between() -> None:
    places = [location(0), location(20), shifted(0, 300), shifted(0, 600), location(21)]
    assert same_ground(places).tolist() == [0, 1, 0, 0, 4]


def test_overlap_is_seen_across_zones() -> None:
    west = replace(location(0), epsg=32632, x=720_000.0, y=5_400_000.0)
    to_degrees = Transformer.from_crs(32632, 4326, always_xy=True)
    longitude, latitude = to_degrees.transform(west.x, west.y)
    x, y = Transformer.from_crs(4326, 32633, always_xy=True).transform(longitude, latitude)
    west = replace(west, longitude=longitude, latitude=latitude)
    east = replace(west, id="east", epsg=32633, x=x + 200, y=y)
    far = replace(east, id="far", x=x + 2000)
    assert same_ground([west, east, far])[:2].tolist() == [0, 0]


def test_one_place_or_none_is_no_special_case() -> None:
    assert same_ground([location(3)]).tolist() == [0]
    assert same_ground([]).tolist() == []


def test_overlapping_places_come_with_equal_numbers_but_are_drawn_by_themselves(swath_home: Path) -> None:
    cube = make_cube(places=4, dates=2)
    product = cube.products()["sentinel-2-l2a"]
    double = replace(shifted(1, 240.0), split="pretrain", block=location(1).block)
    moved = replace(sample(product, 0, 1), location=double.id)
    with cube.write("an overlapping place") as writer:
        writer.add_locations([double])
        writer.append(product, [moved], [scene(0, product)])
    pool = open_pool(cube, product.id, cube.snapshot())
    at = {name: number for number, name in enumerate(pool.place_ids)}
    draw = BatchPlan(pool, len(at), 2, 0).draw(0)
    own = pool.places[draw.views[0]]
    assert sorted(own.tolist()) == list(range(len(at)))
    ground = dict(zip(own.tolist(), draw.places.tolist(), strict=True))
    assert ground[at[location(1).id]] == ground[at[double.id]] == ground[at[location(2).id]]
    assert len(set(ground.values())) == len(at) - 2
