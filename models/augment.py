"""Random views of a batch, on its device, for any number of bands; masks follow the pixels.

Pixels are z-scored floats: nothing here clamps. Interpolating steps mix valid pixels only (values and mask
are filtered together and divided), so what lies under a mask never reaches a view.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import kornia.augmentation as kornia_augmentation
import torch
import torch.nn.functional as F
from torch import Tensor

from models.spectral_augment import SpectralChanges, grey

_KEPT_SHARE = 0.5
"""An interpolated pixel is valid where at least this share of its weight came from valid ones."""
_ASPECT = (3 / 4, 4 / 3)


@dataclass(frozen=True)
class Augmentation:
    """What a view may look like; each step is left out where its setting is None or 0."""

    size_px: int
    """Side of the view."""
    crop_scale: tuple[float, float] | None = None
    """Share of the area that a random resized crop keeps; without it a window is cut, unscaled."""
    flips: bool = True
    """Left-right and upside-down, each for half of the samples."""
    quarter_turns: bool = False
    """A random multiple of 90° (ground has no up)."""
    brightness: float = 0.0
    """Largest shift, the same for all bands, in standard deviations of the band."""
    contrast: float = 0.0
    """Largest relative change of the deviation from the band's mean over the view."""
    blur: float = 0.0
    """Share of samples that are blurred, with a deviation of 0.1 to 2 px."""
    intensity_share: float = 0.8
    """Share of samples whose brightness and contrast change."""
    grey: float = 0.0
    """Share of samples whose bands all become their mean."""
    spectral: SpectralChanges | None = None
    """Changes along the spectral axis, after all others."""
    shift_px: int | None = None
    """Largest distance of the window from the sample's centre, where it is not scaled; any if None."""

    def __call__(self, x: Tensor, valid: Tensor, *, fill: float = 0.0) -> tuple[Tensor, Tensor]:
        """One view of ``x (batch, band, y, x)`` with ``valid (batch, 1 or band, y, x)``; uses torch's RNG."""
        if self.crop_scale is not None:
            x, valid = resized_crop(x, valid, self.size_px, self.crop_scale)
        else:
            x, valid = random_window(x, valid, self.size_px, self.shift_px)
        if self.flips:
            x, valid = random_flip(x, valid, -1)
            x, valid = random_flip(x, valid, -2)
        if self.quarter_turns:
            x, valid = random_quarter_turn(x, valid)
        if self.brightness or self.contrast:
            x = change_intensity(x, valid, self.brightness, self.contrast, self.intensity_share)
        if self.grey:
            x = grey(x, valid, self.grey)
        if self.blur:
            x, valid = blurred(x, valid, self.blur)
        if self.spectral is not None:
            x = self.spectral(x, valid)
        return torch.where(valid, x, fill), valid


