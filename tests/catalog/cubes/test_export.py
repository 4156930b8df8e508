"""What is exported is what the cube holds, readable without Icechunk and without Swath."""

from __future__ import annotations

import csv
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
from zarr.storage import ZipStore

from catalog.cubes import Cube, open_cube
from catalog.errors import CubeError, UsageError
from tests.catalog.cubes.made_up import START, location, product, sample, scene

OPTICAL = product()
RADAR = product("toy-radar", dtype="float32", nodata=float("nan"), gsds=(10.0, 10.0), rule="power-to-db")


@pytest.fixture
def cube() -> Cube:
    made = open_cube("demo", create=True, chunk_samples=4)
    with made.write("first") as writer:
        writer.add_locations(location(i) for i in range(5))
        for of in (OPTICAL, RADAR):
            writer.append(
                of, [sample(of, n, i) for n in (0, 1) for i in range(5)], [scene(0, of), scene(1, of)]
            )
    return made


@pytest.mark.parametrize("name", ["copy", "copy.zip"])
def test_plain_zarr_holds_everything_and_xarray_opens_it(cube: Cube, name: str, tmp_path: Path) -> None:
    done = cube.export(tmp_path / name)
    assert done.samples == {OPTICAL.id: 10, RADAR.id: 10}
    assert done.snapshot == cube.snapshot()
    copy = ZipStore(done.path, mode="r") if name.endswith(".zip") else done.path
    for group in (OPTICAL.id, RADAR.id, "locations", f"{OPTICAL.id}/scenes"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = xr.open_zarr(copy, group=group, consolidated=False)
        expected = xr.open_zarr(cube.session_store(), group=group, consolidated=False)
        xr.testing.assert_identical(found.load(), expected.load())
    root = xr.open_zarr(copy, consolidated=False)
    assert root.attrs == {
        "format": "swath-cube",
        "format_version": 1,
        "cube": "demo",
        "snapshot": cube.snapshot(),
    }


def test_one_product_of_an_old_snapshot_is_exported(cube: Cube, tmp_path: Path) -> None:
    old = cube.snapshot()
    with cube.write("more") as writer:
        writer.append(OPTICAL, [sample(OPTICAL, 2, 0)], [scene(2, OPTICAL)])
    done = cube.export(tmp_path / "copy", product=OPTICAL.id, snapshot=old)
    assert (done.snapshot, done.samples) == (old, {OPTICAL.id: 10})
    assert {path.name for path in (tmp_path / "copy").iterdir()} == {"zarr.json", "locations", OPTICAL.id}
    with pytest.raises(CubeError, match="product-not-in-cube"):
        cube.export(tmp_path / "none", product="enmap-l2a")


@pytest.mark.parametrize("of", [OPTICAL, RADAR], ids=lambda of: of.id)
def test_geotiffs_hold_the_raw_pixels_in_their_place(cube: Cube, of: Any, tmp_path: Path) -> None:
    done = cube.export(tmp_path / "tiffs", product=of.id, format="geotiff")
    assert (done.samples, done.files) == ({of.id: 10}, 10 * (len(of.bands) + 1))
    with (tmp_path / "tiffs/samples.csv").open() as opened:
        table = list(csv.DictReader(opened))
    columns = cube.columns(of.id).set_index("sample")
    assert [row["sample"] for row in table] == list(columns.index)
    for row in table:
        folder = tmp_path / "tiffs" / row["folder"]
        held = columns.loc[row["sample"]]
        assert row["folder"] == f"{of.id}/{held['location']}/{held['time']:%Y%m%dT%H%M%S}"
        assert row["sha256"] == held["sha256"]
        assert row["split"] == location(int(row["location"][1:])).split
        for gsd in of.resolutions_m:
            pixels = cube.read(of.id, gsd, held["row"])[0]
            for plane, band in zip(pixels, of.bands_at(gsd), strict=True):
                with rasterio.open(folder / f"{band.name}.tif") as file:
                    assert np.array_equal(file.read(1), plane, equal_nan=plane.dtype.kind == "f")
                    assert file.dtypes == (str(np.dtype(of.dtype)),)
                    assert file.crs.to_epsg() == 32633
                    assert tuple(file.transform)[:6] == tuple(cube.affine(of.id, gsd, held["row"])[0])
                    assert repr(file.nodata) == repr(of.nodata if of.dtype == "float32" else float(of.nodata))
                    scale = cube.calibration(of.id, held["row"])["scale"][0, of.band_names.index(band.name)]
                    assert float(file.tags()["scale"]) == scale
        with rasterio.open(folder / "quality.tif") as file:
            assert np.array_equal(file.read(1), cube.read_quality(of.id, held["row"])[0])
    scenes = json.loads((tmp_path / "tiffs" / of.id / "scenes.json").read_text())
    assert scenes == {name: one.to_dict() for name, one in cube.scenes(of.id).items()}


def test_geotiffs_leave_superseded_samples_out(cube: Cube, tmp_path: Path) -> None:
    with cube.write("reprocessed") as writer:
        again = [sample(OPTICAL, 5, i, sensed=START) for i in range(5)]
        writer.append(OPTICAL, again, [scene(5, OPTICAL)])
        writer.supersede("scene-000", "scene-005", OPTICAL.id)
    assert cube.export(tmp_path / "tiffs", product=OPTICAL.id, format="geotiff").samples == {OPTICAL.id: 10}
    with (tmp_path / "tiffs/samples.csv").open() as opened:
        assert {row["scene"] for row in csv.DictReader(opened)} == {"scene-001", "scene-005"}


def test_two_scenes_of_one_second_do_not_overwrite_each_other(cube: Cube, tmp_path: Path) -> None:
    with cube.write("its neighbour") as writer:
        writer.append(OPTICAL, [sample(OPTICAL, 5, 0, sensed=START)], [scene(5, OPTICAL)])
    cube.export(tmp_path / "tiffs", product=OPTICAL.id, format="geotiff")
    with (tmp_path / "tiffs/samples.csv").open() as opened:
        folders = [row["folder"] for row in csv.DictReader(opened)]
    assert len(set(folders)) == len(folders) == 11


@pytest.mark.parametrize("format", ["zarr", "geotiff"])
def test_nothing_is_overwritten(cube: Cube, format: Any, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(UsageError, match="path-taken"):
        cube.export(tmp_path / "taken", format=format)
    assert list((tmp_path / "taken").iterdir()) == []


@pytest.mark.parametrize("format", ["zarr", "geotiff"])
def test_an_export_that_fails_leaves_nothing(cube: Cube, format: Any, tmp_path: Path) -> None:
    chunks = [path for path in (cube.place.folder / "chunks").rglob("*") if path.is_file()]
    max(chunks, key=lambda path: path.stat().st_size).unlink()
    out = tmp_path / "out"
    with pytest.raises(CubeError, match="unreadable-chunk"):
        open_cube("demo").export(out / "copy", format=format)
    assert list(out.iterdir()) == []
