"""What the report shows of a cube: where its samples lie, what they look like, and their spectra by class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.products.model import Product
from models.sample_grids import sample_grids

CELL_PX = 96
"""Side of one sample in a quicklook, about."""
MOST_HIDDEN = 0.3
"""Share of a sample that may be cloud or gap, where there are enough others to show."""


@dataclass(frozen=True)
class ClassSpectra:
    """Spectra of classes over samples."""

    spectra: dict[str, dict[str, NDArray[np.floating]]]
    """Class → ``{"mean", "low", "high"}`` ``(band,)``: mean and quartiles over samples."""
    bands: tuple[str, ...]
    wavelengths_nm: tuple[float | None, ...]
    unit: str
    samples: int


def location_table(cube: Any, snapshot: str | None = None) -> Any:
    """DataFrame of a snapshot's locations: ``id, epsg, x, y, size_m, split, block``."""
    import pandas as pd

    columns = ["id", "epsg", "x", "y", "size_m", "split", "block"]
    rows = [[getattr(location, name) for name in columns] for location in cube.locations(snapshot)]
    return pd.DataFrame(rows, columns=columns)


def quicklook(
    cube: Any, product: Product, snapshot: str | None = None, *, columns: int = 10, rows: int = 3
) -> NDArray[np.uint8] | None:
    """Some samples of a product as one picture ``(y, x, 4)``: a column per place, a row per date.

    Natural colours where the product has them, VV, VH and their difference for radar, else three bands.
    Each channel is stretched between the 2nd and 98th percentile of the cloud-free pixels shown. Invalid
    pixels are transparent. None where the snapshot holds no sample of the product.
    """
    from models.physical_pixels import choose_bands, physical_pixels
    from models.sample_batches import SampleReader

    chosen = _picture_rows(cube, product, snapshot, columns, rows)
    if not chosen:
        return None
    flat = np.array(sorted({row for column in chosen for row in column}), np.int64)
    choice = choose_bands(product, picture_bands(product))
    reader = SampleReader(cube, snapshot or cube.snapshot(), choice, flat)
    raw = reader.read(flat)
    values, valid = (part.numpy() for part in physical_pixels(raw, choice, mask_cloud=False))
    channels, seen = three_channels(values, valid, choice.names)
    clear = seen & physical_pixels(raw, choice, mask_cloud=True)[1].numpy().all(1)
    picture = np.zeros((*channels.shape[:1], *channels.shape[2:], 4), np.uint8)
    for index in range(3):
        inside = channels[:, index][clear if clear.any() else seen]
        low, high = np.percentile(inside, [2, 98]) if len(inside) else (0.0, 1.0)
        stretched = np.clip((channels[:, index] - low) / max(float(high - low), 1e-9), 0, 1)
        picture[..., index] = np.round(255 * stretched**0.85)
    picture[..., 3] = np.where(seen, 255, 0)
    return _mosaic({int(row): image for row, image in zip(flat, picture, strict=True)}, chosen)


def class_spectra(
    cube: Any,
    product: Product,
    label_set: Any,
    snapshot: str | None = None,
    *,
    max_samples: int = 120,
) -> ClassSpectra | None:
    """Mean spectrum of the pixels of each class, over samples of which at least nine pixels show it.

    Pixels that the QA layer calls cloud are left out. None where nothing is labelled.
    """
    from catalog.labels import label_window
    from models.physical_pixels import choose_bands, physical_pixels
    from models.sample_batches import SampleReader

    snapshot = snapshot or cube.snapshot()
    table = _current(cube, product, snapshot)
    if table.empty:
        return None
    table = table.iloc[np.unique(np.linspace(0, len(table) - 1, max_samples).astype(int))]
    choice = choose_bands(product)
    wanted = table["row"].to_numpy(np.int64)
    reader = SampleReader(cube, snapshot, choice, np.sort(wanted))
    gathered: dict[int, list[NDArray[np.floating]]] = {}
    for start in range(0, len(wanted), 32):
        rows = wanted[start : start + 32]
        values, valid = (part.numpy() for part in physical_pixels(reader.read(rows), choice, mask_cloud=True))
        grids = sample_grids(
            cube, product, choice.gsd_m, table.iloc[start : start + 32], values.shape[-1], snapshot
        )
        for image, known, grid in zip(values, valid, grids, strict=True):
            labels = label_window(label_set, grid)
            for value in np.unique(labels[labels >= 0]):
                inside = known & (labels == value)
                count = inside.sum((1, 2))
                if count.max() < 9:
                    continue
                mean = np.where(inside, image, 0).sum((1, 2)) / np.maximum(count, 1)
                gathered.setdefault(int(value), []).append(np.where(count > 0, mean, np.nan))
    if not gathered:
        return None
    spectra = {}
    for value, means in sorted(gathered.items()):
        stack = np.stack(means)
        low, high = np.nanquantile(stack, [0.25, 0.75], axis=0)
        name = str(label_set.classes.get(value, value))
        spectra[name] = {"mean": np.nanmean(stack, 0), "low": low, "high": high}
    return ClassSpectra(
        spectra, choice.names, tuple(band.center_nm for band in choice.bands), _unit(product), len(wanted)
    )


