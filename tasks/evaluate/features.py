"""Features of what an evaluation judges: the encoder's, its untrained twins', the plain baselines'."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import baselines
from tasks.evaluate.evaluation_set import EvaluationSet

ENCODER = "encoder"
"""Name of the judged encoder among the sources of features; the others are the baselines."""
MIN_VALID_SHARE = 0.1
"""A sample of which less is valid is not judged: there is next to nothing to see."""

Reader = Callable[[NDArray[np.int64]], Iterator[tuple[Any, Any]]]
"""Rows → physical batches ``(values, valid)``, tensors ``(sample, band, y, x)``, in the order of the rows."""


@dataclass(frozen=True)
class FeatureTable:
    """Features of the same units from every source; arrays are ``(unit, …)``."""

    features: Mapping[str, NDArray[np.floating]]
    """Source → features. Untrained twins are ``random-weights/SEED``; ``pca`` holds the inputs to fit it on.
    For pairs of dates: the features of both, ``(unit, 2, feature)``."""
    valid: NDArray[np.bool_]
    """Units with enough valid pixels to be judged."""

    def take(self, index: NDArray[Any]) -> FeatureTable:
        return FeatureTable({name: part[index] for name, part in self.features.items()}, self.valid[index])


def random_name(seed: int) -> str:
    """Name of the untrained twin of one seed in a ``FeatureTable``."""
    return f"{baselines.RANDOM_WEIGHTS}/{seed}"


def feature_table(models: Mapping[str, Any], units: EvaluationSet, read: Reader) -> FeatureTable:
    """Features of every unit; pixels are read once for all sources.

    ``models``: source → ``models.encoder_files.PhysicalEncoder``.
    """
    if units.kind == "pixel-classes":
        return _pixel_table(models, units, read)
    first = _sample_table(models, units.rows, read)
    if units.later_rows is None:
        return first
    second = _sample_table(models, units.later_rows, read)
    both = {name: np.stack([part, second.features[name]], axis=1) for name, part in first.features.items()}
    return FeatureTable(both, first.valid & second.valid)


def _sample_table(models: Mapping[str, Any], rows: NDArray[np.int64], read: Reader) -> FeatureTable:
    import torch

    unique, back = np.unique(rows, return_inverse=True)
    parts: dict[str, list[NDArray[np.floating]]] = {}
    enough = []
    for values, valid in read(unique):
        with torch.inference_mode():
            for name, model in models.items():
                parts.setdefault(name, []).append(model(values, valid).float().cpu().numpy())
        chips = baselines.with_gaps(values.cpu().numpy(), valid.cpu().numpy())
        for name, compute in (
            (baselines.IMAGE_STATISTICS, baselines.image_statistics),
            (baselines.RAW_SPECTRUM, baselines.mean_spectrum),
            (baselines.PCA, baselines.cells),
        ):
            parts.setdefault(name, []).append(compute(chips).astype(np.float32))
        enough.append(valid.float().mean((1, 2, 3)).cpu().numpy() >= MIN_VALID_SHARE)
    return FeatureTable(
        {name: np.concatenate(pieces)[back] for name, pieces in parts.items()}, np.concatenate(enough)[back]
    )


def _pixel_table(models: Mapping[str, Any], units: EvaluationSet, read: Reader) -> FeatureTable:
    """Dense features, interpolated bilinearly to the pixels; the baselines see a window around each."""
    import torch

    assert units.y is not None and units.x is not None
    unique, sample = np.unique(units.rows, return_inverse=True)
    order = np.argsort(sample, kind="stable")
    parts: dict[str, list[NDArray[np.floating]]] = {}
    enough = []
    start = 0
    for values, valid in read(unique):
        here = order[
            np.searchsorted(sample[order], start) : np.searchsorted(sample[order], start + len(values))
        ]
        index, y, x = sample[here] - start, units.y[here], units.x[here]
        start += len(values)
        with torch.inference_mode():
            for name, model in models.items():
                at = _at_pixels(model.dense(values, valid), index, y, x, values.shape[-2:])
                parts.setdefault(name, []).append(at)
        chips = baselines.with_gaps(values.cpu().numpy(), valid.cpu().numpy())
        windows = baselines.pixel_windows(chips, index, y, x)
        parts.setdefault(baselines.IMAGE_STATISTICS, []).append(baselines.image_statistics(windows))
        parts.setdefault(baselines.RAW_SPECTRUM, []).append(baselines.pixel_spectrum(windows))
        parts.setdefault(baselines.PCA, []).append(windows.reshape(len(windows), -1))
        # Half of the bands at least; a pixel seen by fewer is a gap.
        enough.append(valid.cpu().numpy()[index, :, y, x].mean(1) >= 0.5)
    back = np.empty(len(order), np.int64)
    back[order] = np.arange(len(order))
    return FeatureTable(
        {name: np.concatenate(pieces)[back] for name, pieces in parts.items()}, np.concatenate(enough)[back]
    )


def _at_pixels(
    maps: Any, index: NDArray[Any], y: NDArray[Any], x: NDArray[Any], shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Feature maps ``(sample, d, h, w)`` interpolated bilinearly at pixel centres: ``(unit, d)``."""
    maps = maps.float().cpu().numpy()
    height, width = maps.shape[2:]
    row = np.clip((y + 0.5) * height / shape[0] - 0.5, 0, height - 1)
    column = np.clip((x + 0.5) * width / shape[1] - 0.5, 0, width - 1)
    top, left = np.floor(row).astype(int), np.floor(column).astype(int)
    bottom, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    down, across = (row - top)[:, None], (column - left)[:, None]
    upper = maps[index, :, top, left] * (1 - across) + maps[index, :, top, right] * across
    lower = maps[index, :, bottom, left] * (1 - across) + maps[index, :, bottom, right] * across
    result: NDArray[np.float32] = (upper * (1 - down) + lower * down).astype(np.float32)
    return result
