"""An untrained encoder of Sentinel-2, as small as one can be, and how it gets into a catalog."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from catalog.encoder import Encoder as Registered
from catalog.encoders import open_catalog
from catalog.lineage import write_samples, write_scenes
from catalog.mlm import build_mlm_item
from catalog.settings import Settings
from models.backbones import Encoder, describe_architecture
from models.encoder_files import describe_encoder, read_config, save_encoder
from models.normalisation import Normalisation
from models.physical_pixels import choose_bands
from tests.catalog.encoder_folders import manifest, sample, scene
from tests.tasks.scene_files import built_in

BANDS = ("B02", "B04", "B05", "B01")  # of 10, 20 and 60 m
INPUT_PX = 12


def write_encoder(folder: Path, *, seed: int = 0) -> Path:
    """Weights and config of a Vision Transformer with one layer."""
    choice = choose_bands(built_in("sentinel-2-l2a"), BANDS)
    architecture = describe_architecture(
        "vit_tiny_patch16_224",
        {"patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2},
        bands=len(BANDS),
        input_size_px=INPUT_PX,
    )
    torch.manual_seed(seed)
    encoder = Encoder(architecture)
    document = {"mean": [0.25] * len(BANDS), "std": [0.15] * len(BANDS)}
    config = describe_encoder(
        architecture,
        choice,
        Normalisation.from_dict(document),
        method="none",
        products=["sentinel-2-l2a"],
        input_size_px=INPUT_PX,
        feature_dim=encoder.feature_dim,
    )
    save_encoder(folder, encoder.eval(), config)
    return folder


def register(folder: Path, settings: Settings, name: str = "tiny-s2") -> Registered:
    """Put an encoder folder into the catalog of an installation."""
    write_scenes(folder, [scene("S1")], {})
    write_samples(folder, [sample("S1", "l1", 0)])
    config: dict[str, Any] = read_config(folder)
    when = datetime(2022, 6, 1, tzinfo=UTC)
    item = build_mlm_item(config, name=name, bbox=(11.0, 48.0, 12.0, 49.0), period=(when, when))
    return open_catalog(settings).register(
        folder, manifest(f"identity-of-{name}", bands=list(BANDS)), name=name, metrics={}, mlm_item=item
    )
