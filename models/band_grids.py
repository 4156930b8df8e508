"""A trained encoder on another sensor's bands, told by their wavelengths."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from catalog.errors import UsageError
from models.encoder_files import PhysicalEncoder
from models.normalisation import Normalisation
from models.wavelengths import nearest_or_between


def on_band_grid(
    model: PhysicalEncoder,
    names: Sequence[str],
    wavelengths_nm: Sequence[float],
    normalisation: Normalisation | None = None,
) -> PhysicalEncoder:
    """The same weights for bands they were not trained on, of any number.

    The encoder needs a front-end that is told wavelengths (``wavelength-adapter``, ``spectral-tokens``).
    ``normalisation``: of the new bands, from samples of the new sensor where there are any; if none, the old
    bands' mean and deviation are read off at the new wavelengths, which assumes the same quantity and unit.

    Raises
    ------
    TrainingError: ``unknown-wavelengths``.
    UsageError: ``wrong-bands``.
    """
    if not len(names) == len(wavelengths_nm) == len(normalisation.mean if normalisation else names):
        raise UsageError(
            "wrong-bands",
            f"{len(names)} names, {len(wavelengths_nm)} wavelengths and a normalisation do not fit together",
            subject=str(model.config.get("method", "encoder")),
            next_step="give one name, one centre wavelength and one mean and deviation per band",
        )
    encoder = model.encoder.on_bands(wavelengths_nm).eval().requires_grad_(False)
    front_end = encoder.architecture.front_end
    assert front_end is not None
    if normalisation is None:
        old = model.normalisation
        weights = nearest_or_between(model.config["wavelengths_nm"], wavelengths_nm)
        mean, std = (weights @ torch.tensor(part, dtype=torch.float64) for part in (old.mean, old.std))
        normalisation = Normalisation(tuple(mean.tolist()), tuple(std.tolist()), old.fill)
    config = model.config | {
        "bands": list(names),
        "wavelengths_nm": list(wavelengths_nm),
        "fwhm_nm": [None] * len(names),
        "units": [model.config["units"][0]] * len(names),
        "front_end": dict(front_end),
        "normalisation": normalisation.to_dict(),
    }
    return PhysicalEncoder(encoder, config).eval()
