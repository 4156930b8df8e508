"""The loader gives the cube's pixels, in order, to every process its own share, and says how long it took."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from catalog import radiometry
from catalog.cubes import Cube
from catalog.quality import FLAGS
from models.physical_pixels import choose_bands, on_grid, physical_pixels
from models.sample_batches import BatchStream, SampleReader
from models.sample_pool import BatchPlan, open_pool
from tests.models.learnable_cube import make_cube

PRODUCT = "sentinel-2-l2a"


@pytest.fixture(scope="module")
def cube(shared_home: Path) -> Cube:
    return make_cube(places=12, dates=3, chunk_samples=4)


def open_reader(cube: Cube, **options: object) -> SampleReader:
    snapshot = cube.snapshot()
    choice = choose_bands(cube.products(snapshot)[PRODUCT], ("B12", "B02", "B01", "B8A", "B08"))
    pool = open_pool(cube, PRODUCT, snapshot)
    return SampleReader(cube, snapshot, choice, pool.rows, chunk_rows=4, **options)  # type: ignore[arg-type]


def open_stream(cube: Cube, **options: int) -> BatchStream:
    pool = open_pool(cube, PRODUCT, cube.snapshot())
    return BatchStream(BatchPlan(pool, 6, 2, 3, chunk_rows=4, window_chunks=2), open_reader(cube), **options)


def same(ours, theirs) -> bool:
    return all(
        np.array_equal(mine.rows, yours.rows)
        and all(np.array_equal(mine.pixels[gsd], yours.pixels[gsd]) for gsd in mine.pixels)
        and np.array_equal(mine.quality, yours.quality)
        for mine, yours in zip(ours.views, theirs.views, strict=True)
    )


def test_pixels_are_those_of_the_cube_for_the_bands_and_order_asked_for(cube: Cube) -> None:
    reader = open_reader(cube, cache_bytes=1)
    rows = np.array([9, 0, 9, 2])
    raw = reader.read(rows)
    at_20 = cube.read(PRODUCT, 20.0, rows)
    names = [band.name for band in cube.products()[PRODUCT].bands_at(20.0)]
    assert np.array_equal(raw.pixels[20.0], at_20[:, [names.index("B12"), names.index("B8A")]])
    assert np.array_equal(raw.quality, cube.read_quality(PRODUCT, rows))
    assert raw.calibration["scale"].shape == (4, 5)


def test_two_loaders_give_the_same_batches_whatever_their_threads(cube: Cube) -> None:
    one = itertools.islice(open_stream(cube, threads=1, ahead=1), 9)
    other = itertools.islice(open_stream(cube, threads=4, ahead=8), 9)
    for ours, theirs in zip(one, other, strict=True):
        assert ours.index == theirs.index
        assert same(ours, theirs)


def test_a_loader_that_starts_later_gives_what_the_first_would_have_given(cube: Cube) -> None:
    whole = list(itertools.islice(open_stream(cube), 7))
    resumed = list(itertools.islice(open_stream(cube, start=4), 3))
    assert [batch.index for batch in resumed] == [4, 5, 6]
    assert all(same(ours, theirs) for ours, theirs in zip(whole[4:], resumed, strict=True))


def test_processes_share_each_batch_without_overlap(cube: Cube) -> None:
    whole = open_stream(cube).batch(5)
    parts = [open_stream(cube, rank=rank, world=3).batch(5) for rank in range(3)]
    for view in range(2):
        rows = np.concatenate([part.views[view].rows for part in parts])
        assert np.array_equal(rows, whole.views[view].rows)
    assert torch.equal(torch.cat([part.places for part in parts]), whole.places)
    with pytest.raises(ValueError, match="cannot be shared"):
        open_stream(cube, world=4)


def test_the_wait_share_tells_a_slow_consumer_from_a_slow_loader(
    cube: Cube, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = open_stream(cube)
    for _ in itertools.islice(stream, 5):
        time.sleep(0.03)
    assert stream.wait_share < 0.3
    slow = open_stream(cube, threads=1)
    reader = slow.readers[PRODUCT]
    fill = reader.fill
    monkeypatch.setattr(reader, "fill", lambda *wanted: (time.sleep(0.05), fill(*wanted))[1])
    for _ in itertools.islice(slow, 5):
        pass
    assert slow.wait_share > 0.7


def test_an_error_of_a_reading_thread_reaches_the_training(
    cube: Cube, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = open_stream(cube)

    def fail(*wanted: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(stream.readers[PRODUCT], "fill", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        next(iter(stream))


def test_physical_pixels_are_radiometry_on_the_finest_grid(cube: Cube) -> None:
    reader = open_reader(cube)
    rows = reader._rows[:5]
    values, valid = physical_pixels(reader.read(rows), reader.choice, mask_cloud=False)
    assert values.shape == valid.shape == (5, 5, 48, 48)
    product = cube.products()[PRODUCT]
    column = [band.name for band in product.bands_at(10.0)].index("B08")
    at = product.band_names.index("B08")
    calibration = cube.calibration(PRODUCT, rows)
    expected, known = radiometry.to_physical(
        cube.read(PRODUCT, 10.0, rows)[:, column],
        conversion="linear",
        scale=calibration["scale"][:, at, None, None],
        offset=calibration["offset"][:, at, None, None],
        nodata=product.nodata,
    )
    refused = np.kron(cube.read_quality(PRODUCT, rows) & FLAGS["nodata"], np.ones((2, 2), np.uint8)) > 0
    known &= ~refused
    assert not known.all()
    assert np.array_equal(valid[:, 4].numpy(), known)
    np.testing.assert_allclose(values[:, 4].numpy(), np.where(known, expected, 0), rtol=1e-6)


def test_clouds_are_masked_when_the_recipe_says_so(cube: Cube) -> None:
    reader = open_reader(cube)
    raw = reader.read(reader._rows)
    cloudy = (
        torch.from_numpy((raw.quality & FLAGS["cloud"]) > 0).repeat_interleave(2, 1).repeat_interleave(2, 2)
    )
    assert cloudy.any()
    _, open_sky = physical_pixels(raw, reader.choice, mask_cloud=False)
    _, masked = physical_pixels(raw, reader.choice, mask_cloud=True)
    assert torch.equal(masked, open_sky & ~cloudy[:, None])
    assert open_sky[:, 0][cloudy].any()


@pytest.mark.parametrize(("side", "size"), [(4, 12), (12, 4), (6, 6), (5, 7)])
def test_no_value_from_under_the_mask_gets_into_another_grid(side: int, size: int) -> None:
    torch.manual_seed(0)
    values, valid = torch.randn(2, 3, side, side), torch.rand(2, 3, side, side) > 0.4
    ours = on_grid(values, valid, size)
    theirs = on_grid(torch.where(valid, values, 1e9), valid, size)
    assert ours[0].shape == (2, 3, size, size)
    assert torch.equal(ours[1], theirs[1])
    if side != size:
        assert torch.equal(ours[0], theirs[0])
    flat = on_grid(torch.full_like(values, 7.5), valid, size)[0]
    torch.testing.assert_close(flat[ours[1]], torch.full_like(flat[ours[1]], 7.5))


def test_hyperspectral_bands_are_chosen_by_wavelength() -> None:
    from catalog.products import load_product

    product = load_product("enmap-l2a")
    choice = choose_bands(product, wavelengths_nm=((420, 1340), (1480, 1760)))
    assert choice.names == tuple(
        band.name for band in product.bands if 420 <= band.center_nm <= 1340 or 1480 <= band.center_nm <= 1760
    )
    assert 75 <= len(choice.names) < 224
    assert choice.gsd_m == 30
