"""Measures whether an encoder is alive, on samples of a cube that it has not learnt from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.errors import EncoderError
from models.vitality import Vitality, VitalityLimits, VitalitySamples, measure_vitality

PLACES = 64
"""Places that are looked at, each at two dates where it has them."""
MAX_NODATA, MAX_CLOUD = 0.5, 0.5
BATCH = 32


def check_vitality(
    encoder_folder: Path,
    cube: Any,
    snapshot: str,
    *,
    initial_weights: Path | None = None,
    mask_cloud: bool = False,
    limits: VitalityLimits | None = None,
    places: int = PLACES,
    device: str = "cpu",
) -> Vitality:
    """Measure an encoder at probe and test places (at any place, where those hold too few samples).

    ``initial_weights`` are those its run began with, under the same names; without them nothing is said of
    the distance. ``Vitality.refusals()`` says what speaks against registering it.

    Raises
    ------
    EncoderError: ``vitality-unknown``: there are fewer than eight samples to look at.
    """
    import torch
    from safetensors.torch import load_file

    from models.encoder_files import load_encoder, weights_of
    from models.features import physical_batches
    from models.physical_pixels import choose_bands

    model = load_encoder(encoder_folder, device=device)
    config = model.config
    product = cube.products(snapshot)[config["product"]]
    table = held_out_samples(cube, product.id, snapshot, places)
    if len(table) < 8:
        raise EncoderError(
            "vitality-unknown",
            f"snapshot {snapshot} holds {len(table)} clear samples of {product.id}; eight are needed",
            subject=encoder_folder.name,
            next_step="acquire more scenes, or widen the area",
        )
    choice = choose_bands(product, tuple(config["bands"]), gsd_m=config["gsd_m"])
    rows = table["row"].to_numpy(np.int64)
    batches = list(physical_batches(cube, snapshot, choice, rows, mask_cloud=mask_cloud, device="cpu"))
    samples = VitalitySamples(
        values=np.concatenate([values.numpy() for values, _ in batches]),
        valid=np.concatenate([valid.numpy() for _, valid in batches]),
        places=table["location"].to_numpy(str),
        times=table["time"].to_numpy(),
    )

    def encode(values: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.floating]:
        parts = []
        with torch.inference_mode():
            for start in range(0, len(values), BATCH):
                piece = slice(start, start + BATCH)
                given = (torch.from_numpy(np.ascontiguousarray(part[piece])) for part in (values, valid))
                parts.append(model(*(part.to(device) for part in given)).float().cpu().numpy())
        return np.concatenate(parts)

    return measure_vitality(
        encode,
        samples,
        weights=None if initial_weights is None else weights_of(model.encoder),
        initial_weights=None if initial_weights is None else load_file(initial_weights),
        limits=limits,
    )


def held_out_samples(cube: Any, product: str, snapshot: str, places: int) -> Any:
    """The two clearest dates of each of ``places`` places outside the pretrain split, in order of time.

    All places count where those outside hold fewer than eight samples.
    """
    splits = {location.id: location.split for location in cube.locations(snapshot)}
    table = cube.columns(product, snapshot)
    table = table[
        (table["superseded_by"].fillna("").astype(str) == "")
        & (table["nodata_fraction"] <= MAX_NODATA)
        & (table["cloud_fraction"].fillna(0) <= MAX_CLOUD)
    ]
    outside = table[[splits[place] != "pretrain" for place in table["location"]]]
    table = outside if len(outside) >= 8 else table
    table = table.assign(hidden=table["nodata_fraction"] + table["cloud_fraction"].fillna(0))
    kept = _evenly(sorted(table["location"].unique()), places)
    table = table[table["location"].isin(kept)].sort_values(["location", "hidden", "row"])
    return table.groupby("location").head(2).sort_values(["location", "time", "row"])


def _evenly(names: Sequence[str], most: int) -> Iterable[str]:
    if len(names) <= most:
        return names
    return [names[index] for index in np.unique(np.linspace(0, len(names) - 1, most).astype(int))]
