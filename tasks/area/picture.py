"""A picture of an area's embeddings beside the pixels that they were made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.area_cubes import AreaCube, layout
from catalog.products import Product
from catalog.products.model import array_name
from catalog.quality import CLOUDY
from catalog.radiometry import conversion, to_physical
from tasks.report.pixels import picture_bands, three_channels

MOST_STEPS = 4
"""Time steps shown, the clearest ones."""
MOST_HIDDEN = 0.5
"""Share of the area that may be cloud or gap, where there are clearer time steps."""
FITTED = 20_000
"""Embeddings that the principal components are computed from."""
NOTHING = (0.93, 0.93, 0.92)
"""Colour of pixels without a value."""


def draw_embedding(cube: AreaCube, reference: str, product: Product, path: Path, *, note: str = "") -> Path:
    """Draw the clearest time steps: pixels above, the first three principal components of embeddings below.

    The components are those of all the time steps shown, so that equal colours mean like embeddings.
    """
    from matplotlib.figure import Figure

    root = cube.root()
    assert root is not None
    group = layout.subgroup(root, f"{layout.EMBEDDINGS}/{reference}")
    steps = cube.steps(product.id)
    chosen = _clearest(root, product)
    colours, shares = _components(np.stack([np.asarray(layout.array(group, "embedding")[n]) for n in chosen]))
    images, title = _images(root, product, chosen)
    extent = _extent_km(cube.grids(product.id)[min(product.resolutions_m)])
    aspect = (extent[3] - extent[2]) / (extent[1] - extent[0])
    across = len(chosen)
    width = max(7.2, 3.4 * across + 0.9)
    height = 2 * (width - 0.9) / across * aspect + 1.55
    figure = Figure(figsize=(width, height), dpi=150, facecolor="white")
    axes = figure.subplots(2, across, squeeze=False, sharex=True, sharey=True)
    for column, number in enumerate(chosen):
        for row, image in enumerate((images[column], colours[column])):
            axis = axes[row, column]
            axis.imshow(image, extent=extent, interpolation="nearest")
            axis.tick_params(labelsize=7, length=2, color="0.6", labelcolor="0.35")
            for side in axis.spines.values():
                side.set_color("0.8")
        step = steps[number]
        axes[0, column].set_title(f"{step.time:%d %B %Y}", fontsize=9.5, loc="left", pad=5)
        axes[1, column].set_xlabel("km", fontsize=7.5, color="0.35")
    axes[0, 0].set_ylabel(f"{title}\nkm", fontsize=8, color="0.2")
    axes[1, 0].set_ylabel("embedding\nkm", fontsize=8, color="0.2")
    figure.suptitle(
        f"{reference} over {cube.name}",
        x=0.012,
        y=1 - 0.12 / height,
        ha="left",
        va="top",
        fontsize=12.5,
        fontweight="bold",
    )
    parts = ", ".join(
        f"{share:.0%} {name}" for share, name in zip(shares, ("red", "green", "blue"), strict=True)
    )
    text = f"Colours below: first three principal components over all dates shown ({parts} of the variance)."
    figure.text(0.012, 0.1 / height, " ".join((text, note)).strip(), fontsize=7.5, color="0.35")
    figure.subplots_adjust(
        left=0.75 / width, right=1 - 0.12 / width, top=1 - 0.75 / height, bottom=0.66 / height,
        hspace=0.06, wspace=0.05,
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def _clearest(root: Any, product: Product) -> list[int]:
    """Time steps to show, in order of time."""
    own = layout.subgroup(root, f"{product.id}/{array_name(min(product.resolutions_m))}")
    nothing = np.asarray(layout.array(own, "nodata_fraction")[:])
    cloud = np.nan_to_num(np.asarray(layout.array(own, "cloud_fraction")[:]))
    hidden = nothing + (1 - nothing) * cloud
    order = np.argsort(hidden, kind="stable")[:MOST_STEPS]
    clear = [number for number in order if hidden[number] <= MOST_HIDDEN]
    return sorted(int(number) for number in clear or order[:1])


def _components(embeddings: NDArray[Any]) -> tuple[NDArray[np.float64], list[float]]:
    """``(step, feature, y, x)`` as colours ``(step, y, x, 3)``, and each component's share of variance."""
    from sklearn.decomposition import PCA

    vectors = np.moveaxis(embeddings.astype(np.float32), 1, -1)
    known = np.isfinite(vectors).all(-1)
    colours = np.full((*known.shape, 3), NOTHING)
    inside = vectors[known]
    shares = [0.0, 0.0, 0.0]
    components = min(3, inside.shape[-1], max(0, len(inside) - 1))
    if components:
        some = np.random.default_rng(0).choice(len(inside), min(FITTED, len(inside)), replace=False)
        fitted = PCA(components, random_state=0).fit(inside[some])
        projected = fitted.transform(inside)
        low, high = np.percentile(projected, [1, 99], axis=0)
        stretched = np.clip((projected - low) / np.maximum(high - low, 1e-9), 0, 1)
        colours[known] = 0.06 + 0.88 * np.pad(stretched, ((0, 0), (0, 3 - components)), constant_values=0.5)
        shares[:components] = [float(share) for share in fitted.explained_variance_ratio_]
    return colours, shares


