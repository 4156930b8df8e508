"""Cubes that were begun before a column existed: read as if it were unknown, and grown with it."""

from __future__ import annotations

import numpy as np
import zarr

from catalog.cubes import Cube, open_cube
from catalog.cubes.columns import LATER
from tests.catalog.cubes.made_up import product, sample
from tests.catalog.cubes.test_round_trip import fill


def forget(cube: Cube, name: str) -> None:
    """Make the cube what an earlier version wrote."""
    session = cube.repository.writable_session("main")
    group = zarr.open_group(session.store)[name]
    for column in LATER:
        del group[column]
    session.commit("as it was")


def test_a_cube_of_an_earlier_version_is_read_and_grown() -> None:
    made = product()
    cube = open_cube("demo", create=True)
    fill(cube, made, [sample(made, 0, place) for place in range(3)])
    forget(cube, made.id)
    cube = open_cube("demo")
    assert cube.columns(made.id)["position_error_m"].isna().all() and cube.verify() == []
    fill(cube, made, [sample(made, 1, place, position_error_m=12.5) for place in range(3)])
    columns = cube.columns(made.id).set_index("sample")["position_error_m"]
    assert len(columns) == 6
    late = columns.index.str.contains("scene-001")
    assert (columns[late] == 12.5).all() and np.isnan(columns[~late]).all()
    assert cube.verify() == []
