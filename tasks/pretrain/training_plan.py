"""Decides whether an encoder is trained again, from which weights, and under which run identity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from catalog.encoders import Catalog, Encoder
from catalog.errors import EncoderError
from catalog.labels import LabelSet
from catalog.recipes import Pretraining, Recipe
from catalog.runs import Runs, lock_hash, run_identity, source_hash
from models.methods import outside_source

LEARNING_PACKAGES = ("catalog", "models")
"""Code that a training depends on; a change of a report or a flow does not make it another run."""
SHAPES = (
    "method",
    "products",
    "bands",
    "wavelengths_nm",
    "backbone",
    "backbone_options",
    "input_size_px",
    "gsd_m",
)
"""Parts of a pretraining that must be equal for one to start from the other's weights."""


@dataclass(frozen=True)
class TrainingPlan:
    """What to do for one encoder of a recipe."""

    encoder: str
    action: Literal["train", "return", "keep"]
    """``return`` what this very run made before; ``keep`` the newest: too little is new."""
    why: str
    identity: str
    """SHA-256 over recipe part, cube, snapshot, code, lock and seed (design decision 13)."""
    folder: Path
    """Run folder; the same for the same identity, so that a killed run is resumed."""
    start_from: Encoder | None = None
    """Weights to start from; None is from scratch."""


def pretraining_identity(
    recipe: Recipe, item: Pretraining, snapshot: str, labels: LabelSet | None = None
) -> str:
    """Identity of one pretraining run; the seed is part of ``item``.

    ``labels``: what its method learns from besides, if it does. Code from outside the package counts too.
    """
    return run_identity(
        kind="pretrain",
        pretraining=item.model_dump(mode="json"),
        cube=recipe.cube_name,
        snapshot=snapshot,
        code=source_hash(LEARNING_PACKAGES),
        lock=lock_hash(),
        outside=outside_source(item.method),
        labels=None if labels is None else labels.digest,
    )


def plan_pretraining(
    recipe: Recipe,
    item: Pretraining,
    *,
    snapshot: str,
    samples_since: Callable[[str], int],
    runs: Runs,
    catalog: Catalog,
    runs_folder: Path,
    labels: LabelSet | None = None,
) -> TrainingPlan:
    """Apply design decision 12: enough new samples, or age with anything new, set off another training.

    Parameters
    ----------
    samples_since: number of samples that an older snapshot does not hold, by its id
    labels:        what the method learns from besides, if it does
    """
    identity = pretraining_identity(recipe, item, snapshot, labels)
    folder = runs_folder / f"pretrain-{item.encoder}-{identity[:12]}"

    def plan(
        action: Literal["train", "return", "keep"], why: str, start: Encoder | None = None
    ) -> TrainingPlan:
        return TrainingPlan(item.encoder, action, why, identity, folder, start)

    latest = newest_encoder(catalog, item.encoder)
    if latest is not None and latest.manifest.get("identity") == identity:
        return plan("return", f"{latest.ref} is of this very recipe, snapshot, code and seed", latest)
    if runs.find("pretrain", identity) is not None and (folder / "encoder" / "model.safetensors").is_file():
        return plan("return", "this very run was made before")
    if latest is None:
        return plan("train", "there is no version yet")
    warm = latest if item.start_from == "previous" and _same_shape(latest, item) else None
    if latest.manifest.get("pretraining") != item.model_dump(mode="json"):
        return plan("train", "its part of the recipe changed", warm)
    old = (latest.manifest.get("snapshots") or {}).get(recipe.cube_name)
    if old is None:
        return plan("train", f"{latest.ref} was made from another cube", warm)
    if old == snapshot:
        return plan("train", "the code or the lock changed")
    fresh = samples_since(old)
    age_days = (datetime.now(UTC) - latest.created).total_seconds() / 86400
    aged = item.max_age_days is not None and age_days > item.max_age_days
    if fresh >= max(1, item.min_new_samples) or (aged and fresh):
        return plan("train", f"{fresh} new samples since {latest.ref}", warm)
    return plan(
        "keep", f"{latest.ref}: {fresh} new samples, min_new_samples is {item.min_new_samples}", latest
    )


def newest_encoder(catalog: Catalog, name: str) -> Encoder | None:
    """The highest version of an encoder, or None."""
    try:
        return catalog.get(f"{name}:latest")
    except EncoderError:
        return None


def _same_shape(encoder: Encoder, item: Pretraining) -> bool:
    old = encoder.manifest.get("pretraining") or {}
    new = item.model_dump(mode="json")
    return all(old.get(key) == new[key] for key in SHAPES)
