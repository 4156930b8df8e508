"""Frozen features of samples: pooled embeddings and dense maps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from catalog.products import Product, load_product
from models.encoder_files import PhysicalEncoder
from models.physical_pixels import BandChoice, choose_bands, physical_pixels
from models.sample_batches import SampleReader
from models.sample_pool import Rows


def band_choice(model: PhysicalEncoder, product: Product | None = None) -> BandChoice:
    """The bands and grid an encoder was trained on; ``product`` where an archive brings its own."""
    config = model.config
    return choose_bands(
        product or load_product(config["product"]), tuple(config["bands"]), gsd_m=config["gsd_m"]
    )


def physical_batches(
    cube: Any,
    snapshot: str,
    choice: BandChoice,
    rows: Rows,
    *,
    batch_size: int = 64,
    mask_cloud: bool = False,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[Tensor, Tensor]]:
    """``(values, valid)``, both ``(batch, band, y, x)``, of samples of a cube in the order of ``rows``."""
    rows = np.asarray(rows, np.int64)
    reader = SampleReader(cube, snapshot, choice, rows)
    for start in range(0, len(rows), batch_size):
        raw = reader.read(rows[start : start + batch_size])
        yield physical_pixels(raw, choice, mask_cloud=mask_cloud, device=device)


def embeddings(model: PhysicalEncoder, batches: Iterable[tuple[Tensor, Tensor]]) -> NDArray[np.float32]:
    """Pooled embeddings ``(sample, d)`` of physical batches, raw: not L2-normalised."""
    parts = []
    with torch.inference_mode():
        for values, valid in batches:
            parts.append(model(values, valid).float().cpu().numpy())
    return np.concatenate(parts) if parts else np.empty((0, model.feature_dim), np.float32)


def dense_features(
    model: PhysicalEncoder, batches: Iterable[tuple[Tensor, Tensor]]
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Per batch the feature map ``(sample, d, h, w)`` and the valid share ``(sample, h, w)`` of its cells."""
    for values, valid in batches:
        with torch.inference_mode():
            features, share = model.dense_with_share(values, valid)
        yield features.float().cpu().numpy(), share[:, 0].float().cpu().numpy()
