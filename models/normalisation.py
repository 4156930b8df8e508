"""Band statistics over the valid pixels of a snapshot, frozen with the weights that were trained on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Normalisation:
    """(value - mean) / std per band in physical units; invalid pixels become ``fill`` afterwards."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    fill: float = 0.0

    def apply(self, values: Tensor, valid: Tensor) -> Tensor:
        """Physical ``values (batch, band, y, x)`` → normalised, filled where not ``valid``."""
        mean = torch.tensor(self.mean, dtype=values.dtype, device=values.device)[:, None, None]
        std = torch.tensor(self.std, dtype=values.dtype, device=values.device)[:, None, None]
        # `where` and not a product: what lies under the mask may be NaN.
        return torch.where(valid, (values - mean) / std, self.fill)

    def to_dict(self) -> dict[str, Any]:
        return {"mean": list(self.mean), "std": list(self.std), "fill": self.fill}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Normalisation:
        return cls(tuple(document["mean"]), tuple(document["std"]), float(document.get("fill", 0.0)))


class BandStatistics:
    """Running mean and deviation per band in float64; merged as in Chan, Golub & LeVeque 1979."""

    def __init__(self, bands: int) -> None:
        self.count: NDArray[np.float64] = np.zeros(bands)
        self.mean: NDArray[np.float64] = np.zeros(bands)
        self._squares: NDArray[np.float64] = np.zeros(bands)

    def update(self, values: NDArray[Any], valid: NDArray[np.bool_]) -> None:
        """Add ``values`` and ``valid``, both ``(sample, band, y, x)``."""
        axes = (0, 2, 3)
        valid = np.broadcast_to(valid, values.shape)
        count = valid.sum(axes).astype(np.float64)
        safe = np.maximum(count, 1)
        kept = np.where(valid, values, 0).astype(np.float64)
        mean = kept.sum(axes) / safe
        squares = (np.where(valid, values - mean[:, None, None], 0).astype(np.float64) ** 2).sum(axes)
        total = self.count + count
        shift = np.where(count > 0, mean - self.mean, 0.0)
        ratio = count / np.maximum(total, 1)
        self.mean = self.mean + shift * ratio
        self._squares = self._squares + squares + shift**2 * self.count * ratio
        self.count = total

    @property
    def std(self) -> NDArray[np.float64]:
        """Population deviation; 1 for a band that is constant or has no valid pixel."""
        std = np.sqrt(self._squares / np.maximum(self.count, 1))
        return np.where(std > 0, std, 1.0)

    def normalisation(self) -> Normalisation:
        return Normalisation(tuple(map(float, self.mean)), tuple(map(float, self.std)))


def statistics_of(batches: Iterable[tuple[Tensor, Tensor]], bands: int) -> Normalisation:
    """Statistics of ``(values, valid)`` batches, each ``(sample, band, y, x)``."""
    statistics = BandStatistics(bands)
    for values, valid in batches:
        statistics.update(values.cpu().numpy(), valid.cpu().numpy())
    return statistics.normalisation()
