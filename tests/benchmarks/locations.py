"""Sampling of places: time and memory for 250,000 of them.

``--maps FOLDER`` draws the pictures of docs/locations.md instead.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from catalog.locations import sample_locations
from catalog.locations.land import on_land
from catalog.products import load_product
from catalog.recipes import Area, LocationRequest
from catalog.samples import Location
from tests.benchmarks.table import arguments, show, spread

WORLD = Area(bbox=(-180, -80, 180, 84))
ALPS = Area(bbox=(6.0, 43.6, 16.0, 49.0))
MANY = {
    "cities": {"strategy": "cities", "max_count": 250_000},
    "uniform": {"strategy": "uniform", "max_count": 250_000},
    "grid": {"strategy": "grid", "max_count": 250_000, "spacing_m": 21_120},
}
SPLIT_COLOURS = {"pretrain": "#33658a", "probe": "#e0a030", "test": "#c8553d"}
SEA, LAND = "#dde7ec", "#f3f0e8"
CLASSES = {1: ("forest", "#c4d6b8"), 2: ("field", "#efe4c0"), 3: ("town", "#d8b9b3")}

MEASURED = """
import json, resource, sys, time
from catalog.locations import sample_locations
from catalog.products import load_product
from catalog.recipes import Area, LocationRequest
request = LocationRequest(size_m=2640, split={"block_m": 26400, "buffer_m": 5000}, **json.loads(sys.argv[1]))
start = time.process_time()
places = sample_locations(request, Area(bbox=(-180, -80, 180, 84)), [load_product("sentinel-2-l2a")])
seconds = time.process_time() - start
from tasks.cube.footprints import PlaceIndex
start = time.process_time()
PlaceIndex(places)
index = time.process_time() - start
print(json.dumps([len(places), seconds, index, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def measure(fields: dict[str, Any], runs: int) -> dict[str, Any]:
    """One strategy over the world, each run in a process of its own."""
    answers = []
    for _ in range(runs):
        command = [sys.executable, "-c", MEASURED, json.dumps(fields)]
        answers.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    counts, seconds, index, memory = zip(*answers, strict=True)
    return {
        "strategy": fields["strategy"],
        "places": counts[0],
        "sampled, CPU s": spread(seconds),
        "index over footprints, CPU s": spread(index),
        "peak memory, MB": spread(memory),
    }


def draw_maps(folder: Path) -> None:
    """``locations-world.png`` and ``locations-strategies.png``."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.lines import Line2D

    plt.rcParams |= {"font.size": 9, "font.family": "sans-serif"}
    legend = [
        Line2D([], [], marker="o", linestyle="", color=colour, markersize=4, label=name)
        for name, colour in SPLIT_COLOURS.items()
    ]
    split = {"block_m": 200_000, "buffer_m": 5_000}
    figure, axes = plt.subplots(2, 1, figsize=(7.2, 7.4), constrained_layout=True)
    for axis, strategy in zip(axes, ("cities", "uniform"), strict=True):
        places = _sampled(WORLD, strategy=strategy, max_count=5_000, size_m=2640, split=split)
        _background(axis, WORLD, 0.25)
        _dots(axis, places, 1.2)
        axis.set_title(f"{strategy}: {len(places):,} places", loc="left")
    axes[0].legend(handles=legend, loc="lower left", frameon=False, ncols=3, borderpad=0.1)
    _save(figure, folder / "locations-world.png")

    split = {"block_m": 60_000, "buffer_m": 8_000}
    figure, axes = plt.subplots(2, 2, figsize=(7.2, 6.0), constrained_layout=True)
    with tempfile.TemporaryDirectory() as scratch:
        classes, raster = _classes(Path(scratch) / "classes.tif")
        shown: dict[str, dict[str, Any]] = {
            "grid": {"spacing_m": 21_120},
            "cities": {"max_count": 400, "cities": 1_500, "spread_m": 20_000},
            "uniform": {"max_count": 400},
            "stratified": {"max_count": 450, "class_raster": raster},
        }
        for axis, (strategy, fields) in zip(axes.flat, shown.items(), strict=True):
            places = _sampled(ALPS, strategy=strategy, size_m=2640, split=split, **fields)
            _background(axis, ALPS, 0.01, classes if strategy == "stratified" else None)
            _dots(axis, places, 4)
            axis.set_title(f"{strategy}: {len(places):,} places", loc="left")
    axes[0, 0].legend(handles=legend, loc="lower left", frameon=True, framealpha=0.8, edgecolor="none")
    patches = [
        Line2D([], [], marker="s", linestyle="", color=colour, markersize=6, label=name)
        for name, colour in CLASSES.values()
    ]
    axes[1, 1].legend(handles=patches, loc="lower left", frameon=True, framealpha=0.8, edgecolor="none")
    _save(figure, folder / "locations-strategies.png")


def _save(figure: Any, path: Path) -> None:
    """With a palette of 96 colours: a third of the bytes."""
    from matplotlib import pyplot as plt
    from PIL import Image

    figure.savefig(path, dpi=110)
    plt.close(figure)
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(96, dither=Image.Dither.NONE)
    small.save(path, optimize=True)


def _sampled(area: Area, **fields: Any) -> list[Location]:
    return sample_locations(LocationRequest(**fields), area, [load_product("sentinel-2-l2a")])


def _background(axis: Any, area: Area, step: float, classes: np.ndarray | None = None) -> None:
    from matplotlib.colors import ListedColormap

    west, south, east, north = area.bbox
    x, y = np.meshgrid(np.arange(west + step / 2, east, step), np.arange(north - step / 2, south, -step))
    land = on_land(x.reshape(-1), y.reshape(-1)).reshape(x.shape)
    values, colours = land.astype(int), [SEA, LAND]
    if classes is not None:
        rows = np.linspace(0, classes.shape[0] - 1, land.shape[0]).round().astype(int)
        columns = np.linspace(0, classes.shape[1] - 1, land.shape[1]).round().astype(int)
        values = classes[np.ix_(rows, columns)] - 1
        colours = [colour for _, colour in CLASSES.values()]
    axis.imshow(
        values,
        extent=(west, east, south, north),
        cmap=ListedColormap(colours),
        vmin=0,
        vmax=len(colours) - 1,
        interpolation="nearest",
        aspect=1 / np.cos(np.radians((south + north) / 2)),
    )
    axis.set(xlim=(west, east), ylim=(south, north), xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def _dots(axis: Any, places: Sequence[Location], size: float) -> None:
    colours = [SPLIT_COLOURS[place.split] for place in places]
    axis.scatter(
        [place.longitude for place in places],
        [place.latitude for place in places],
        s=size,
        c=colours,
        linewidths=0,
    )


def _classes(path: Path) -> tuple[np.ndarray, Path]:
    """A made-up landscape of three classes, the third of them on a twentieth of the area."""
    import rasterio
    from rasterio.transform import from_bounds
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(3)
    height, width = 540, 1000
    forest, town = (gaussian_filter(rng.normal(size=(height, width)), sigma) for sigma in (30, 16))
    classes = np.where(forest > np.median(forest), 1, 2).astype(np.uint8)
    classes[town > np.quantile(town, 0.95)] = 3
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=1, dtype="uint8", crs="EPSG:4326",
        transform=from_bounds(*ALPS.bbox, width, height),
    ) as file:  # fmt: skip
        file.write(classes, 1)
    return classes, path


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--maps", type=Path, default=None)
    chosen, rest = parser.parse_known_args(argv)
    if chosen.maps is not None:
        draw_maps(chosen.maps)
        return
    options = arguments(__doc__, rest)
    rows = [measure(fields, options.runs or 3) for fields in MANY.values()]
    show("Sampling places over the world", rows, ["numpy", "scipy", "pyproj"], as_json=options.json)


if __name__ == "__main__":
    main()
