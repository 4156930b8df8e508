"""One new sample in a cube of 100,000: bytes it writes to the disk, time of its commit, memory.

``python -m tests.benchmarks.commit``: four dates of 25,000 places in Sentinel-2 L2A's twelve bands, 66 pixels
of 10 m a side: a sixteenth of a real patch's area, in chunks of as many samples as real patches (264 pixels,
778 kB) get, so that the cube has as many chunks as a real one and whatever a commit costs beside its pixels
weighs sixteen times as much. Identifiers and scene documents are as long as real ones. The pixels that are
there already are flat, which keeps the cube small and changes no count; new ones vary as the ground does.

New samples are alternately a new date of a place in the middle and the first date of a new place, each of a
scene that the cube does not know: as many commits as fill a chunk of pixels twice, so that the worst state of
the last chunk is among them.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.cubes import Cube, layout, open_cube
from catalog.grids import Grid
from catalog.products import load_product
from catalog.samples import Location, Sample
from catalog.scenes import Scene, SceneAsset
from tests.benchmarks.table import show, spread

PRODUCT = load_product("sentinel-2-l2a")
DATES = 4
PLACES_PER_SCENE = 250
PLACES_PER_BLOCK = 16
REAL_SIDE_PX = 264
SPACING_M = 2700.0
ROW_OF_PLACES = 500
START = datetime(2024, 3, 1, 10, 20, 31, 24000, tzinfo=UTC)
FOLDERS = ("chunks", "manifests", "snapshots", "transactions")
HREF = "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/33/U/UP/2024/{day:%m/%d}/{id}.SAFE/GRANULE/L2A/{band}.tif"


def location(number: int, side_px: int) -> Location:
    """Places on a grid of rows; ids as ``catalog.windows`` makes them."""
    x = 300_000.0 + SPACING_M * (number % ROW_OF_PLACES)
    y = 5_300_000.0 + SPACING_M * (number // ROW_OF_PLACES)
    size = 10.0 * side_px
    return Location(
        id=f"33n-{x:.0f}-{y:.0f}-{size:.0f}",
        epsg=32633,
        x=x + size / 2,
        y=y - size / 2,
        size_m=size,
        longitude=15.0 + number * 1e-5,
        latitude=48.0 + number * 1e-5,
        split="pretrain",
        block=f"33n-{number // PLACES_PER_BLOCK:06d}",
    )


def scene(date: int, tile: int) -> Scene:
    """A scene with as many assets and as long addresses as a real one."""
    day = START + timedelta(days=90 * date, seconds=tile)
    name = f"S2A_MSIL2A_{day:%Y%m%dT%H%M%S}_R{tile % 143:03d}_T33U{tile:03d}_{day:%Y%m%d}T154637"
    assets = {
        band.name: SceneAsset(
            band.name,
            HREF.format(day=day, id=name, band=band.name),
            (band.name,),
            Grid(32633, (band.gsd_m, 0.0, 300_000.0, 0.0, -band.gsd_m, 5_400_000.0), (10980, 10980)),
        )
        for band in PRODUCT.bands
    }
    return Scene(
        id=name,
        product=PRODUCT.id,
        archive="planetary-computer",
        collection="sentinel-2-l2a",
        platform="sentinel-2a",
        sensed=day,
        tile=f"33U{tile:03d}",
        geometry={
            "type": "Polygon",
            "coordinates": [[[14.9, 48.6], [16.1, 48.6], [16.1, 49.5], [14.9, 48.6]]],
        },
        bbox=(14.9, 48.6, 16.1, 49.5),
        assets=assets,
        epsg=32633,
        licence="proprietary",
    )


def shapes(side_px: int) -> dict[float, tuple[int, int]]:
    """Pixels ``(y, x)`` of a patch at each native resolution."""
    return {gsd: (round(side_px * 10 / gsd),) * 2 for gsd in PRODUCT.resolutions_m}


def flat(number: int, side_px: int) -> dict[float, NDArray[Any]]:
    """Flat but for some noise: no chunk is so small that Icechunk keeps it inside its manifest."""
    rng = np.random.default_rng(number)
    pixels = {}
    for gsd, shape in shapes(side_px).items():
        pixels[gsd] = np.full((len(PRODUCT.bands_at(gsd)), *shape), 1 + number % 9999, np.uint16)
        noise = pixels[gsd].reshape(-1)[:256]
        noise[:] = rng.integers(1, 9999, noise.size)
    return pixels


def varied(number: int, side_px: int) -> dict[float, NDArray[Any]]:
    """Smooth fields with noise; each band its own level."""
    rng = np.random.default_rng(number)
    pixels = {}
    for gsd, (height, width) in shapes(side_px).items():
        bands = len(PRODUCT.bands_at(gsd))
        y, x = np.mgrid[0:height, 0:width] * (gsd / 640)
        ground = 300 * np.sin(x + number) * np.cos(y) + rng.normal(0, 60, (bands, height, width))
        pixels[gsd] = np.round(1000 + 300 * np.arange(bands)[:, None, None] + ground).astype(np.uint16)
    return pixels


def sample(of: Scene, place: Location, pixels: dict[float, NDArray[Any]]) -> Sample:
    rng = np.random.default_rng(zlib.crc32(f"{of.id}{place.id}".encode()))
    quality = np.zeros(pixels[20.0].shape[1:], np.uint8)
    quality[:4] = rng.integers(0, 128, quality[:4].shape)
    return Sample(
        product=PRODUCT.id,
        scene=of.id,
        location=place.id,
        sensed=of.sensed,
        epsg=place.epsg,
        pixels=pixels,
        affines={gsd: (gsd, 0.0, place.x, 0.0, -gsd, place.y) for gsd in pixels},
        quality=quality,
        scale=np.full(len(PRODUCT.bands), 1e-4),
        offset=np.full(len(PRODUCT.bands), -0.1),
        nodata_fraction=float(rng.integers(0, 20) / 1000),
        cloud_fraction=float(rng.integers(0, 500) / 1000),
    )


def build(cube: Cube, samples: int, side_px: int) -> None:
    """One commit per date, as large as a first acquisition would make them."""
    places = [location(number, side_px) for number in range(samples // DATES)]
    for date in range(DATES):
        tiles = [scene(date, tile) for tile in range(math.ceil(len(places) / PLACES_PER_SCENE))]
        with cube.write(f"date {date}") as writer:
            writer.add_locations(places)
            made = (
                sample(tiles[n // PLACES_PER_SCENE], place, flat(n, side_px))
                for n, place in enumerate(places)
            )
            writer.append(PRODUCT, made, tiles)


def new_samples(count: int, samples: int, side_px: int) -> Iterator[tuple[str, Location, Scene, Sample]]:
    """In turn a new date of a place in the middle, and a new place."""
    places = samples // DATES
    for number in range(count):
        new = number % 2
        place = location(places + number if new else places // 2 + number, side_px)
        of = scene(DATES + 1 + number, 0)
        yield "new place" if new else "new date", place, of, sample(of, place, varied(number, side_px))


def written(folder: Path) -> dict[str, tuple[int, int]]:
    """File → (time of the last change, bytes)."""
    found = {}
    for root, _, names in os.walk(folder):
        for name in names:
            stat = Path(root, name).stat()
            found[str(Path(root, name))] = (stat.st_mtime_ns, stat.st_size)
    return found


def one_commit(cube: Cube, place: Location, of: Scene, item: Sample) -> tuple[float, float]:
    """Wall and CPU seconds of one commit."""
    wall, cpu = time.perf_counter(), time.process_time()
    with cube.write("one more") as writer:
        writer.add_locations([place])
        writer.append(PRODUCT, [item], [of])
    assert writer.result.appended == {PRODUCT.id: 1}
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(cube: Cube, items: Iterable[tuple[str, Location, Scene, Sample]]) -> list[dict[str, Any]]:
    """What each commit wrote, by kind of file."""
    results = []
    before = written(cube.place.folder)
    for what, place, of, item in items:
        wall, cpu = one_commit(cube, place, of, item)
        after = written(cube.place.folder)
        kinds: dict[str, int] = {}
        for path, state in after.items():
            if before.get(path) != state:
                kind = Path(path).relative_to(cube.place.folder).parts[0]
                kind = kind if kind in FOLDERS else "repo"
                kinds[kind] = kinds.get(kind, 0) + state[1]
        raw = sum(values.nbytes for values in item.pixels.values()) + item.quality.nbytes
        results.append({"what": what, "wall": wall, "cpu": cpu, "raw": raw, "bytes": kinds})
        before = after
    return results


FRESH = "from tests.benchmarks.commit import fresh; fresh()"


def fresh() -> None:
    """In a process of its own: import to exit, and the peak of memory."""
    number, samples, side_px = (int(value) for value in os.environ["COMMIT"].split())
    *_, (_, place, of, item) = new_samples(number + 1, samples, side_px)
    began = time.perf_counter()
    cube = open_cube("bench")
    opened = time.perf_counter() - began
    wall, cpu = one_commit(cube, place, of, item)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    json.dump({"open": opened, "wall": wall, "cpu": cpu, "peak": peak}, sys.stdout)


def in_fresh_process(number: int, samples: int, side_px: int) -> dict[str, float]:
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", FRESH],
        env={**os.environ, "COMMIT": f"{number} {samples} {side_px}"},
        capture_output=True,
        text=True,
        check=True,
    )
    return {**json.loads(done.stdout), "process": time.perf_counter() - began}


def read_columns(runs: int) -> list[float]:
    """Seconds until all columns of the newest snapshot are there, cube opened anew each time."""
    taken = []
    for _ in range(runs):
        cube = open_cube("bench")
        began = time.perf_counter()
        cube.columns(PRODUCT.id)
        taken.append(time.perf_counter() - began)
    return taken


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--runs", type=int, default=None, help="commits of one sample; twice a chunk's samples"
    )
    parser.add_argument("--samples", type=int, default=100_000, help="samples that are there before")
    parser.add_argument("--side", type=int, default=66, help="pixels of 10 m a side, a multiple of 6")
    parser.add_argument("--home", type=Path, help="keep the cube here, and use it again")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["SWATH_HOME"] = str(options.home or scratch)
        os.environ.pop("SWATH_STORE", None)
        chunk = layout.default_chunk_samples(PRODUCT, shapes(REAL_SIDE_PX))
        cube = open_cube("bench", create=True, chunk_samples=chunk)
        began = time.perf_counter()
        if not cube.products():
            build(cube, options.samples, options.side)
        built = time.perf_counter() - began
        runs = options.runs or 2 * chunk
        folder = cube.place.folder
        held = sum(size for _, size in written(folder).values())
        results = measure(cube, new_samples(runs, options.samples, options.side))
        alone = [in_fresh_process(runs + number, options.samples, options.side) for number in range(3)]
        columns = read_columns(5)
        assert len(cube.columns(PRODUCT.id)) >= options.samples + runs
    raw = results[0]["raw"]
    told = [sum(result["bytes"].values()) for result in results]
    rows: list[dict[str, Any]] = [
        row("bytes written / sample's own size", [size / raw for size in told]),
        row("bytes written, kB", [size / 1e3 for size in told]),
        *(
            row(f"of those: {kind}, kB", [r["bytes"].get(kind, 0) / 1e3 for r in results])
            for kind in (*FOLDERS, "repo")
        ),
        *(
            row(f"commit, {what}, cube open: wall, s", [r["wall"] for r in results if r["what"] == what])
            for what in ("new date", "new place")
        ),
        row("the same, CPU, s", [r["cpu"] for r in results]),
        row("commit in a fresh process: wall, s", [r["wall"] for r in alone]),
        row("opening the cube there: wall, s", [r["open"] for r in alone]),
        row("from start to end of that process: wall, s", [r["process"] for r in alone]),
        row("peak memory of that process, MB", [r["peak"] / 1e6 for r in alone]),
        row("reading all columns: wall, s", columns),
    ]  # fmt: skip
    title = (
        f"One new sample of {raw / 1e3:.1f} kB ({options.side} px) in a cube of {options.samples} "
        f"({chunk} samples per chunk; {held / 1e9:.2f} GB, built in {built:.0f} s); {runs} commits"
    )
    show(title, rows, ("zarr", "icechunk"), as_json=options.json)


def row(what: str, values: Sequence[float]) -> dict[str, Any]:
    return {"what": what, "median (min–max)": spread(values)}


if __name__ == "__main__":
    main()
