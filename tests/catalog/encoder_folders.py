"""Small encoder folders with real safetensors and lineage, as a finished run leaves them."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from catalog.lineage import write_samples, write_scenes
from catalog.mlm import build_mlm_item
from catalog.scenes import Scene, SceneAsset

SENSED = datetime(2024, 5, 30, 17, 49, 9, tzinfo=UTC)
CONFIG: dict[str, Any] = {
    "format": 1,
    "timm": {"name": "resnet18", "args": {"in_chans": 3, "num_classes": 0}},
    "front_end": None,
    "method": "moco",
    "product": "sentinel-2-l2a",
    "products": ["sentinel-2-l2a"],
    "bands": ["B02", "B03", "B04"],
    "wavelengths_nm": [492.4, 559.8, 664.6],
    "fwhm_nm": [66.0, 36.0, 31.0],
    "units": ["reflectance"] * 3,
    "normalisation": {"mean": [0.1, 0.2, 0.3], "std": [0.05, 0.05, 0.05], "fill": 0.0},
    "input_size_px": 64,
    "gsd_m": 10.0,
    "feature_dim": 512,
}


def scene(scene_id: str, product: str = "sentinel-2-l2a", licence: str = "proprietary") -> Scene:
    """A scene with two bands and a quality layer."""
    return Scene(
        id=scene_id,
        product=product,
        archive="sandbox",
        collection=product,
        platform="sentinel-2a",
        sensed=SENSED,
        tile="13TDE",
        geometry={"type": "Point", "coordinates": [0.5, 0.5]},
        bbox=(0.0, 0.0, 1.0, 1.0),
        assets={
            "B02": SceneAsset("B02", f"https://h/{scene_id}/B02.tif", ("B02",), None, 4711, "1220ab"),
            "B03": SceneAsset("B03", f"https://h/{scene_id}/B03.tif", ("B03",)),
            "SCL": SceneAsset("SCL", f"https://h/{scene_id}/SCL.tif", ()),
        },
        epsg=32613,
        licence=licence,
        attribution="contains modified Copernicus data",
    )


def sample(scene_id: str, location: str, row: int, product: str = "sentinel-2-l2a") -> dict[str, Any]:
    """One line of ``samples.jsonl.gz``."""
    return {
        "sample": f"{product}/{scene_id}/{location}",
        "product": product,
        "scene": scene_id,
        "location": location,
        "row": row,
        "sha256": hashlib.sha256(f"{scene_id}{location}".encode()).hexdigest(),
        "time": SENSED.isoformat(),
    }


def encoder_folder(folder: Path, *, seed: int = 0, scenes: tuple[str, ...] = ("S1", "S2")) -> Path:
    """Weights, config and lineage: two samples of each scene."""
    folder.mkdir(parents=True)
    weights = np.random.default_rng(seed).normal(size=(8, 3)).astype(np.float32)
    save_file({"conv1.weight": weights}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    write_scenes(folder, [scene(item) for item in scenes], {("sentinel-2-l2a", "S1", "B02"): '"e7"'})
    rows = [(item, place) for item in scenes for place in ("l1", "l2")]
    write_samples(folder, [sample(item, place, row) for row, (item, place) in enumerate(rows)])
    return folder


def manifest(identity: str | None = "id-1", **more: Any) -> dict[str, Any]:
    """What a run gives."""
    return {
        "run_id": "pretrain-1",
        "identity": identity,
        "recipe": {"name": "sandbox", "title": "The Demo"},
        "code_version": "v0.1.0",
        "lock_hash": "ab" * 32,
        "seeds": [1],
        "snapshots": {"sandbox": "SNAP1"},
        "method": "moco",
        "products": ["sentinel-2-l2a"],
        "bands": ["B02", "B03", "B04"],
        "vitality": {"feature_std": 0.6},
        **more,
    }


def mlm_item(name: str = "s2-moco") -> dict[str, Any]:
    """A valid item."""
    return build_mlm_item(CONFIG, name=name, bbox=(13.0, 52.0, 13.5, 52.5), period=(SENSED, SENSED))
