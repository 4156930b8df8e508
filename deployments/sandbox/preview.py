"""Draws a contact sheet of a sandbox archive, to see whether it looks like a landscape."""

from __future__ import annotations

import argparse
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deployments.sandbox import SandboxInfo, make_sandbox
from deployments.sandbox.plan import ALL_PRODUCTS
from deployments.sandbox.seasons import CLASSES
from deployments.sandbox.sensors.landsat_instruments import INSTRUMENTS

COLOURS = ("#000000", "#2b6cb0", "#3f8f3a", "#14532d", "#a3d977", "#f2c14e", "#e07a1f", "#b08968", "#c0392b")
"""Of the classes, in the order of their ids; 0 is no label."""


def contact_sheet(info: SandboxInfo, path: Path, *, columns: int = 7) -> Path:
    """Write a PNG with every scene of every product and the class maps."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import rasterio
    from matplotlib.colors import ListedColormap

    tiles: list[tuple[str, Any, dict[str, Any]]] = []
    for map_path in sorted((info.folder / "labels").glob("*.tif")):
        with rasterio.open(map_path) as file:
            colours = {"cmap": ListedColormap(COLOURS), "vmin": 0, "vmax": 8, "interpolation": "nearest"}
            tiles.append((f"classes {map_path.stem[-5:]}", file.read(1), colours))
    for product, collection in info.collections.items():
        lines = (info.folder / "items" / f"{collection}.ndjson").read_text(encoding="utf-8").splitlines()
        for item in (json.loads(line) for line in lines):
            if item["id"] not in info.scenes[product]:
                continue  # another product of the same collection
            title = f"{item['properties']['datetime'][:10]} {_role(info, product, item['id'])}"
            tiles.append((f"{product} {title}", _picture(info.folder, product, item), {}))
    rows = -(-len(tiles) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3 * columns, 3.15 * rows), squeeze=False)
    for axis in axes.ravel():
        axis.axis("off")
    for axis, (title, pixels, options) in zip(axes.ravel(), tiles, strict=False):
        axis.imshow(pixels, **options)
        axis.set_title(title, fontsize=7)
    figure.suptitle(
        f"Simulated: {', '.join(f'{value} {name}' for value, name in CLASSES.items())}", fontsize=9
    )
    figure.tight_layout(rect=(0, 0, 1, 0.985))
    figure.savefig(path, dpi=80)
    plt.close(figure)
    return path


def _role(info: SandboxInfo, product: str, scene: str) -> str:
    if scene == info.refused[product]:
        return "to be refused"
    if scene in info.superseded[product]:
        return "older version" if scene == info.superseded[product][0] else "reprocessed"
    return scene.split("_")[4] if product == "sentinel-2-l2a" else ""


def _picture(folder: Path, product: str, item: dict[str, Any]) -> NDArray[np.float64]:
    """A natural-colour picture of one scene, ``(y, x, 3)`` in 0-1."""
    import rasterio

    def band(key: str, number: int = 1) -> NDArray[np.float64]:
        with rasterio.open(folder / item["assets"][key]["href"].lstrip("/")) as file:
            return np.asarray(file.read(number), float)

    if product == "sentinel-1-rtc":
        vv, vh = (np.log10(np.maximum(band(key), 1e-4)) * 10 for key in ("vv", "vh"))
        rgb = np.stack([(vv + 20) / 20, (vh + 27) / 20, (vv - vh) / 14], -1)
        return np.asarray(np.clip(rgb, 0, 1))
    if product == "sentinel-2-l2a":
        rgb = np.stack([(band(key) - _offset(item)) / 1e4 for key in ("B04", "B03", "B02")], -1)
    elif product == "sentinel-2-l1c":
        rgb = np.stack([(band(key) - _offset(item)) / 1e4 for key in ("red", "green", "blue")], -1)
    elif product.endswith("-toa"):
        rgb = _level_1(item, {key: band(key) for key in ("red", "green", "blue")})
    elif product.startswith("landsat-"):
        rgb = np.stack([band(key) * 2.75e-5 - 0.2 for key in ("red", "green", "blue")], -1)
    else:
        rgb = np.stack([band("image", number) * 1e-4 for number in (48, 31, 15)], -1)
    return np.asarray(np.clip(np.clip(rgb, 0, None) / 0.24, 0, 1) ** 0.7)


def _offset(item: dict[str, Any]) -> int:
    return 1000 if item["properties"]["s2:processing_baseline"] >= "04.00" else 0


def _level_1(item: dict[str, Any], numbers: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    properties = item["properties"]
    instrument = INSTRUMENTS[properties["platform"].lower().replace("_", "-")]
    when = datetime.fromisoformat(properties["datetime"])
    sine = np.sin(np.radians(properties["view:sun_elevation"]))
    parts = []
    for key, values in numbers.items():
        facts = instrument.level_1[key].coefficients(when)
        physical = (values * facts["reflectance_mult"] + facts["reflectance_add"]) / sine
        parts.append(np.where(values == 0, 0, physical))
    return np.stack(parts, -1)


def main() -> None:
    """``python -m deployments.sandbox.preview FOLDER PICTURE.png``"""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the sandbox archive; made if it is not there")
    parser.add_argument("picture", type=Path, help="PNG to write")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--all", action="store_true", help="every product, two dates of each")
    arguments = parser.parse_args()
    options: dict[str, Any] = {"products": ALL_PRODUCTS, "dates": 2, "size_m": 1920} if arguments.all else {}
    contact_sheet(make_sandbox(arguments.folder, seed=arguments.seed, **options), arguments.picture)


if __name__ == "__main__":
    main()
