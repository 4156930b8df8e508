"""Whole chunks decoded by Swath are what zarr reads, and damage is told as zarr tells it."""

from __future__ import annotations

from pathlib import Path

import icechunk
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.cubes import Cube, layout
from catalog.cubes.chunk_files import ChunkFiles, base32
from catalog.cubes.chunks import ChunkReader, chunk_key, decodable, decode
from catalog.errors import CubeError
from tests.models.learnable_cube import location, make_cube, sample, scene

PRODUCT = "sentinel-2-l2a"
ARRAYS = ["r10m", "r20m", "r60m", "quality"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SWATH_HOME", str(tmp_path))
    for name in ("SWATH_STORE", "SWATH_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def grown_cube() -> Cube:
    """Two commits, so that chunks were rewritten, and a last chunk that is not full."""
    cube = make_cube(places=5, dates=2, chunk_samples=4)
    product = cube.products()[PRODUCT]
    with cube.write("later") as writer:
        writer.add_locations([location(7)])
        writer.append(product, [sample(product, 0, 7)], [scene(0, product)])
    return cube


def test_chunks_are_what_zarr_reads_from_files_and_through_icechunk() -> None:
    cube = grown_cube()
    reader = cube.reader()
    from_files = cube.chunks(PRODUCT, ARRAYS)
    through_icechunk = ChunkReader(reader, PRODUCT, ARRAYS, files=None)
    assert from_files.length == 11 and from_files.rows == 4
    # The flags of a made-up sample compress so well that most of their chunks lie in the manifest.
    assert all(len(from_files._files[name]) == 3 for name in ARRAYS[:3])
    for number in range(3):
        rows = slice(4 * number, 4 * number + 4)
        for source in (from_files, through_icechunk):
            for name, values in source.read(number).items():
                expected = reader.array(PRODUCT, name)[rows]
                assert values.dtype == expected.dtype
                assert np.array_equal(values, expected)


def test_an_old_snapshot_keeps_its_own_chunks() -> None:
    cube = make_cube(places=5, dates=2, chunk_samples=4)
    old = cube.snapshot()
    before = {name: values.copy() for name, values in cube.chunks(PRODUCT, ARRAYS, old).read(2).items()}
    product = cube.products()[PRODUCT]
    with cube.write("later") as writer:
        writer.add_locations([location(7)])
        writer.append(product, [sample(product, 0, 7)], [scene(0, product)])
    after = cube.chunks(PRODUCT, ARRAYS, old).read(2)
    assert all(np.array_equal(before[name], after[name]) for name in ARRAYS)
    assert len(cube.chunks(PRODUCT, ARRAYS).read(2)["r10m"]) == len(before["r10m"]) + 1


@given(
    samples=st.integers(1, 7),
    rows=st.integers(1, 5),
    side=st.integers(1, 40),
    dtype=st.sampled_from(["uint8", "uint16", "int16", "float32"]),
    written=st.integers(0, 7),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_any_array_of_the_layout_reads_as_through_zarr(
    tmp_path_factory: pytest.TempPathFactory,
    samples: int,
    rows: int,
    side: int,
    dtype: str,
    written: int,
    seed: int,
) -> None:
    """Partial last chunks, chunks that were never written, chunks small enough to lie in the manifest."""
    folder = tmp_path_factory.mktemp("repository")
    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(folder)))
    session = repository.writable_session("main")
    array = zarr.create_array(
        session.store,
        name="product/r10m",
        shape=(samples, 2, side, side),
        chunks=(rows, 2, side, side),
        dtype=dtype,
        fill_value=np.dtype(dtype).type(7),
        compressors=layout._pixel_codecs(),
    )
    random = np.random.default_rng(seed)
    shape = (min(written, samples), 2, side, side)
    array[: min(written, samples)] = random.integers(0, 250, shape).astype(dtype)
    snapshot = session.commit("written")
    reader = _Plain(repository, snapshot)
    expected = reader.array("product", "r10m")
    assert decodable(expected)
    for files in (None, ChunkFiles(repository, snapshot, folder)):
        source = ChunkReader(reader, "product", ["r10m"], files)  # type: ignore[arg-type]
        for number in range(-(-samples // rows)):
            values = source.read(number)["r10m"]
            assert np.array_equal(values, expected[number * rows : (number + 1) * rows])


class _Plain:
    """As much of a ``SnapshotReader`` as chunks are read with, over a repository that is no cube."""

    def __init__(self, repository: icechunk.Repository, snapshot: str) -> None:
        self.store = repository.readonly_session(snapshot_id=snapshot).store

    def array(self, product: str, name: str) -> zarr.Array:
        return zarr.open_array(self.store, path=f"{product}/{name}", mode="r")

    def damage_told(self, what: str):
        import contextlib

        return contextlib.nullcontext(what)


@pytest.mark.parametrize("damage", ["a flipped bit", "cut off", "gone"])
def test_damage_is_an_unreadable_chunk_that_names_its_rows(damage: str) -> None:
    cube = grown_cube()
    source = cube.chunks(PRODUCT, ARRAYS)
    path = source._files["r10m"][1].path
    stored = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        stored[len(stored) // 2] ^= 4
        path.write_bytes(stored if damage == "a flipped bit" else stored[: len(stored) // 2])
    with pytest.raises(CubeError, match=f"rows 4 to 7 of {PRODUCT}/r10m") as told:
        source.read(1)
    assert told.value.code == "unreadable-chunk"
    source.read(0)
    with pytest.raises(CubeError):
        cube.read(PRODUCT, 10.0, [5])


def test_every_flipped_bit_of_a_chunk_is_found() -> None:
    cube = grown_cube()
    source = cube.chunks(PRODUCT, ["r60m"])
    stored = source.stored(["r60m"], 0)["r60m"]
    assert stored is not None
    target = np.empty(cube.reader().array(PRODUCT, "r60m").chunks, np.uint16)
    random = np.random.default_rng(0)
    for bit in random.integers(0, len(stored) * 8, 300):
        broken = stored.copy()
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match="checksum"):
            decode(broken, target)
    with pytest.raises(ValueError, match="cut off"):
        decode(stored[:10], target)
    with pytest.raises(ValueError, match="the array's chunks have"):
        decode(stored, target[:1].copy())


def test_files_that_are_not_what_icechunk_gives_are_not_used() -> None:
    cube = grown_cube()

    class Shifted(ChunkFiles):
        def of(self, node):
            found = super().of(node)
            return {number: found[max(0, number - 1)] for number in found}

    files = Shifted(cube.repository, cube.snapshot(), cube.place.folder)
    source = ChunkReader(cube.reader(), PRODUCT, ARRAYS, files)
    assert source._files == {}
    assert np.array_equal(source.read(2)["r10m"], cube.read(PRODUCT, 10.0, [8, 9, 10]))


def test_a_manifest_of_another_format_version_is_left_to_icechunk() -> None:
    cube = grown_cube()
    for manifest in (cube.place.folder / "manifests").iterdir():
        stored = bytearray(manifest.read_bytes())
        stored[36] = 99
        manifest.write_bytes(stored)
    node = cube.reader().store.session.get_node_id(f"/{PRODUCT}/r10m")
    assert ChunkFiles(cube.repository, cube.snapshot(), cube.place.folder).of(node) is None


def test_an_array_with_other_codecs_is_read_through_zarr(tmp_path: Path) -> None:
    array = zarr.create_array(str(tmp_path / "other"), shape=(4, 2), chunks=(2, 2), dtype="uint16")
    assert not decodable(array)
    assert chunk_key(array, 1) == "/c/1/0" or chunk_key(array, 1) == "c/1/0"


def test_ids_are_written_as_icechunk_writes_them() -> None:
    cube = grown_cube()
    names = {path.name for path in (cube.place.folder / "chunks").iterdir()}
    source = cube.chunks(PRODUCT, ARRAYS)
    used = {file.path.name for files in source._files.values() for file in files.values()}
    assert used <= names
    assert base32(bytes(12)) == "0" * 20
