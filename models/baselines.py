"""What every encoder is compared with: statistics, spectra, PCA; random weights come from its own config."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RANDOM_WEIGHTS = "random-weights"
"""The encoder's own architecture and normalisation, untrained."""
IMAGE_STATISTICS = "image-statistics"
RAW_SPECTRUM = "raw-spectrum"
PCA = "pca"
BASELINES = (RANDOM_WEIGHTS, IMAGE_STATISTICS, RAW_SPECTRUM, PCA)

CELLS = 8
"""A patch is averaged to at most this many cells a side before PCA."""
COMPONENTS = 64
WINDOW = 5
"""Side of the neighbourhood that the baselines see around a pixel, pixels."""

Chips = NDArray[np.floating]
"""Physical values ``(sample, band, y, x)``; NaN where invalid."""


def with_gaps(values: NDArray[np.floating], valid: NDArray[np.bool_]) -> Chips:
    """Values ``(sample, band, y, x)`` with NaN where they are invalid."""
    return np.where(valid, values, np.nan).astype(np.float32)


def image_statistics(chips: Chips) -> NDArray[np.floating]:
    """Mean, standard deviation, minimum and maximum of each band's valid pixels ``(sample, 4 × band)``.

    NaN for a band without a valid pixel; the probes put the training mean there.
    """
    flat = chips.reshape(*chips.shape[:2], -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        parts = [np.nanmean(flat, 2), np.nanstd(flat, 2), np.nanmin(flat, 2), np.nanmax(flat, 2)]
    return np.concatenate(parts, axis=1)


def mean_spectrum(chips: Chips) -> NDArray[np.floating]:
    """Mean of each band's valid pixels ``(sample, band)``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmean(chips.reshape(*chips.shape[:2], -1), 2)


def pixel_spectrum(windows: Chips) -> NDArray[np.floating]:
    """Spectrum of the centre pixel of each window ``(sample, band)``."""
    return windows[:, :, windows.shape[2] // 2, windows.shape[3] // 2]


def pixel_windows(
    chips: Chips, index: NDArray[np.integer], rows: NDArray[np.integer], columns: NDArray[np.integer]
) -> Chips:
    """The ``WINDOW`` × ``WINDOW`` neighbourhood of single pixels ``(pixel, band, y, x)``; NaN past the edge.

    ``index``, ``rows`` and ``columns`` ``(pixel,)`` say which pixel of which chip.
    """
    reach = WINDOW // 2
    padded = np.pad(chips, ((0, 0), (0, 0), (reach, reach), (reach, reach)), constant_values=np.nan)
    offsets = np.arange(WINDOW)
    y = rows[:, None, None] + offsets[None, :, None]
    x = columns[:, None, None] + offsets[None, None, :]
    return np.moveaxis(padded[index[:, None, None], :, y, x], -1, 1)


def cells(chips: Chips) -> NDArray[np.floating]:
    """Patches averaged over valid pixels to at most ``CELLS`` × ``CELLS``, flat ``(sample, band × cell)``."""
    height, width = chips.shape[2:]
    rows = np.array_split(np.arange(height), min(CELLS, height))
    columns = np.array_split(np.arange(width), min(CELLS, width))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        parts = [
            np.nanmean(chips[:, :, row[0] : row[-1] + 1, column[0] : column[-1] + 1], axis=(2, 3))
            for row in rows
            for column in columns
        ]
    return np.stack(parts, axis=2).reshape(len(chips), -1)


@dataclass(frozen=True)
class PrincipalComponents:
    """Principal components of standardised inputs, fitted on training samples only."""

    scale: Any
    model: Any

    @classmethod
    def fit(cls, inputs: NDArray[np.floating], *, seed: int = 0) -> PrincipalComponents:
        """``inputs`` ``(sample, value)`` of the training places; at most ``COMPONENTS`` components."""
        from sklearn.decomposition import PCA as Decomposition

        from models.probes import Standardiser

        scale = Standardiser.fit(inputs)
        count = max(1, min(COMPONENTS, len(inputs) - 1, inputs.shape[1]))
        solver = "randomized" if count < min(inputs.shape) // 2 else "full"
        model = Decomposition(count, svd_solver=solver, random_state=seed)
        return cls(scale, model.fit(scale.apply(inputs)))

    def apply(self, inputs: NDArray[np.floating]) -> NDArray[np.floating]:
        """Scores of the components ``(sample, component)``."""
        scores: NDArray[np.floating] = self.model.transform(self.scale.apply(inputs))
        return scores
