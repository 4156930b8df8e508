"""Front-ends by name: what stands between narrow bands and a backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from catalog.errors import TrainingError
from models.spectral import ADAPTER_CHANNELS, SpectralAdapter, WavelengthAdapter, require_enough_bands
from models.spectral_tokens import SpectralTokens

SPECTRAL_ADAPTER = "spectral-adapter"
WAVELENGTH_ADAPTER = "wavelength-adapter"
SPECTRAL_TOKENS = "spectral-tokens"
FRONT_ENDS = (SPECTRAL_ADAPTER, WAVELENGTH_ADAPTER, SPECTRAL_TOKENS)
CONDITIONED = (WAVELENGTH_ADAPTER, SPECTRAL_TOKENS)
"""Front-ends that are told the wavelengths, and so take band grids they were not trained on."""


TOKEN_SIZES = ("group", "width", "depth", "heads")
"""What a recipe may say of ``spectral-tokens``; see ``SpectralTokens``."""


def describe_front_end(
    asked: str | Mapping[str, Any],
    bands: int,
    wavelengths_nm: Sequence[float | None] | None,
    *,
    subject: str,
) -> dict[str, Any]:
    """The front-end as ``config.json`` holds it; one that is told wavelengths starts on its own grid.

    ``asked``: its kind, or a mapping with its ``kind`` and, for ``spectral-tokens``, its sizes.
    """
    sizes = {} if isinstance(asked, str) else {key: int(asked[key]) for key in asked if key != "kind"}
    kind = asked if isinstance(asked, str) else str(asked.get("kind"))
    if sizes and (kind != SPECTRAL_TOKENS or not set(sizes) <= set(TOKEN_SIZES)):
        raise TrainingError(
            "unknown-front-end",
            f"front-end {kind!r} has no {', '.join(sorted(sizes))}",
            subject=subject,
            next_step=f"give its kind alone; {SPECTRAL_TOKENS} also takes {', '.join(TOKEN_SIZES)}",
        )
    if kind not in FRONT_ENDS:
        raise TrainingError(
            "unknown-front-end",
            f"there is no front-end {kind!r}",
            subject=subject,
            next_step=f"leave it out, or use {' or '.join(FRONT_ENDS)}",
        )
    description: dict[str, Any] = {"kind": kind, "bands": bands, "channels": ADAPTER_CHANNELS} | sizes
    if kind in CONDITIONED:
        grid = _known(wavelengths_nm, bands, subject)
        description |= {"wavelengths_nm": grid, "reference_nm": grid}
    if kind != SPECTRAL_TOKENS:
        require_enough_bands(bands, subject=subject)
    return description


def make_front_end(description: Mapping[str, Any], *, subject: str) -> nn.Module:
    """The module of a description: ``(batch, band, y, x)`` → ``(batch, 128, y, x)``, pixel by pixel."""
    kind, bands = description["kind"], int(description["bands"])
    if kind == SPECTRAL_ADAPTER:
        require_enough_bands(bands, subject=subject)
        return SpectralAdapter()
    given, reference = description["wavelengths_nm"], description["reference_nm"]
    if kind == SPECTRAL_TOKENS:
        sizes = {name: description[name] for name in TOKEN_SIZES if name in description}
        return SpectralTokens(bands, given, reference, **sizes)
    require_enough_bands(len(reference), subject=subject)
    return WavelengthAdapter(given, reference)


def on_other_bands(
    description: Mapping[str, Any] | None, wavelengths_nm: Sequence[float | None], *, subject: str
) -> dict[str, Any]:
    """The same front-end for other bands; its weights stay those of ``reference_nm``.

    Raises
    ------
    TrainingError: ``unknown-wavelengths``: the front-end is not told any, or a band has none.
    """
    if description is None or description["kind"] not in CONDITIONED:
        raise TrainingError(
            "unknown-wavelengths",
            "an encoder takes other bands only behind a front-end that is told their wavelengths",
            subject=subject,
            next_step=f"pretrain with front_end: {' or '.join(CONDITIONED)}",
        )
    grid = _known(wavelengths_nm, len(wavelengths_nm), subject)
    return dict(description) | {"bands": len(grid), "wavelengths_nm": grid}


def _known(wavelengths_nm: Sequence[float | None] | None, bands: int, subject: str) -> list[float]:
    grid = [float(centre) for centre in wavelengths_nm or () if centre is not None]
    if len(grid) != bands or not bands:
        raise TrainingError(
            "unknown-wavelengths",
            f"{len(grid)} of {bands} bands have a centre wavelength; the front-end needs all",
            subject=subject,
            next_step=f"choose bands that have one, or front_end: {SPECTRAL_ADAPTER}",
        )
    return grid
