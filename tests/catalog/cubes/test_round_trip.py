"""What is written to a cube is read back bit for bit, by Swath and by xarray."""

from __future__ import annotations

import tempfile
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from catalog.cubes import Cube, open_cube
from catalog.errors import CubeError
from catalog.products.model import Product, array_name
from catalog.samples import Sample, pixels_sha256
from catalog.settings import Settings
from tests.catalog.cubes.made_up import location, product, sample, scene

TYPES = {"uint16": 0, "int16": -32768, "uint8": None, "int32": -9999, "float32": -32768}
SPECIALS = [np.nan, -32768.0, -0.0, 0.0, np.inf, np.float32(1e-45)]


def fill(cube: Cube, of: Product, samples: list[Sample]) -> str:
    with cube.write("append") as writer:
        writer.add_locations(location(i) for i in range(8))
        writer.append(of, samples, [scene(i, of) for i in range(8)])
    return writer.result.snapshot


def bits(values: np.ndarray[Any, Any]) -> bytes:
    return np.ascontiguousarray(values).tobytes()


@st.composite
def products_and_samples(draw: st.DrawFn) -> tuple[Product, list[Sample], int]:
    dtype = draw(st.sampled_from(sorted(TYPES)))
    gsds = draw(st.lists(st.sampled_from([10.0, 20.0, 60.0, 8.5]), min_size=1, max_size=4))
    made = product(dtype=dtype, nodata=TYPES[dtype], gsds=tuple(gsds))
    elements = st.one_of(st.sampled_from(SPECIALS), st.floats(width=32)) if dtype == "float32" else None
    places = draw(
        st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=6, unique=True)
    )
    samples = []
    for scene_number, place_number in places:
        base = sample(made, scene_number, place_number)
        pixels = {
            gsd: draw(hnp.arrays(dtype, (*values.shape[:1], 3, 2), elements=elements))
            for gsd, values in base.pixels.items()
        }
        samples.append(sample(made, scene_number, place_number, pixels=pixels))
    return made, samples, draw(st.integers(1, 4))


@given(products_and_samples(), st.data())
@settings(max_examples=15, deadline=None)
def test_pixels_come_back_bit_for_bit(drawn: tuple[Product, list[Sample], int], data: st.DataObject) -> None:
    made, samples, chunk = drawn
    first = data.draw(st.integers(0, len(samples)))
    with tempfile.TemporaryDirectory() as folder:
        where = Settings(Path(folder), "", str(Path(folder) / "store"))
        cube = open_cube("demo", where, create=True, chunk_samples=chunk)
        fill(cube, made, samples[:first])
        fill(cube, made, samples[first:])

        by_id = {item.id: item for item in samples}
        columns = cube.columns(made.id)
        assert set(columns["sample"]) == set(by_id)
        rows = data.draw(st.lists(st.sampled_from(range(len(samples))), max_size=8))
        for gsd in made.resolutions_m:
            read = cube.read(made.id, gsd, rows)
            assert read.dtype == np.dtype(made.dtype)
            assert len(read) == len(rows)
            for row, values in zip(rows, read, strict=True):
                assert bits(values) == bits(by_id[columns["sample"][row]].pixels[gsd])
        for row, flags in zip(rows, cube.read_quality(made.id, rows), strict=True):
            assert bits(flags) == bits(by_id[columns["sample"][row]].quality)
        assert cube.verify() == []


def test_columns_calibration_and_affines_are_those_of_the_sample() -> None:
    made = product()
    cube = open_cube("demo", create=True)
    written = [
        sample(made, s, p, resampled=bool(s), cloud_fraction=0.5 if s else float("nan"))
        for s in range(2)
        for p in range(3)
    ]
    fill(cube, made, written)

    columns = cube.columns(made.id)
    assert list(columns["row"]) == list(range(6))
    assert columns["time"].dtype == pd.DatetimeTZDtype("ns", "UTC")
    by_id = {item.id: item for item in written}
    calibration = cube.calibration(made.id, columns["row"])
    for row in columns.itertuples():
        item = by_id[row.sample]
        assert (row.location, row.scene, row.epsg) == (item.location, item.scene, item.epsg)
        assert row.time.to_pydatetime() == item.sensed
        assert row.resampled == item.resampled
        assert row.sha256 == pixels_sha256(item.pixels)
        assert row.superseded_by == ""
        assert np.array_equal(calibration["scale"][row.row], item.scale)
        assert np.array_equal(calibration["offset"][row.row], item.offset)
        assert tuple(cube.affine(made.id, 20.0, [row.row])[0]) == item.affines[20.0]
    assert np.isnan(calibration["k1"]).all()
    assert calibration["k2"].shape == (6, len(made.bands))
    assert list(columns["cloud_fraction"].isna()) == [scene == "scene-000" for scene in columns["scene"]]


