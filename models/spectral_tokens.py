"""Spectral tokens: a spectrum as a short sequence of band groups that attend to each other, in each pixel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from models.spectral import ADAPTER_CHANNELS
from models.wavelengths import covered, resampling, wavelength_code


class SpectralTokens(nn.Module):
    """Groups of neighbouring bands as tokens; ours, no published counterpart.

    Each group of ``group`` bands is embedded linearly and gets a learned position, and, where wavelengths are
    known, a learned function of its centre wavelength that starts as zero: untrained, and on its own grid,
    it equals the unconditioned one (``wavelengths_nm=None``) bit for bit. Spectra on another grid are carried
    to ``reference_nm`` by wavelength; groups of which nothing is covered are left out. After ``depth``
    transformer blocks over the groups their mean becomes the pixel's 128 channels. Memory grows with pixels
    × groups × width: it is meant for small inputs, the adapter for large ones.
    """

    resampling: Tensor | None
    code: Tensor | None
    members: Tensor
    kept: Tensor

    def __init__(
        self,
        bands: int,
        wavelengths_nm: Sequence[float] | None = None,
        reference_nm: Sequence[float] | None = None,
        *,
        group: int = 8,
        width: int = 32,
        depth: int = 1,
        heads: int = 4,
        channels: int = ADAPTER_CHANNELS,
    ) -> None:
        super().__init__()
        reference = None if wavelengths_nm is None else tuple(reference_nm or wavelengths_nm)
        count = bands if reference is None else len(reference)
        group = min(group, count)
        # The last group ends with the last band; it may overlap its neighbour.
        starts = [min(at, count - group) for at in range(0, count, group)]
        carry, kept, code = None, list(range(len(starts))), None
        if wavelengths_nm is not None and reference is not None:
            if tuple(wavelengths_nm) != reference:
                carry = resampling(wavelengths_nm, reference)
                seen = covered(wavelengths_nm, reference)
                kept = [at for at, start in enumerate(starts) if bool(seen[start : start + group].any())]
                if not kept:
                    raise ValueError("the bands share no wavelength with those the weights were trained on")
            centres = [sum(reference[start : start + group]) / group for start in starts]
            code = wavelength_code(centres)
        self.register_buffer("resampling", carry, persistent=False)
        self.register_buffer("code", code, persistent=False)
        members = torch.tensor([list(range(starts[at], starts[at] + group)) for at in kept])
        self.register_buffer("members", members, persistent=False)
        self.register_buffer("kept", torch.tensor(kept), persistent=False)
        self.embed = nn.Linear(group, width)
        self.positions = nn.Parameter(torch.empty(len(starts), width))
        nn.init.normal_(self.positions, std=0.02)
        self.conditioning: nn.Linear | None = None
        self.blocks = nn.ModuleList([Block(width, heads, qkv_bias=True) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, channels)
        if code is not None:
            self.conditioning = nn.Linear(code.shape[1], width)
            nn.init.zeros_(self.conditioning.weight)
            nn.init.zeros_(self.conditioning.bias)

    def tokens(self, spectra: Tensor) -> Tensor:
        """Spectra ``(pixel, band)`` → tokens ``(pixel, group, width)``, before any attention."""
        if self.resampling is not None:
            spectra = spectra @ self.resampling.to(spectra.dtype).T
        tokens: Tensor = self.embed(spectra[:, self.members]) + self.positions[self.kept]
        if self.conditioning is not None and self.code is not None:
            tokens = tokens + self.conditioning(self.code)[self.kept]
        return tokens

    def forward(self, spectra: Tensor) -> Tensor:
        """``(batch, band, y, x)`` → ``(batch, 128, y, x)``."""
        batch, _, height, width = spectra.shape
        tokens = self.tokens(spectra.movedim(1, 3).flatten(0, 2))
        for block in self.blocks:
            tokens = block(tokens)
        folded: Tensor = self.project(self.norm(tokens).mean(1))
        return folded.view(batch, height, width, -1).movedim(3, 1)