def _current(cube: Any, product: Product, snapshot: str | None) -> Any:
    """Rows of samples whose scene was not reprocessed."""
    table = cube.columns(product.id, snapshot)
    return table[table["superseded_by"].fillna("").astype(str) == ""]


def _picture_rows(
    cube: Any, product: Product, snapshot: str | None, columns: int, rows: int
) -> list[list[int]]:
    """Per place, the rows of its clearest dates in order of time; places that are hardly seen come last."""
    table = _current(cube, product, snapshot)
    if table.empty:
        return []
    table = table.assign(hidden=table["nodata_fraction"] + table["cloud_fraction"].fillna(0))
    table = table.sort_values(["location", "hidden", "row"])
    worst = table.groupby("location").head(rows).groupby("location")["hidden"].max()
    bright = sorted(worst.index[worst <= MOST_HIDDEN])
    places = bright if len(bright) >= columns else sorted(worst.nsmallest(columns).index)
    places = [places[index] for index in np.unique(np.linspace(0, len(places) - 1, columns).astype(int))]
    chosen = []
    for place in places:
        part = table[table["location"] == place].nsmallest(rows, "hidden").sort_values("time")
        chosen.append([int(row) for row in part["row"]])
    return chosen


def picture_bands(product: Product) -> tuple[str, ...]:
    """Bands that make a picture: natural colours where there are any, else up to three."""
    names = {band.common_name: band.name for band in product.bands if band.common_name}
    if {"red", "green", "blue"} <= names.keys():
        return names["red"], names["green"], names["blue"]
    optical = [band for band in product.bands if band.center_nm is not None]
    if len(optical) >= 3:
        return tuple(
            min(optical, key=lambda band: abs((band.center_nm or 0) - wanted)).name
            for wanted in (660, 560, 480)
        )
    return product.band_names[:3]


def three_channels(
    values: NDArray[np.floating], valid: NDArray[np.bool_], names: tuple[str, ...]
) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """``(sample, 3, y, x)`` and which pixels ``(sample, y, x)`` are known in all of them."""
    if len(names) == 2:
        values = np.stack([values[:, 0], values[:, 1], values[:, 0] - values[:, 1]], axis=1)
    elif len(names) == 1:
        values = np.repeat(values, 3, axis=1)
    return values[:, :3], valid.all(1)


def _mosaic(images: dict[int, NDArray[np.uint8]], chosen: list[list[int]]) -> NDArray[np.uint8]:
    side = next(iter(images.values())).shape[0]
    factor, step = max(1, round(CELL_PX / side)), max(1, round(side / CELL_PX))
    cell = len(range(0, side, step)) * factor
    pitch = cell + 3
    height, width = max(map(len, chosen)) * pitch - 3, len(chosen) * pitch - 3
    canvas = np.zeros((height, width, 4), np.uint8)
    for column, rows in enumerate(chosen):
        for line, row in enumerate(rows):
            image = images[row][::step, ::step].repeat(factor, 0).repeat(factor, 1)
            canvas[line * pitch : line * pitch + cell, column * pitch : column * pitch + cell] = image
    return canvas


def _unit(product: Product) -> str:
    quantities = {band.quantity for band in product.bands}
    names = {"reflectance": "reflectance", "gamma0_db": "γ⁰, dB", "sigma0_db": "σ⁰, dB", "kelvin": "kelvin"}
    return " / ".join(sorted(names[quantity] for quantity in quantities))
