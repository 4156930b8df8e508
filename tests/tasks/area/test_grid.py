"""The grid of an area cube covers its area on the product's lattice, and tiles cover the grid once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import UsageError
from catalog.recipes import Area
from catalog.windows import from_degrees, lattice_m
from tasks.area.grid import area_grid
from tests.tasks.scene_files import built_in

PRODUCTS = ("sentinel-2-l2a", "sentinel-1-rtc", "landsat-oli-sr", "enmap-l2a")
places = st.tuples(st.floats(-179, 178), st.floats(-60, 75), st.floats(0.01, 0.4), st.floats(0.01, 0.4))


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(PRODUCTS), place=places, chunk_px=st.sampled_from([64, 500, 512]))
def test_every_corner_of_the_area_lies_on_the_grid(
    name: str, place: tuple[float, float, float, float], chunk_px: int
) -> None:
    product = built_in(name)
    west, south, width, height = place
    bbox = (west, south, west + width, south + height)
    made = area_grid(product, Area(bbox=bbox), epsg=None, chunk_px=chunk_px)
    bounds = {grid.bounds for grid in made.grids.values()}
    assert len(bounds) == 1
    left, bottom, right, top = bounds.pop()
    epsg = next(iter(made.grids.values())).epsg
    x, y = from_degrees(epsg, np.array([bbox[0], bbox[2]] * 2), np.array([bbox[1]] * 2 + [bbox[3]] * 2))
    assert left <= x.min() + 0.01 and x.max() <= right + 0.01
    assert bottom <= y.min() + 0.01 and y.max() <= top + 0.01
    step, (origin_x, origin_y) = lattice_m([product]), product.grid.origin_in(epsg)
    assert (left - origin_x) % step == pytest.approx(0) and (top - origin_y) % step == pytest.approx(0)
    for gsd in made.grids:
        covered = np.zeros(made.grids[gsd].shape, int)
        for _, grids, tile_places in made.tiles():
            rows, cols = tile_places[gsd]
            covered[rows, cols] += 1
            assert made.grids[gsd].window_offset(grids[gsd]) == (rows.start, cols.start)
            assert max(grids[gsd].shape) <= made.chunks_px[gsd]
        assert (covered == 1).all()


def test_landsat_keeps_to_the_northern_zone_south_of_the_equator() -> None:
    area = Area(bbox=(-51.0, -23.5, -50.9, -23.4))
    assert area_grid(built_in("landsat-oli-sr"), area, epsg=None, chunk_px=512).grids[30.0].epsg == 32622
    assert area_grid(built_in("landsat-oli-sr"), area, epsg=32722, chunk_px=512).grids[30.0].epsg == 32622
    assert area_grid(built_in("sentinel-2-l2a"), area, epsg=None, chunk_px=512).grids[10.0].epsg == 32722


def test_an_area_over_the_antimeridian_lies_on_one_grid() -> None:
    made = area_grid(
        built_in("sentinel-2-l2a"), Area(bbox=(179.95, 65.0, -179.95, 65.05)), epsg=None, chunk_px=512
    )
    height, width = made.grids[10.0].shape
    assert 400 < width < 700 and 500 < height < 700


def test_an_area_too_large_for_one_grid_is_bad_usage() -> None:
    with pytest.raises(UsageError, match="1000 km") as refusal:
        area_grid(built_in("sentinel-2-l2a"), Area(bbox=(0, 40, 20, 55)), epsg=None, chunk_px=512)
    assert refusal.value.code == "area-too-large"