def resized_crop(x: Tensor, valid: Tensor, size_px: int, scale: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Random resized crop: area share in ``scale``, aspect 3/4…4/3, bilinear.

    One ``grid_sample`` for the whole batch. kornia's gives the same crops but takes 23 ms instead of 2.4
    for 64 x 13 x 48 x 48 values on two cores, a sixth of a ResNet-18 step.
    """
    return crop_at(x, valid, random_crops(len(x), scale), size_px)


def random_crops(batch: int, scale: tuple[float, float]) -> Tensor:
    """Where crops lie: affine maps ``(batch, 2, 3)`` from a crop's coordinates (-1 … 1) to its sample's."""
    area = torch.empty(batch).uniform_(*scale)
    aspect = torch.empty(batch).uniform_(*map(math.log, _ASPECT)).exp()
    width = (area * aspect).sqrt().clamp(max=1.0)
    height = (area / aspect).sqrt().clamp(max=1.0)
    right = (torch.rand(batch) * 2 - 1) * (1 - width)
    down = (torch.rand(batch) * 2 - 1) * (1 - height)
    zero = torch.zeros(batch)
    return torch.stack([width, zero, right, zero, height, down], 1).view(batch, 2, 3)


def crop_at(x: Tensor, valid: Tensor, theta: Tensor, size_px: int) -> tuple[Tensor, Tensor]:
    """The crops that ``theta (batch, 2, 3)`` describes, ``size_px`` wide, bilinear."""
    stacked = _stack(x, valid)
    shape = [len(x), stacked.shape[1], size_px, size_px]
    grid = F.affine_grid(theta.to(stacked), shape, align_corners=False)
    sampled = F.grid_sample(stacked, grid, padding_mode="border", align_corners=False)
    return _unstack(sampled, x.shape[1])


def random_window(
    x: Tensor, valid: Tensor, size_px: int, shift_px: int | None = None
) -> tuple[Tensor, Tensor]:
    """A window of ``size_px``, one for the whole batch, copied pixel by pixel.

    With ``shift_px`` it lies at most so many pixels from the centre, along each axis: two such windows show
    the same ground shifted by up to twice as much, as in HSI-PAWS (Pande et al. 2023, arXiv 2306.10955).
    """
    spare_y, spare_x = x.shape[-2] - size_px, x.shape[-1] - size_px
    if spare_y < 0 or spare_x < 0:
        raise ValueError(f"a view of {size_px} px does not fit into {tuple(x.shape[-2:])} px without scaling")
    top, left = (_start(spare, shift_px) for spare in (spare_y, spare_x))
    window = (..., slice(top, top + size_px), slice(left, left + size_px))
    return x[window], valid[window]


def _start(spare_px: int, shift_px: int | None) -> int:
    if shift_px is None:
        return int(torch.randint(spare_px + 1, ()))
    centre = spare_px // 2
    first, last = max(0, centre - shift_px), min(spare_px, centre + shift_px)
    return int(torch.randint(first, last + 1, ()))


def random_flip(x: Tensor, valid: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Mirror half of the samples along ``axis``."""
    chosen = (torch.rand(len(x)) < 0.5).to(x.device)[:, None, None, None]
    return torch.where(chosen, x.flip(axis), x), torch.where(chosen, valid.flip(axis), valid)


def random_quarter_turn(x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Turn each sample by 0°, 90°, 180° or 270°; samples are square."""
    turns = torch.randint(4, (len(x),)).to(x.device)[:, None, None, None]
    turned, turned_valid = x, valid
    for turn in (1, 2, 3):
        turned = torch.where(turns == turn, x.rot90(turn, (-2, -1)), turned)
        turned_valid = torch.where(turns == turn, valid.rot90(turn, (-2, -1)), turned_valid)
    return turned, turned_valid


def change_intensity(x: Tensor, valid: Tensor, brightness: float, contrast: float, share: float) -> Tensor:
    """Shift all bands of a sample alike, and stretch each band about its own mean over valid pixels."""
    shape = (len(x), 1, 1, 1)
    chosen = (torch.rand(shape) < share).float()
    shift = (torch.rand(shape) * 2 - 1) * brightness * chosen
    factor = 1 + (torch.rand(shape) * 2 - 1) * contrast * chosen
    weight = valid.to(x.dtype)
    count = weight.sum((2, 3), keepdim=True).clamp(min=1)
    mean = torch.where(valid, x, 0.0).sum((2, 3), keepdim=True) / count
    return (x - mean) * factor.to(x) + mean + shift.to(x)


def blurred(x: Tensor, valid: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Gaussian blur of ``share`` of the samples, over valid pixels only; which pixels are valid stays."""
    blur = _blur(_kernel_px(x.shape[-1]), share)
    if bool(valid.all()):
        return blur(x), valid
    smooth, _ = _unstack(blur(_stack(x, valid)), x.shape[1])
    return torch.where(valid, smooth, 0.0), valid


def _kernel_px(size_px: int) -> int:
    """A tenth of the side, odd, at least 3: the rule of SSL4EO-L's recipe."""
    return max(3, size_px // 10 // 2 * 2 + 1)


@lru_cache(maxsize=8)
def _blur(kernel_px: int, share: float) -> kornia_augmentation.RandomGaussianBlur:
    return kornia_augmentation.RandomGaussianBlur((kernel_px, kernel_px), (0.1, 2.0), p=share)


def _stack(x: Tensor, valid: Tensor) -> Tensor:
    """Values, zero where invalid, and weights, as one image with ``band + (1 or band)`` channels."""
    return torch.cat([torch.where(valid, x, 0.0), valid.to(x.dtype)], 1)


def _unstack(stacked: Tensor, bands: int) -> tuple[Tensor, Tensor]:
    """Mean of the valid pixels that went into each pixel, and whether enough did."""
    values, weight = stacked[:, :bands], stacked[:, bands:]
    valid = weight >= _KEPT_SHARE
    return torch.where(valid, values / weight.clamp(min=1e-6), 0.0), valid
