"""What the loader is measured against: each writes its store, then gives shuffled samples."""

from __future__ import annotations

import itertools
import random
import tarfile
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import rasterio
from numcodecs import blosc
from numpy.typing import NDArray

from catalog.cubes import Cube
from catalog.cubes.chunks import decode
from catalog.products.model import array_name

BATCH = 32
SHARD = 64
"""Samples per WebDataset shard: 50 MB."""

Arrays = dict[float, NDArray[np.uint16]]


@dataclass(frozen=True)
class Contender:
    """``load(count, threads)`` loads about so many samples and returns how many it did."""

    name: str
    load: Callable[[int, int], int]
    disk_bytes: int
    """Of the optical product alone."""
    passes: int = 1
    """Over all samples at a time; more for those that are done with one in a fifth of a second."""


class ChunksInMemory:
    """Every stored chunk of a product in memory: what there is to decode, and nothing else."""

    def __init__(self, cube: Cube, product: str) -> None:
        reader = cube.reader()
        names = [*(array_name(gsd) for gsd in cube.products()[product].resolutions_m), "quality"]
        source = cube.chunks(product, names)
        self.rows, self.chunks = source.rows, -(-source.length // source.rows)
        self.stored: list[list[tuple[NDArray[np.uint8], str]]] = []
        for number in range(self.chunks):
            fetched = source.stored(names, number)
            self.stored.append([(np.array(fetched[name]), name) for name in names])
        self.shapes = {name: reader.array(product, name) for name in names}
        self._own = threading.local()

    @property
    def disk_bytes(self) -> int:
        return sum(stored.nbytes for chunk in self.stored for stored, _ in chunk)

    def decode_all(self, count: int, threads: int, *, checksum: bool) -> int:
        """Decode whole chunks, in random order, into buffers that are used again."""
        numbers = [random.randrange(self.chunks) for _ in range(-(-count // self.rows))]
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(lambda number: self._decode(number, checksum), numbers):
                pass
        return len(numbers) * self.rows

    def _decode(self, number: int, checksum: bool) -> None:
        buffers = self._own.__dict__
        for stored, name in self.stored[number]:
            array = self.shapes[name]
            target = buffers.setdefault(name, np.empty(array.chunks, array.dtype))
            if checksum:
                decode(stored, target)
            else:
                blosc.decompress(stored[:-4], target)


def geotiffs(folder: Path, samples: list[Arrays], names: dict[float, list[str]]) -> Contender:
    """A folder per place and date with a GeoTIFF per band, as SSL4EO-S12 lays them out; uncompressed."""
    for number, sample in enumerate(samples):
        place = folder / f"{number // 2:07d}" / f"2024{number % 2 + 1:02d}01T100000"
        place.mkdir(parents=True)
        for gsd, values in sample.items():
            for name, band in zip(names[gsd], values, strict=True):
                profile = {"driver": "GTiff", "count": 1, "dtype": band.dtype, "crs": "EPSG:32633"}
                height, width = band.shape
                transform = rasterio.Affine(gsd, 0, 4e5, 0, -gsd, 5.4e6)
                with rasterio.open(
                    place / f"{name}.tif", "w", height=height, width=width, transform=transform, **profile
                ) as file:
                    file.write(band, 1)
    places = sorted(folder.glob("*/*"))

    def read(place: Path) -> Arrays:
        sample = {}
        for gsd, bands in names.items():
            read_bands = []
            for name in bands:
                with rasterio.open(place / f"{name}.tif") as file:
                    read_bands.append(file.read(1))
            sample[gsd] = np.stack(read_bands)
        return sample

    def load(count: int, threads: int) -> int:
        order = random.sample(places, min(count // 4, len(places)))
        with ThreadPoolExecutor(threads) as pool:
            return batched(pool.map(read, order))

    return Contender("GeoTIFF per band (rasterio)", load, disk_bytes(folder))


def webdataset(folder: Path, samples: list[Arrays]) -> Contender:
    """Tar shards of ``.npy`` files, shards shuffled, then samples in a buffer of 256."""
    import webdataset as wds

    folder.mkdir()
    for shard, start in enumerate(range(0, len(samples), SHARD)):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            for number in range(start, min(start + SHARD, len(samples))):
                for gsd, values in samples[number].items():
                    buffer = BytesIO()
                    np.save(buffer, values)
                    entry = tarfile.TarInfo(f"{number:07d}.{array_name(gsd)}.npy")
                    entry.size = buffer.tell()
                    buffer.seek(0)
                    tar.addfile(entry, buffer)
    shards = sorted(map(str, folder.glob("*.tar")))

    def pipeline(mine: list[str]) -> Iterator[Arrays]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = wds.WebDataset(mine, shardshuffle=len(mine), empty_check=False).shuffle(256).decode()
        for sample in dataset:
            yield {key: values for key, values in sample.items() if key.endswith("npy")}

    def load(count: int, threads: int) -> int:
        share = max(1, count // threads)
        return in_threads(
            [lambda mine=shards[n::threads]: itertools.islice(pipeline(mine), share) for n in range(threads)]
        )

    return Contender("WebDataset of .npy", load, disk_bytes(folder))


def litdata(folder: Path, samples: list[Arrays]) -> Contender:
    """A streaming dataset of optimised chunks of 64 MB, shuffled by itself."""
    from litdata import StreamingDataset
    from litdata.streaming.cache import Cache

    folder.mkdir()
    cache = Cache(str(folder), chunk_bytes="64MB")
    for number, sample in enumerate(samples):
        cache[number] = {array_name(gsd): values for gsd, values in sample.items()}
    cache.done()
    cache.merge()

    def load(count: int, threads: int) -> int:
        # It reads with one thread of its own beside the caller's, whatever is asked for.
        dataset = StreamingDataset(str(folder), shuffle=True, seed=random.randrange(1 << 30))
        return batched(itertools.islice(iter(dataset), count))

    return Contender("litdata", load, disk_bytes(folder))


def batched(samples: Iterator[Any]) -> int:
    """Stack samples to batches, as a training would; returns how many there were."""
    count = 0
    while part := list(itertools.islice(samples, BATCH)):
        for key in part[0]:
            np.stack([sample[key] for sample in part])
        count += len(part)
    return count


def in_threads(sources: list[Callable[[], Iterator[Any]]]) -> int:
    """Run one pipeline per thread, each making its own batches."""
    done: Queue[int | BaseException] = Queue()

    def run(source: Callable[[], Iterator[Any]]) -> None:
        try:
            done.put(batched(source()))
        except BaseException as error:
            done.put(error)

    for source in sources:
        threading.Thread(target=run, args=(source,), daemon=True).start()
    total = 0
    for _ in sources:
        result = done.get()
        if isinstance(result, BaseException):
            raise result
        total += result
    return total


def disk_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
