"""Bytes per sample on real pixels, per codec, with the speed of encoding and decoding in one thread.

``SWATH_REALDATA=… python -m tests.benchmarks.codecs``: real scenes of that folder (or of ``shared/data``
beside the repository), cut to whole pixels of the product's coarsest band and put into chunks of as many
samples as a cube would; every codec encodes and decodes the same chunks from memory to memory and must give
back the very pixels. Lossless codecs only; the checksum that a cube adds is the same for all.

Only scenes that come in at least as many pixels as they are read at are taken: thinned ones compress worse
than what an archive holds. Bands that a data set states on the grid of the finest are taken at every nth
pixel, so that each has its native number. Radar comes from decibels with few decimals, turned into linear
power: an archive's float32 holds more noise and compresses less.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
from numcodecs import Blosc
from numpy.typing import NDArray

from catalog.cubes import layout
from catalog.products import load_product
from catalog.products.model import Product
from tests.benchmarks.table import arguments, show, spread
from tests.conftest import REPOSITORY
from tests.real_scenes import SIDE_PX, RealScene, all_scenes

RUNS = 5
SAMPLES_PER_PRODUCT = 128
SHUFFLE, BITS = Blosc.SHUFFLE, Blosc.BITSHUFFLE
CODECS: dict[str, Any] = {
    "none": None,
    "blosc lz4 5, shuffle": Blosc("lz4", 5, SHUFFLE),
    "blosc lz4 5, bitshuffle (default)": Blosc("lz4", 5, BITS),
    "blosc lz4hc 5, bitshuffle": Blosc("lz4hc", 5, BITS),
    "blosc zstd 1, shuffle": Blosc("zstd", 1, SHUFFLE),
    "blosc zstd 1, bitshuffle": Blosc("zstd", 1, BITS),
    "blosc zstd 5, bitshuffle": Blosc("zstd", 5, BITS),
    "zstd 3": numcodecs.Zstd(3),
    "gzip 6": numcodecs.GZip(6),
}
SOURCES = {
    "sentinel-2-l2a": ("bigearthnet", "jaca", "worldcereal-s2"),
    "sentinel-2-l1c": ("eurosat", "eo-learn"),
    "sentinel-1-rtc": ("bigearthnet-s1", "worldcereal-s1"),
    "landsat-oli-toa": ("landsat-new-york",),
    "enmap-l2a": ("enmap-potsdam",),
}
"""Products of the table → data sets that hold pixels of it at native sampling."""


def native(scene: RealScene, product: Product) -> dict[float, NDArray[Any]] | None:
    """``(band, y, x)`` of each native sampling, or None for a scene of other bands or of thinned pixels."""
    shape = next(iter(scene.bands.values())).shape
    if max(shape) >= SIDE_PX:
        return None
    finest = product.resolutions_m[0]
    steps = {gsd: round(gsd / finest) for gsd in product.resolutions_m}
    side = max(steps.values())
    height, width = (size // side * side for size in shape)
    arrays = {}
    for gsd, step in steps.items():
        bands = [scene.bands[band.name] for band in product.bands_at(gsd) if band.name in scene.bands]
        if bands:
            arrays[gsd] = np.stack(bands)[:, :height:step, :width:step].astype(product.dtype)
    return arrays if len(arrays) == len(steps) else None


def chunks_of(product: Product, scenes: Sequence[RealScene]) -> tuple[int, list[NDArray[Any]]]:
    """Number of samples, and their pixels in chunks as a cube would hold them."""
    alike: dict[Any, list[dict[float, NDArray[Any]]]] = {}
    count = 0
    for source in SOURCES[product.id]:
        for scene in scenes:
            if scene.source != source or scene.product != product.id or count == SAMPLES_PER_PRODUCT:
                continue
            pixels = native(scene, product)
            if pixels is not None:
                alike.setdefault(tuple(values.shape for values in pixels.values()), []).append(pixels)
                count += 1
    chunks = []
    for group in alike.values():
        length = layout.default_chunk_samples(
            product, {gsd: values.shape[1:] for gsd, values in group[0].items()}
        )
        for start in range(0, len(group), length):
            part = group[start : start + length]
            chunks += [np.ascontiguousarray(np.stack([item[gsd] for item in part])) for gsd in part[0]]
    return count, chunks


def measure(codec: Any, chunks: Sequence[NDArray[Any]], runs: int) -> tuple[int, list[float], list[float]]:
    """Bytes of all chunks, and MB/s of raw pixels while encoding and while decoding."""
    raw = sum(chunk.nbytes for chunk in chunks)
    outputs = [np.empty_like(chunk) for chunk in chunks]
    encoding, decoding = [], []
    for _ in range(runs + 1):  # the first one warms up
        began = time.perf_counter()
        encoded = [chunk.tobytes() if codec is None else codec.encode(chunk) for chunk in chunks]
        middle = time.perf_counter()
        for data, output in zip(encoded, outputs, strict=True):
            if codec is None:
                output.reshape(-1).view(np.uint8)[:] = np.frombuffer(data, np.uint8)
            else:
                codec.decode(data, out=output)
        encoding.append(raw / 1e6 / (middle - began))
        decoding.append(raw / 1e6 / (time.perf_counter() - middle))
    for chunk, output in zip(chunks, outputs, strict=True):
        assert chunk.tobytes() == output.tobytes()
    return sum(len(data) for data in encoded), encoding[1:], decoding[1:]


def rows(scenes: Sequence[RealScene], runs: int) -> Iterator[dict[str, Any]]:
    for name in SOURCES:
        product = load_product(name)
        count, chunks = chunks_of(product, scenes)
        raw = sum(chunk.nbytes for chunk in chunks)
        for title, codec in CODECS.items() if count else ():
            size, encoding, decoding = measure(codec, chunks, runs)
            yield {
                "product": name,
                "samples": count,
                "codec": title,
                "kB per sample": size / count / 1e3,
                "of raw": f"{size / raw:.1%}",
                "encode MB/s": spread(encoding),
                "decode MB/s": spread(decoding),
            }


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(__doc__, argv)
    folder = Path(os.environ.get("SWATH_REALDATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        print(f"no real scenes: {folder} is missing; name their folder in SWATH_REALDATA")
        return
    numcodecs.blosc.use_threads = False
    table = list(rows(all_scenes(folder), options.runs or RUNS))
    show("Bytes per sample, real pixels, one thread", table, ("numcodecs", "numpy"), as_json=options.json)


if __name__ == "__main__":
    main()
