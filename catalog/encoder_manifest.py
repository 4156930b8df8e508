"""The manifest of an encoder: what it says, and what a folder must hold to be registered.

``manifest.json``, format 1. The run gives what is marked *; the rest is filled in at registration.

================  =====================================================================================
format            1
name, version     the encoder's name and its number
created           UTC, ISO 8601
run_id *          the run that made it; null for imported weights
identity *        ``catalog.runs.run_identity``: same identity, same encoder; null for imported weights
recipe *          the whole recipe document
code_version *    ``catalog.runs.code_version``
lock_hash *       ``catalog.runs.lock_hash``
seeds *           list of integers
snapshots *       cube name → snapshot id
method *          name of the pretraining method
products *        products trained on; the first is the one it takes
bands *           band names in input order
vitality *        the measures of design decision 11; null where they were not taken
metrics           scores and training figures (``register(metrics=…)``); a NaN is stored as null
samples           how many samples were drawn; each is in ``samples.jsonl.gz``
licences          list of ``{licence, attribution, products, scenes}`` over the scenes drawn from
labels            what ``labels.json`` says, where labels were learnt from; null elsewhere
allows            what these licences, and that of such labels, allow together:
                  ``catalog.licences.allowed_together``
evaluated_on      list of ``{label_set, licence, attribution, allows}`` of the labels it was scored on: they
                  bind who hands on the labels, and are no part of the weights
files             relative path → ``{sha256, size}``, of every file but the manifest itself
================  =====================================================================================

A manifest may hold more; it is kept as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from catalog import lineage
from catalog.errors import EncoderError
from catalog.licences import allowed_together

FORMAT = 1
MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
CONFIG = "config.json"

GIVEN = (
    "run_id",
    "identity",
    "recipe",
    "code_version",
    "lock_hash",
    "seeds",
    "snapshots",
    "method",
    "products",
    "bands",
    "vitality",
)
"""What a run must give; a value may be null where the table says so."""

UNSAFE = frozenset({".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib", ".npy", ".npz"})
"""Endings of files that run code when they are read, or may."""


def check_folder(folder: Path, name: str) -> None:
    """Refuse a folder without weights or config, with pickles, or with links."""
    for file in (WEIGHTS, CONFIG):
        if not (folder / file).is_file():
            raise EncoderError(
                "file-missing",
                f"the folder has no {file}",
                subject=name,
                next_step="register the `encoder` folder of a finished run",
            )
    for path in folder.rglob("*"):
        relative = PurePosixPath(path.relative_to(folder).as_posix())
        if path.is_symlink() or path.suffix.lower() in UNSAFE:
            raise EncoderError(
                "unsafe-file",
                f"{relative} is {'a link' if path.is_symlink() else 'of a kind that may run code when read'}",
                subject=name,
                next_step="save the weights as safetensors, and give plain files only",
            )


def as_json(manifest: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The manifest as plain JSON values; NaN and infinities, which JSON has not, become null."""
    try:
        text = json.dumps(manifest)
    except (TypeError, ValueError) as error:
        raise EncoderError(
            "invalid-manifest",
            f"it holds what JSON cannot: {error}",
            subject=name,
            next_step="give plain numbers, strings, lists and dictionaries",
        ) from error
    plain: dict[str, Any] = json.loads(text, parse_constant=lambda _: None)
    return plain


def complete_manifest(
    manifest: Mapping[str, Any],
    *,
    name: str,
    samples: int | None,
    licences: list[dict[str, Any]],
    created: datetime,
) -> dict[str, Any]:
    """Check what the run gave, and add what is known before the version is.

    Raises
    ------
    EncoderError: ``invalid-manifest``, ``incomplete-lineage`` (made from a snapshot, but names no sample).
    """
    lacking = [key for key in GIVEN if key not in manifest]
    if not lacking and not (isinstance(manifest["method"], str) and manifest["method"]):
        lacking = ["method"]
    if not lacking and not (isinstance(manifest["products"], list) and manifest["products"]):
        lacking = ["products"]
    if lacking:
        raise EncoderError(
            "invalid-manifest",
            f"it lacks {', '.join(lacking)}",
            subject=name,
            next_step="see catalog/encoder_manifest.py for what a run must give",
        )
    if manifest["snapshots"] and not samples:
        raise EncoderError(
            "incomplete-lineage",
            f"it was made from a cube, but the folder names no sample ({lineage.SAMPLES})",
            subject=name,
            next_step="register the folder of the run itself",
        )
    asked = licences or manifest.get("licences") or []
    binding = [entry["licence"] for entry in asked]
    if manifest.get("labels"):
        binding.append(manifest["labels"]["licence"])
    return {
        "format": FORMAT,
        "name": name,
        "version": None,
        "created": created.isoformat(),
        **{
            key: value
            for key, value in manifest.items()
            if key not in ("format", "name", "version", "created")
        },
        "samples": samples,
        "licences": asked,
        "allows": allowed_together(binding),
        "files": {},
    }


def manifest_bytes(document: Mapping[str, Any]) -> bytes:
    """A JSON document as it is written: indented, UTF-8, one newline at the end."""
    return (json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1) + "\n").encode()


def words(manifest: Mapping[str, Any]) -> str:
    """What a search by text looks at, lower case."""
    recipe = manifest.get("recipe") or {}
    parts = [
        manifest["name"],
        manifest["method"],
        *manifest["products"],
        *(manifest.get("bands") or ()),
        str(recipe.get("name", "")),
        str(recipe.get("title", "")),
    ]
    return " ".join(parts).lower()
