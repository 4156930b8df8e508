"""What ``pretrain`` measures: four published trainings, whole on an accelerator and small without one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

ENMAP_RANGES = ((400.0, 1340.0), (1460.0, 1800.0), (1960.0, 2460.0))
"""Bands outside the water vapour; close to the 202 of SpectralEarth."""


@dataclass(frozen=True)
class Setting:
    """One training."""

    name: str
    method: str
    product: str
    backbone: str
    size_m: float
    """Side of the samples."""
    input_size_px: int
    batch_size: int
    places: int
    steps: int
    precision: str
    options: dict[str, Any] = field(default_factory=dict)
    backbone_options: dict[str, Any] = field(default_factory=dict)
    wavelengths_nm: tuple[tuple[float, float], ...] | None = None

    def pretraining(self, *, compiled: bool) -> dict[str, Any]:
        """As a recipe gives it."""
        return {
            "encoder": "measured",
            "method": self.method,
            "products": [self.product],
            "backbone": self.backbone,
            "backbone_options": self.backbone_options,
            "wavelengths_nm": self.wavelengths_nm,
            "input_size_px": self.input_size_px,
            "batch_size": self.batch_size,
            "steps": self.steps,
            "precision": self.precision,
            "optimiser": {"name": "adamw", "learning_rate": 1e-4, "weight_decay": 0.05},
            "options": self.options,
            "compile": compiled,
        }


SENTINEL: dict[str, Any] = {"product": "sentinel-2-l1c", "size_m": 2640.0, "input_size_px": 224}
ENMAP: dict[str, Any] = {
    "product": "enmap-l2a",
    "size_m": 3840.0,
    "input_size_px": 128,
    "wavelengths_nm": ENMAP_RANGES,
}


def on_accelerator() -> list[Setting]:
    """The published sizes."""
    shared: dict[str, Any] = {"places": 512, "steps": 120, "precision": "bf16"}
    return [
        Setting("MoCo-v2 ResNet-50", "moco-v2", backbone="resnet50", batch_size=256, **SENTINEL, **shared),
        Setting(
            "DINO ViT-S/16",
            "dino",
            backbone="vit_small_patch16_224",
            batch_size=128,
            **SENTINEL,
            **shared,
        ),
        Setting("MAE ViT-B/16", "mae", backbone="vit_base_patch16_224", batch_size=256, **SENTINEL, **shared),
        Setting(
            "SpectralEarth MAE ViT-S/4",
            "mae",
            backbone="vit_small_patch16_224",
            backbone_options={"patch_size": 4, "front_end": "spectral-adapter"},
            batch_size=64,
            options={"decoder_depth": 1},
            **ENMAP,
            **(shared | {"places": 256}),
        ),
    ]


def on_cpu() -> list[Setting]:
    """The same methods on small samples and networks, a minute each on two cores."""
    shared: dict[str, Any] = {"places": 64, "steps": 24, "precision": "32"}
    small: dict[str, Any] = {"product": "sentinel-2-l1c", "size_m": 720.0, "input_size_px": 64}
    vit = {"patch_size": 8, "embed_dim": 128, "depth": 4, "num_heads": 4}
    head = {"head_hidden": 512, "head_bottleneck": 128, "prototypes": 1024, "local_crops": 4}
    decoder = {"decoder_width": 128, "decoder_depth": 2, "decoder_heads": 4}
    name = "vit_tiny_patch16_224"
    return [
        Setting(
            "MoCo-v2 ResNet-18, 64 px",
            "moco-v2",
            backbone="resnet18",
            batch_size=32,
            options={"queue_size": 1024},
            **small,
            **shared,
        ),
        Setting(
            "DINO small ViT, 64 px",
            "dino",
            backbone=name,
            backbone_options=vit,
            batch_size=32,
            options=head,
            **small,
            **shared,
        ),
        Setting(
            "MAE small ViT, 64 px",
            "mae",
            backbone=name,
            backbone_options=vit,
            batch_size=32,
            options=decoder,
            **small,
            **shared,
        ),
        Setting(
            "SpectralEarth MAE, 16 px",
            "mae",
            backbone=name,
            backbone_options=vit | {"patch_size": 4, "front_end": "spectral-adapter"},
            batch_size=16,
            options=decoder,
            **(ENMAP | {"size_m": 600.0, "input_size_px": 16}),
            **shared,
        ),
    ]