def test_planck_constants_that_come_later_leave_earlier_samples_without() -> None:
    made = product(rule="landsat-toa")
    cube = open_cube("demo", create=True)
    fill(cube, made, [sample(made, 0, 0)])
    k = np.array([np.nan, np.nan, 774.8853])
    fill(cube, made, [sample(made, 1, 0, k1=k, k2=k + 1)])

    calibration = cube.calibration(made.id, [0, 1])
    assert np.isnan(calibration["k1"][0]).all()
    assert np.array_equal(calibration["k1"][1], k, equal_nan=True)
    assert np.array_equal(calibration["k2"][1], k + 1, equal_nan=True)
    assert cube.verify() == []


def test_scenes_and_locations_travel_with_the_cube() -> None:
    made = product()
    cube = open_cube("demo", create=True)
    fill(cube, made, [sample(made, 2, 1), sample(made, 1, 0)])

    again = open_cube("demo")
    assert again.scenes(made.id) == {item.id: item for item in (scene(1, made), scene(2, made))}
    assert again.locations() == [location(i) for i in range(8)]
    assert again.products() == {made.id: made}


def test_samples_lie_by_block_place_and_date_in_every_product() -> None:
    one, two = product("toy-one"), product("toy-two", dtype="float32", nodata=None)
    cube = open_cube("demo", create=True)
    numbers = [(s, p) for s in (3, 0, 2) for p in (5, 1, 4, 0)]
    with cube.write("both") as writer:
        writer.add_locations(location(i) for i in range(8))
        for made in (one, two):
            for s, p in numbers if made is one else reversed(numbers):
                writer.append(made, [sample(made, s, p)], [scene(s, made)])

    columns = cube.columns("toy-one")
    blocks = {item.id: item.block for item in cube.locations()}
    keys = [(blocks[row.location], row.location, row.time) for row in columns.itertuples()]
    assert keys == sorted(keys)
    assert list(columns["location"]) == list(cube.columns("toy-two")["location"])


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_xarray_opens_it_without_our_code(dtype: str) -> None:
    made = product(dtype=dtype)
    cube = open_cube("demo", create=True, chunk_samples=2)
    fill(cube, made, [sample(made, s, p) for s in range(2) for p in range(3)])

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = xr.open_zarr(cube.session_store(), group=made.id, consolidated=False)
        loaded = dataset.load()

    columns = cube.columns(made.id)
    for gsd in made.resolutions_m:
        raw = loaded[array_name(gsd)]
        assert raw.dims[0] == "sample"
        assert raw.dtype == np.dtype(dtype)
        assert bits(raw.to_numpy()) == bits(cube.read(made.id, gsd, columns["row"]))
        assert raw.attrs["band_names"] == [band.name for band in made.bands_at(gsd)]
        assert raw.attrs["nodata"] == 0
    assert list(loaded["band"].to_numpy()) == list(made.band_names)
    assert list(loaded["center_nm"].to_numpy()) == [band.center_nm for band in made.bands]
    times = loaded["time"].to_numpy()
    assert times.dtype == "datetime64[ns]"
    assert [datetime.fromtimestamp(t / 1e9, UTC) for t in times.astype(int)] == [
        t.to_pydatetime() for t in columns["time"]
    ]
    one = loaded.sel(sample=columns["sample"][4])
    assert str(one["scene"].item()) == columns["scene"][4]
    scenes = xr.open_zarr(cube.session_store(), group=f"{made.id}/scenes", consolidated=False)
    assert set(scenes["scene"].to_numpy()) == {"scene-000", "scene-001"}


@pytest.mark.parametrize(
    ("row", "gsd", "product_id", "code"),
    [
        (2, 10.0, "toy-optical", "row-out-of-range"),
        (-1, 10.0, "toy-optical", "row-out-of-range"),
        (0, 30.0, "toy-optical", "no-such-resolution"),
        (0, 10.0, "toy-other", "product-not-in-cube"),
    ],
)
def test_asking_for_what_is_not_there_says_what_is(row: int, gsd: float, product_id: str, code: str) -> None:
    made = product()
    cube = open_cube("demo", create=True)
    fill(cube, made, [sample(made, 0, 0), sample(made, 0, 1)])
    with pytest.raises(CubeError) as caught:
        cube.read(product_id, gsd, [row])
    assert caught.value.code == code
    assert caught.value.next_step


def test_a_chunk_is_read_once_however_many_of_its_rows_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import icechunk

    made = product(gsds=(10.0,))
    cube = open_cube("demo", create=True, chunk_samples=4)
    fill(cube, made, [sample(made, s, p) for s in range(2) for p in range(6)])
    cube.read(made.id, 10.0, [0])
    fetched: list[str] = []
    get = icechunk.IcechunkStore.get

    async def noting(self: Any, key: str, *args: Any, **options: Any) -> Any:
        fetched.append(key)
        return await get(self, key, *args, **options)

    monkeypatch.setattr(icechunk.IcechunkStore, "get", noting)
    rows = [11, 0, 5, 3, 7, 0, 10]
    read = cube.read(made.id, 10.0, rows)
    assert sorted(key for key in fetched if "/c/" in key) == [f"{made.id}/r10m/c/{i}/0/0/0" for i in range(3)]
    digests = cube.columns(made.id)["sha256"]
    assert [pixels_sha256({10.0: values}) for values in read] == [digests[row] for row in rows]
