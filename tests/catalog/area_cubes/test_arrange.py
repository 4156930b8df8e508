"""Time steps get into order without a pixel being copied."""

from __future__ import annotations

import icechunk
import numpy as np
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.area_cubes.arrange import arrange, grow


def steps(session: icechunk.Session, count: int, blank: set[int]) -> zarr.Group:
    """Time steps of 2 × 2 chunks that hold their own number; those in ``blank`` were never written."""
    group = zarr.open_group(session.store, mode="a", zarr_format=3).create_group("product")
    names = ("time", "band", "y", "x")
    group.create_array(
        "pixels", shape=(0, 1, 4, 4), chunks=(1, 1, 2, 2), dtype="int16", fill_value=-1, dimension_names=names
    )
    group.create_array("time", shape=(0,), chunks=(3,), dtype="int64", dimension_names=("time",))
    group.create_array("x", shape=(4,), chunks=(4,), dtype="int64", dimension_names=("x",))
    grow(group, count)
    for number in range(count):
        group["time"][number] = number  # type: ignore[index]
        if number not in blank:
            group["pixels"][number] = np.full((1, 4, 4), number, np.int16)  # type: ignore[index]
    return group


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_what_is_kept_is_kept_in_the_order_asked_for(data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 6))
    blank = data.draw(st.sets(st.integers(0, 5)))
    order = data.draw(st.permutations(range(count)))[: data.draw(st.integers(0, count))]
    repository = icechunk.Repository.create(icechunk.in_memory_storage())
    session = repository.writable_session("main")
    group = steps(session, count, blank)
    arrange(session, group, order)
    session.commit("arranged", allow_empty=True)
    kept = zarr.open_group(repository.readonly_session("main").store, mode="r")["product"]
    assert list(kept["time"][:]) == order  # type: ignore[index]
    pixels = kept["pixels"][:]  # type: ignore[index]
    assert pixels.shape == (len(order), 1, 4, 4)
    for place, number in enumerate(order):
        assert np.unique(pixels[place]).tolist() == [-1 if number in blank else number]
    assert kept["x"].shape == (4,)  # type: ignore[union-attr]
