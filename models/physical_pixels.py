"""Raw samples of a cube as physical pixels on one common grid, on the training device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from catalog import radiometry
from catalog.errors import UsageError
from catalog.products import Product
from catalog.products.model import Band
from catalog.quality import CLOUDY, INVALID


@dataclass(frozen=True)
class RawSamples:
    """Samples of one product as the cube stores them: the bands wanted, per native resolution."""

    rows: NDArray[np.int64]
    pixels: Mapping[float, NDArray[Any]]
    """Ground sampling in metres → ``(sample, band, y, x)``."""
    quality: NDArray[np.uint8] | None
    """``catalog.quality`` flags ``(sample, y, x)`` on the QA layer's grid."""
    calibration: Mapping[str, NDArray[np.float64]]
    """``scale``, ``offset``, ``k1``, ``k2`` of the bands wanted, ``(sample, band)``."""


@dataclass(frozen=True)
class BandChoice:
    """Which bands of a product an encoder sees, in which order, on which grid."""

    product: Product
    names: tuple[str, ...]
    gsd_m: float

    @cached_property
    def bands(self) -> tuple[Band, ...]:
        return tuple(self.product.band(name) for name in self.names)

    @cached_property
    def by_resolution(self) -> dict[float, list[int]]:
        """Native ground sampling → positions in ``names``."""
        found: dict[float, list[int]] = {}
        for position, band in enumerate(self.bands):
            found.setdefault(band.gsd_m, []).append(position)
        return found

    @cached_property
    def columns(self) -> dict[float, list[int]]:
        """Native ground sampling → positions in the cube's array of it, aligned with ``by_resolution``."""
        return {
            gsd: [
                [band.name for band in self.product.bands_at(gsd)].index(self.names[position])
                for position in positions
            ]
            for gsd, positions in self.by_resolution.items()
        }

    @cached_property
    def product_columns(self) -> list[int]:
        """Positions in the product's band order, where per-band calibration is kept."""
        order = self.product.band_names
        return [order.index(name) for name in self.names]


def choose_bands(
    product: Product,
    names: tuple[str, ...] | None = None,
    wavelengths_nm: tuple[tuple[float, float], ...] | None = None,
    gsd_m: float | None = None,
) -> BandChoice:
    """The bands a recipe asks for: by name, or those whose centre lies in a range, else all.

    ``gsd_m`` defaults to the finest of the chosen bands.
    """
    if names is not None:
        unknown = [name for name in names if name not in product.band_names]
        if unknown:
            raise UsageError(
                "unknown-band",
                f"{product.id} has no band {', '.join(unknown)}; it has {', '.join(product.band_names)}",
                subject=product.id,
                next_step="correct `bands` in the recipe",
            )
        chosen = [product.band(name) for name in names]
    else:
        chosen = list(product.bands)
    if wavelengths_nm is not None:
        chosen = [
            band
            for band in chosen
            if band.center_nm is not None
            and any(low <= band.center_nm <= high for low, high in wavelengths_nm)
        ]
    if not chosen:
        raise UsageError(
            "no-band",
            "no band lies in the wavelengths asked for",
            subject=product.id,
            next_step="widen `wavelengths_nm` in the recipe",
        )
    return BandChoice(
        product, tuple(band.name for band in chosen), gsd_m or min(band.gsd_m for band in chosen)
    )


def physical_pixels(
    raw: RawSamples, choice: BandChoice, *, mask_cloud: bool, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """``(values, valid)``, both ``(sample, band, y, x)``, in physical units on the common grid.

    Invalid is what holds no data, what the QA flags as no data or saturated, and with ``mask_cloud`` what it
    flags as cloud, shadow or cirrus. Invalid values are 0. Finer grids are averaged over valid pixels (of
    decibels: in decibels), coarser ones interpolated bilinearly between valid pixels.
    """
    size_px = _common_size(raw, choice)
    parts, order = [], []
    for gsd, positions in choice.by_resolution.items():
        # Up to 16-bit integers are exact in float32, and torch compares few other types on every device.
        pixels = torch.from_numpy(np.ascontiguousarray(raw.pixels[gsd])).to(device).to(torch.float32)
        kinds = [radiometry.conversion(choice.product, choice.bands[position]) for position in positions]
        for kind in dict.fromkeys(kinds):
            at = [index for index, other in enumerate(kinds) if other == kind]
            of = [positions[index] for index in at]
            native, known = radiometry.to_physical(
                pixels if len(at) == len(kinds) else pixels[:, at],
                conversion=kind,
                nodata=choice.product.nodata,
                xp=torch,
                **{name: _per_band(raw.calibration[name][:, of], device) for name in raw.calibration},
            )
            parts.append(on_grid(native, known, size_px))
            order += of
    values, valid = torch.cat([part[0] for part in parts], 1), torch.cat([part[1] for part in parts], 1)
    if order != sorted(order):
        back = torch.tensor(np.argsort(order), device=device)
        values, valid = values.index_select(1, back), valid.index_select(1, back)
    if raw.quality is not None:
        flags = torch.from_numpy(np.ascontiguousarray(raw.quality)).to(device)
        refused = (flags & (INVALID | (CLOUDY if mask_cloud else 0))) != 0
        if bool(refused.any()):
            valid = valid & ~_nearest(refused[:, None], size_px)
            values = torch.where(valid, values, 0.0)
    return values, valid


def one_mask(valid: Tensor) -> Tensor:
    """``(batch, band, y, x)`` as ``(batch, 1, y, x)`` where all bands agree (mostly): half the work."""
    first = valid[:, :1]
    return first if bool((valid == first).all()) else valid


def on_grid(values: Tensor, valid: Tensor, size_px: int) -> tuple[Tensor, Tensor]:
    """Bring ``(sample, band, y, x)`` to ``size_px`` over the same ground, mixing valid pixels only."""
    side = values.shape[-1]
    if side == size_px:
        return values, valid
    if bool(valid.all()):
        mixed = F.adaptive_avg_pool2d(values, size_px) if side > size_px else _bilinear(values, size_px)
        return mixed, valid.new_ones(mixed.shape)
    weight = valid.to(values.dtype)
    values = torch.where(valid, values, 0.0)
    if side > size_px:
        mixed, share = F.adaptive_avg_pool2d(values, size_px), F.adaptive_avg_pool2d(weight, size_px)
        kept = share >= 0.5
    else:
        mixed = _bilinear(values, size_px)
        share = _bilinear(weight, size_px)
        kept = _nearest(valid, size_px)
    return torch.where(kept, mixed / share.clamp(min=1e-6), 0.0), kept


def _bilinear(values: Tensor, size_px: int) -> Tensor:
    return F.interpolate(values, size=(size_px, size_px), mode="bilinear", align_corners=False)


def _nearest(flags: Tensor, size_px: int) -> Tensor:
    if flags.shape[-1] == size_px:
        return flags
    return F.interpolate(flags.to(torch.float32), size=(size_px, size_px), mode="nearest-exact") > 0.5


def _per_band(values: NDArray[np.float64], device: torch.device | str) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)).to(device)[:, :, None, None]


def _common_size(raw: RawSamples, choice: BandChoice) -> int:
    gsd = next(iter(choice.by_resolution))
    side: int = raw.pixels[gsd].shape[-1]
    return max(1, round(side * gsd / choice.gsd_m))