def _images(root: Any, product: Product, steps: list[int]) -> tuple[list[NDArray[np.float64]], str]:
    """Pictures ``(y, x, 3)`` of time steps in one stretch, and what they show."""
    names = picture_bands(product)
    gsd = max(product.band(name).gsd_m for name in names)
    stacks, masks, clear = [], [], []
    for number in steps:
        bands, known = zip(*(_band(root, product, name, number, gsd) for name in names), strict=True)
        channels, seen = three_channels(np.stack(bands)[None], np.stack(known)[None], names)
        stacks.append(channels[0])
        masks.append(seen[0])
        clear.append(seen[0] & ~_cloudy(root, product, number, seen[0].shape))
    # Stretched by what is no cloud; clouds may well be white.
    believed = clear if any(part.any() for part in clear) else masks
    inside = np.concatenate([stack[:, mask] for stack, mask in zip(stacks, believed, strict=True)], axis=1)
    low, high = np.percentile(inside, [1, 98.5], axis=1) if inside.size else (np.zeros(3), np.ones(3))
    images = []
    for stack, mask in zip(stacks, masks, strict=True):
        stretched = (stack - low[:, None, None]) / np.maximum(high - low, 1e-9)[:, None, None]
        image = np.moveaxis(np.clip(stretched, 0, 1) ** 0.75, 0, -1)
        image[~mask] = NOTHING
        images.append(image)
    return images, f"{product.sensor}, {' '.join(names)}"


def _cloudy(root: Any, product: Product, number: int, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    gsd = layout.quality_gsd_m(product)
    flags = np.asarray(layout.array(root, f"{product.id}/{array_name(gsd)}/quality")[number])
    rows = np.arange(shape[0]) * flags.shape[0] // shape[0]
    cols = np.arange(shape[1]) * flags.shape[1] // shape[1]
    return np.asarray((flags[np.ix_(rows, cols)] & CLOUDY) != 0)


def _band(
    root: Any, product: Product, name: str, number: int, gsd: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Physical values of one band on the coarsest grid shown, by leaving pixels out."""
    band = product.band(name)
    own = layout.subgroup(root, f"{product.id}/{array_name(band.gsd_m)}")
    place = [other.name for other in product.bands_at(band.gsd_m)].index(name)
    numbers = {
        key: float(np.asarray(layout.array(own, key)[number])[place])
        for key in layout.CALIBRATION
        if key in own
    }
    step = round(gsd / band.gsd_m)
    raw = np.asarray(layout.array(own, "pixels")[number, place])[::step, ::step]
    values, valid = to_physical(raw, conversion=conversion(product, band), nodata=product.nodata, **numbers)
    return np.asarray(values, np.float64), np.asarray(valid)


def _extent_km(grid: Any) -> tuple[float, float, float, float]:
    west, south, east, north = grid.bounds
    return 0.0, (east - west) / 1000, 0.0, (north - south) / 1000
