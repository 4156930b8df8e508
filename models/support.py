"""A few labelled pixels for methods that pretrain with them, and the record of whose labels they were."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from catalog.errors import UsageError
from catalog.labels import LabelSet, label_window
from catalog.lineage import LABELS
from models.methods.method import MethodOptions
from models.normalisation import Normalisation
from models.physical_pixels import physical_pixels
from models.pixel_windows import cut_windows
from models.sample_batches import SampleReader
from models.sample_grids import sample_grids
from models.sample_pool import SamplePool


class SupportOptions(MethodOptions):
    """Options of a method that learns from labels too."""

    label_set: str = Field(description="its name in the recipe's archive, or the path of its file")
    labels_per_class: int = Field(100, gt=0, description="labelled pixels of each class, as far as there are")
    labels_per_place: int = Field(
        20, gt=0, description="most of one class from one place, so that they come from several"
    )


@dataclass(frozen=True)
class Support:
    """Normalised windows about labelled pixels; where the labels lie, for the record."""

    x: Tensor
    """``(labelled, band, y, x)``, the fill where invalid."""
    valid: Tensor
    """``(labelled, band, y, x)``."""
    labels: Tensor
    """``(labelled,)``: positions in ``classes``."""
    classes: tuple[int, ...]
    """Values of the label set."""
    fill: float
    """What stands where a pixel is invalid."""
    record: Mapping[str, Any]
    """What ``labels.json`` holds."""


def read_support(
    cube: Any,
    pool: SamplePool,
    reader: SampleReader,
    normalisation: Normalisation,
    label_set: LabelSet,
    options: SupportOptions,
    *,
    window_px: int,
    seed: int,
    mask_cloud: bool,
) -> Support:
    """Draw labelled pixels at places of the ``pretrain`` split, whatever else the pool holds.

    Places come in an order drawn from ``seed``, one date of each, until every class has
    ``labels_per_class``; the labels of places that were not reached are not used. A window lies wholly in
    its sample, about a valid pixel.

    Raises
    ------
    UsageError: ``nothing-to-learn-from``: fewer than two classes are labelled there.
    """
    choice = reader.choice
    places = {place.id: place for place in cube.locations(pool.snapshot) if place.split == "pretrain"}
    table = cube.columns(pool.product, pool.snapshot).set_index("row", drop=False)
    random = np.random.default_rng([seed, 3])
    wanted = dict.fromkeys(label_set.known, options.labels_per_class)
    windows: list[tuple[Tensor, Tensor]] = []
    values: list[int] = []
    used: list[dict[str, Any]] = []
    for number in random.permutation(len(pool.place_ids)):
        dates = np.arange(pool.starts[number], pool.starts[number + 1])
        at = int(random.choice(dates))
        place = places.get(pool.place_ids[number])
        if place is None:
            continue
        x, valid = physical_pixels(reader.read(pool.rows[[at]]), choice, mask_cloud=mask_cloud)
        row = table.loc[[pool.rows[at]]]
        (grid,) = sample_grids(cube, choice.product, choice.gsd_m, row, x.shape[-1], pool.snapshot)
        classes = _choose(
            label_window(label_set, grid),
            valid[0].any(0).numpy(),
            wanted,
            options.labels_per_place,
            window_px,
            random,
        )
        if not classes:
            continue
        top = torch.tensor([[y for _, y, _ in classes]])
        left = torch.tensor([[x_ for _, _, x_ in classes]])
        normalised = normalisation.apply(x, valid)
        windows.append(
            (cut_windows(normalised, top, left, window_px), cut_windows(valid, top, left, window_px))
        )
        taken = [value for value, _, _ in classes]
        values += taken
        counts = {label_set.classes[value]: taken.count(value) for value in sorted(set(taken))}
        used.append(
            {
                "sample": str(pool.ids[at]),
                "product": pool.product,
                "location": place.id,
                "epsg": place.epsg,
                "x": place.x,
                "y": place.y,
                "size_m": place.size_m,
                "split": place.split,
                "pixels": counts,
            }
        )
        for value in taken:
            wanted[value] -= 1
        if not any(wanted.values()):
            break
    found = tuple(sorted(set(values)))
    if len(found) < 2:
        raise UsageError(
            "nothing-to-learn-from",
            f"label set {label_set.name} tells {len(found)} classes at pretrain places; two are needed",
            subject=pool.product,
            next_step="name a label set that covers the area, or widen `pretrain` in locations.split",
        )
    return Support(
        x=torch.cat([window for window, _ in windows]),
        valid=torch.cat([window for _, window in windows]),
        labels=torch.tensor([found.index(value) for value in values]),
        classes=found,
        fill=normalisation.fill,
        record={
            "label_set": label_set.name,
            "licence": label_set.licence,
            "attribution": label_set.attribution,
            "classes": {label_set.classes[value]: values.count(value) for value in found},
            "samples": sorted(used, key=lambda sample: str(sample["sample"])),
        },
    )


def write_labels(folder: Path, support: Support) -> None:
    """Write ``labels.json`` into an encoder folder: which labels it learnt from, and where they lie."""
    text = json.dumps(support.record, indent=1, ensure_ascii=False)
    (folder / LABELS).write_text(text + "\n", encoding="utf-8")


def _choose(
    classes: NDArray[np.int32],
    valid: NDArray[np.bool_],
    wanted: Mapping[int, int],
    most: int,
    window_px: int,
    random: np.random.Generator,
) -> list[tuple[int, int, int]]:
    """(class, first row, first column) of windows about labelled valid pixels."""
    middle = window_px // 2
    rows, columns = (side - window_px + 1 for side in valid.shape)
    if rows < 1 or columns < 1:
        raise ValueError(f"a window of {window_px} px does not fit into {valid.shape} px")
    centre = (slice(middle, middle + rows), slice(middle, middle + columns))
    chosen = []
    for value, count in wanted.items():
        candidates = np.argwhere((classes[centre] == value) & valid[centre])
        for y, x in random.permutation(candidates)[: min(count, most)]:
            chosen.append((value, int(y), int(x)))
    return chosen
