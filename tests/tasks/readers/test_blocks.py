"""Each block that some window needs is read once, and every window gets the file's pixels bit for bit."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.transform import Affine
from rasterio.windows import Window

from catalog.grids import north_up
from tasks.readers import blocks
from tasks.readers.blocks import (
    Layout,
    Run,
    Target,
    give_out,
    layout_of,
    plan_runs,
    read_run,
    stored_at,
    target_of,
    with_margin,
)
from tasks.readers.deflated import deflated_tiles

HEIGHT, WIDTH = 150, 190
GRID = north_up(32632, 600_000, 5_400_000, 10, (HEIGHT, WIDTH))


@st.composite
def places(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """(row, col, height, width), also over the edges and beyond them."""
    height, width = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    return draw(st.integers(-100, HEIGHT + 20)), draw(st.integers(-100, WIDTH + 20)), height, width


def targets_at(wanted: list[tuple[int, int, int, int]], bands: int, dtype: str) -> list[Target]:
    grids = [
        north_up(32632, 600_000 + 10 * col, 5_400_000 - 10 * row, 10, (height, width))
        for row, col, height, width in wanted
    ]
    found = []
    for (row, col, _, _), grid in zip(wanted, grids, strict=True):
        target, outside = target_of(GRID, grid, (row, col), bands, dtype, 7)
        inside = rows_inside(row, grid.shape[0], HEIGHT)[:, None] & rows_inside(col, grid.shape[1], WIDTH)
        np.testing.assert_array_equal(outside, ~inside)
        found.append(target)
    return found


def rows_inside(start: int, count: int, size: int) -> np.ndarray:
    places = np.arange(start, start + count)
    return (places >= 0) & (places < size)


@settings(max_examples=50, deadline=None)
@given(
    wanted=st.lists(places(), min_size=1, max_size=8),
    block=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    most=st.integers(1, 5),
)
def test_every_block_that_is_needed_is_planned_once(
    wanted: list[tuple[int, int, int, int]], block: tuple[int, int], most: int
) -> None:
    layout = Layout((HEIGHT, WIDTH), block, False, 1, "uint16")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "RUN_BYTES", most * layout.block_bytes)
        runs = plan_runs(layout, targets_at(wanted, 1, "uint16"))
    planned = Counter((run.row, col) for run in runs for col in range(*run.cols))
    needed = {
        (row // block[0], col // block[1])
        for top, left, height, width in wanted
        for row in range(max(top, 0), min(top + height, HEIGHT))
        for col in range(max(left, 0), min(left + width, WIDTH))
    }
    assert set(planned) == needed
    assert set(planned.values()) <= {1}
    assert all(run.cols[1] - run.cols[0] <= most for run in runs)


FILES = [
    (count, dtype, interleave, compress, predictor, tiled)
    for count, interleave in ((1, "band"), (3, "band"), (3, "pixel"))
    for dtype, compress, predictor, tiled in (
        ("uint8", "deflate", 2, True),
        ("uint16", "deflate", 2, True),
        ("uint16", "lzw", 1, False),
        ("int16", "zstd", 2, True),
        ("float32", "deflate", 3, True),
        ("float32", "none", 1, True),
    )
]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[object, Path]:
    folder, found = tmp_path_factory.mktemp("files"), {}
    rng = np.random.default_rng(3)
    for number, kind in enumerate(FILES):
        count, dtype, interleave, compress, predictor, tiled = kind
        tiles = {"tiled": True, "blockxsize": 48, "blockysize": 32} if tiled else {"blockysize": 20}
        options = {"predictor": predictor} if compress != "none" else {}
        path = folder / f"{number}.tif"
        with rasterio.open(
            path, "w", driver="GTiff", height=HEIGHT, width=WIDTH, count=count, dtype=dtype, nodata=7,
            crs="EPSG:32632", transform=Affine(*GRID.affine), interleave=interleave, compress=compress,
            sparse_ok=True, **tiles, **options,
        ) as file:  # fmt: skip
            # The south is left out of the file: sparse blocks, which read as nodata.
            values = rng.integers(0, 100, (count, 64, WIDTH)).astype(dtype)
            file.write(values, window=Window(0, 0, WIDTH, 64))
        found[kind] = path
    return found


@pytest.mark.parametrize("kind", FILES, ids=str)
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(wanted=st.lists(places(), min_size=1, max_size=6))
def test_windows_put_together_from_blocks_equal_what_gdal_reads(
    kind: tuple[int, str], written: dict[object, Path], wanted: list[tuple[int, int, int, int]]
) -> None:
    count, dtype = kind[:2]
    numbers = list(range(count, 0, -1))
    with rasterio.open(written[kind]) as file:
        targets = targets_at(wanted, count, dtype)
        for run in plan_runs(layout_of(file), targets):
            read_run(file, run, numbers)
        for target in targets:
            _, height, width = target.values.shape
            window = Window(target.col, target.row, width, height)
            expected = file.read(numbers, window=window, boundless=True, fill_value=7)
            np.testing.assert_array_equal(target.values, expected, strict=True)


def inflate(path: Path, file: rasterio.DatasetReader, run: Run, numbers: list[int]) -> bool:
    """Decode a run as the reader does where it can; False where it cannot."""
    data = path.read_bytes()
    tiles, places = deflated_tiles(file, data[:2]), stored_at(file, run, numbers)
    if tiles is None or None in places:
        return False
    decoded = [tiles.decode(data[place[0] : place[1]]) for place in places if place is not None]
    whole = [block for block in decoded if block is not None]
    assert len(whole) == len(places)
    give_out(run, layout_of(file), whole, len(numbers))
    return True


@pytest.mark.parametrize("kind", FILES, ids=str)
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(wanted=st.lists(places(), min_size=1, max_size=6))
def test_tiles_decoded_without_gdal_equal_what_gdal_reads(
    kind: tuple[int, str], written: dict[object, Path], wanted: list[tuple[int, int, int, int]]
) -> None:
    count, dtype, interleave, compress, predictor, _ = kind
    numbers = list(range(count, 0, -1))
    ours = compress == "deflate" and predictor == 2 and (interleave == "band" or count == 1)
    with rasterio.open(written[kind]) as file:
        assert (deflated_tiles(file, b"II*\0") is not None) == ours
        assert deflated_tiles(file, b"MM\0*") is None
        targets = targets_at(wanted, count, dtype)
        for run in plan_runs(layout_of(file), targets):
            done = inflate(written[kind], file, run, numbers)
            assert done == (ours and run.row < 2)  # further south the file leaves its blocks out
            if not done:
                read_run(file, run, numbers)
        for target in targets:
            _, height, width = target.values.shape
            window = Window(target.col, target.row, width, height)
            expected = file.read(numbers, window=window, boundless=True, fill_value=7)
            np.testing.assert_array_equal(target.values, expected, strict=True)


def test_a_tile_with_a_flipped_bit_or_cut_short_is_not_decoded(written: dict[object, Path]) -> None:
    path = written[1, "uint16", "band", "deflate", 2, True]
    with rasterio.open(path) as file:
        (run, *_) = plan_runs(layout_of(file), targets_at([(0, 0, 10, 40)], 1, "uint16"))
        (place, *_) = stored_at(file, run, [1])
        tiles = deflated_tiles(file, b"II")
    assert place is not None and tiles is not None
    stored = path.read_bytes()[place[0] : place[1]]
    assert tiles.decode(stored) is not None
    assert tiles.decode(stored[:-20]) is None
    flips = np.random.default_rng(0).integers(0, 8 * len(stored), 200)
    for flip in flips:
        broken = bytearray(stored)
        broken[flip // 8] ^= 1 << flip % 8
        found = tiles.decode(bytes(broken))
        # A bit of the stream's header may be free; the pixels are never others.
        assert found is None or np.array_equal(found, tiles.decode(stored))


def test_the_bytes_of_a_run_are_where_the_file_says_and_sparse_blocks_are_nowhere(
    written: dict[object, Path],
) -> None:
    path = written[1, "uint16", "band", "deflate", 2, True]
    with rasterio.open(path) as file:
        (north, south) = (targets_at([(row, 0, 10, 40)], 1, "uint16") for row in (0, 120))
        (over,), under = (plan_runs(layout_of(file), targets) for targets in (north, south))
        ((start, end),) = with_margin(stored_at(file, over, [1]))
        assert [with_margin(stored_at(file, run, [1])) for run in under] == [[], []]
        place = int(file.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1))
        size = int(file.get_tag_item("BLOCK_SIZE_0_0", "TIFF", bidx=1))
    assert start <= place and place + size <= end <= path.stat().st_size + blocks.MARGIN
