"""The spectral adapter: folds any number (75 and more) of narrow bands into 128 channels, pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from timm.models.resnet import ResNet
from torch import Tensor, nn

from catalog.errors import TrainingError
from models.wavelengths import resampling, wavelength_code

ADAPTER_CHANNELS = 128
MIN_BANDS = 75
"""The last convolution has no output below this."""

_LAYERS = ((1, 32, 7, 5), (32, 64, 7, 5), (64, 128, 5, 3))
"""(channels in, channels out, kernel, stride) along the spectral axis; padding 1."""


class SpectralAdapter(nn.Sequential):
    """Three spectral convolutions and a spectral average; pixels never meet each other.

    As in SpectralEarth (Ait Ali Braham et al. 2025, arXiv 2408.08447); parameter names are those of its
    released weights (``0``, ``1``, ``3``, ``4``, ``6``, ``7``). The weights do not depend on the number of
    bands, but they do on the band spacing: wavelengths are not told to it.
    """

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        for channels_in, channels_out, kernel, stride in _LAYERS:
            layers += [
                nn.Conv3d(channels_in, channels_out, (kernel, 1, 1), (stride, 1, 1), (1, 0, 0)),
                nn.BatchNorm3d(channels_out),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers, nn.AdaptiveAvgPool3d((1, None, None)))

    def forward(self, spectra: Tensor) -> Tensor:
        """``(batch, band, y, x)`` → ``(batch, 128, y, x)``."""
        folded = spectra.unsqueeze(1)
        for layer in self:
            folded = layer(folded)
        return folded.squeeze(2)


class WavelengthAdapter(SpectralAdapter):
    """The adapter, told which wavelengths it sees; ours, no published counterpart.

    Spectra on another band grid are first carried to the grid the weights were trained on (``reference_nm``)
    by wavelength; where that has no counterpart stands zero, the mean of a normalised band. After the first
    convolution each spectral position is then scaled and shifted by a learned function of its wavelength,
    which starts as no change at all: on its own grid an untrained one equals the unconditioned adapter bit
    for bit, and so does one whose ``modulation`` is zero.
    """

    resampling: Tensor | None
    code: Tensor

    def __init__(self, wavelengths_nm: Sequence[float], reference_nm: Sequence[float]) -> None:
        super().__init__()
        same = tuple(wavelengths_nm) == tuple(reference_nm)
        self.register_buffer(
            "resampling", None if same else resampling(wavelengths_nm, reference_nm), persistent=False
        )
        code = wavelength_code(_window_centres(reference_nm))
        self.register_buffer("code", code, persistent=False)
        self.modulation = nn.Linear(code.shape[1], 2 * _LAYERS[0][1])
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, spectra: Tensor) -> Tensor:
        """``(batch, band, y, x)`` → ``(batch, 128, y, x)``."""
        if self.resampling is not None:
            spectra = torch.einsum("rb,nbyx->nryx", self.resampling.to(spectra.dtype), spectra)
        folded = self[0](spectra.unsqueeze(1))
        scale, shift = self.modulation(self.code).T[None, :, :, None, None].chunk(2, dim=1)
        folded = folded * (1 + scale) + shift
        for at in range(1, 3 * len(_LAYERS) + 1):
            folded = self[at](folded)
        channels: Tensor = folded.squeeze(2)
        return channels


def _window_centres(reference_nm: Sequence[float]) -> list[float]:
    """Mean wavelength under the first convolution's kernel at each of its positions."""
    _, _, kernel, stride = _LAYERS[0]
    starts = [at * stride - 1 for at in range(adapter_lengths(len(reference_nm))[0])]
    windows = [reference_nm[max(0, start) : start + kernel] for start in starts]
    return [sum(window) / len(window) for window in windows]


def adapter_lengths(bands: int) -> tuple[int, ...]:
    """Length of the spectral axis after each convolution, e.g. 202 → (40, 8, 2)."""
    lengths = []
    length = bands
    for _, _, kernel, stride in _LAYERS:
        length = (length + 2 - kernel) // stride + 1
        lengths.append(length)
    return tuple(lengths)


def require_enough_bands(bands: int, *, subject: str) -> None:
    """Refuse inputs the adapter has no output for."""
    if bands < MIN_BANDS:
        raise TrainingError(
            "too-few-bands",
            f"the spectral adapter needs at least {MIN_BANDS} bands, not {bands}",
            subject=subject,
            next_step="use it with a hyperspectral product, or take front_end out of backbone_options",
        )


class SpectralStage(nn.Module):
    """First block of a ResNet behind the adapter: 1×1, 3×3 with stride 2, 1×1, and a 1×1 shortcut."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.shortcut = nn.Sequential(
            nn.Conv2d(channels, width, 1, stride=2, bias=False), nn.BatchNorm2d(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def replace_stem(backbone: ResNet) -> None:
    """Make a timm ResNet SpectralEarth's: no 7×7 stem, no max-pool, first block of its own; stride 16."""
    for stem in ("conv1", "bn1", "act1", "maxpool"):
        setattr(backbone, stem, nn.Identity())
    first = backbone.layer1
    assert isinstance(first, nn.Sequential)
    rest: Sequence[nn.Module] = list(first.children())[1:]
    width: Any = backbone.feature_info[1]["num_chs"]
    backbone.layer1 = nn.Sequential(SpectralStage(ADAPTER_CHANNELS, width), *rest)
