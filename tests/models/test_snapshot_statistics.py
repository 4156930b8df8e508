"""Band statistics are computed once per snapshot, and are the same whoever computes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.physical_pixels import choose_bands
from models.sample_pool import open_pool
from models.sample_reader import SampleReader
from models.snapshot_statistics import snapshot_statistics, statistics_file
from tests.models.learnable_cube import location, make_cube, sample, scene

PRODUCT = "sentinel-2-l2a"


def open_reader(cube, names: tuple[str, ...] = ("B02", "B12"), snapshot: str | None = None) -> SampleReader:
    snapshot = snapshot or cube.snapshot()
    pool = open_pool(cube, PRODUCT, snapshot)
    return SampleReader(cube, snapshot, choose_bands(cube.products()[PRODUCT], names), pool.rows)


def test_the_second_run_reads_no_pixel(swath_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cube = make_cube(places=8, dates=2)
    reader = open_reader(cube)
    first = snapshot_statistics(reader, reader._rows, mask_cloud=True)
    assert reader.chunks_read > 0
    again = open_reader(cube)
    assert snapshot_statistics(again, again._rows, mask_cloud=True) == first
    assert again.chunks_read == 0


def test_they_are_the_mean_and_deviation_of_the_valid_pixels(swath_home: Path) -> None:
    from models.physical_pixels import physical_pixels

    cube = make_cube(places=8, dates=2)
    reader = open_reader(cube)
    made = snapshot_statistics(reader, reader._rows, mask_cloud=False)
    values, valid = physical_pixels(reader.read(reader._rows), reader.choice, mask_cloud=False)
    for band in range(2):
        inside = values[:, band][valid[:, band]].numpy().astype(np.float64)
        np.testing.assert_allclose(made.mean[band], inside.mean(), rtol=1e-6)
        np.testing.assert_allclose(made.std[band], inside.std(), rtol=1e-6)


def test_whatever_changes_them_changes_their_name(swath_home: Path) -> None:
    cube = make_cube(places=8, dates=2)
    reader = open_reader(cube)
    rows = reader._rows
    old = cube.snapshot()
    product = cube.products()[PRODUCT]
    with cube.write("later") as writer:
        writer.add_locations([location(12)])
        writer.append(product, [sample(product, 0, 12)], [scene(0, product)])
    names = {
        statistics_file(reader, rows, mask_cloud=True),
        statistics_file(reader, rows, mask_cloud=False),
        statistics_file(reader, rows[1:], mask_cloud=True),
        statistics_file(reader, rows, mask_cloud=True, most=5),
        statistics_file(open_reader(cube, ("B12", "B02"), old), rows, mask_cloud=True),
        statistics_file(open_reader(cube), rows, mask_cloud=True),
    }
    assert len(names) == 6
    assert statistics_file(open_reader(cube, snapshot=old), rows[::-1], mask_cloud=True) in names


@pytest.mark.parametrize("left", ["", "{", '{"mean": [1], "std": [1]}'])
def test_what_a_killed_run_left_is_computed_again(swath_home: Path, left: str) -> None:
    cube = make_cube(places=4, dates=1)
    reader = open_reader(cube)
    first = snapshot_statistics(reader, reader._rows, mask_cloud=True)
    statistics_file(reader, reader._rows, mask_cloud=True).write_text(left, encoding="utf-8")
    assert snapshot_statistics(reader, reader._rows, mask_cloud=True) == first
