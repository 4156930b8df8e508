"""From weights to pixels and back: the files in an encoder folder that name every sample and every scene.

``samples.jsonl.gz``: one JSON object per sample drawn, in the order in which the run pinned them::

    {"sample": "sentinel-2-l2a/S2B_…/n52e013_0007", "product": …, "scene": …, "location": …,
     "row": 17, "sha256": "…", "time": "2024-05-30T17:49:09+00:00"}

``row`` is the sample's row in its product's group of the pinned snapshot, ``sha256`` that of its raw pixels.

``scenes.json``: ``{"format": 1, "scenes": {product: {scene id: entry}}}``, where an entry has ``archive``,
``collection``, ``platform``, ``tile``, ``sensed``, ``baseline``, ``generated``, ``licence``, ``attribution``,
``origin`` and ``assets``: asset key → ``{"href", "bands", "size", "checksum"[, "etag"]}``, hrefs unsigned.

``labels.json``, of encoders that were pretrained with labels: the ``label_set`` with its ``licence`` and
``attribution``, and under ``samples`` each sample whose labels were used, its place on the ground and how
many ``pixels`` of which class.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from catalog.errors import EncoderError
from catalog.scenes import Scene

FORMAT = 1
SAMPLES = "samples.jsonl.gz"
SCENES = "scenes.json"
LABELS = "labels.json"
SAMPLE_FIELDS = ("sample", "product", "scene", "location", "row", "sha256", "time")

SceneEntries = dict[str, dict[str, dict[str, Any]]]
"""Product → scene id → entry of ``scenes.json``."""


def write_samples(folder: Path, samples: Iterable[Mapping[str, Any]]) -> int:
    """Write ``samples.jsonl.gz``; returns how many. The same samples give the same bytes."""
    count = 0
    with (folder / SAMPLES).open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as target:
        for sample in samples:
            line = {field: sample[field] for field in SAMPLE_FIELDS}
            target.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
            count += 1
    return count


def read_samples(source: Path | BinaryIO) -> Iterator[dict[str, Any]]:
    """The samples of an encoder folder, or of an opened ``samples.jsonl.gz``, one by one."""
    path = source / SAMPLES if isinstance(source, Path) else source
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def read_labels(folder: Path) -> dict[str, Any] | None:
    """What ``labels.json`` of an encoder folder says; None where no labels were used."""
    path = folder / LABELS
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def write_scenes(
    folder: Path, scenes: Iterable[Scene], etags: Mapping[tuple[str, str, str], str] | None = None
) -> None:
    """Write ``scenes.json``; ``etags``: (product, scene id, asset key) → ETag, where the reader met one."""
    entries: SceneEntries = {}
    for scene in scenes:
        entries.setdefault(scene.product, {})[scene.id] = scene_entry(scene, etags or {})
    document = {
        "format": FORMAT,
        "scenes": {
            product: dict(sorted(of_product.items())) for product, of_product in sorted(entries.items())
        },
    }
    (folder / SCENES).write_text(json.dumps(document, ensure_ascii=False, indent=1), encoding="utf-8")


def scene_entry(scene: Scene, etags: Mapping[tuple[str, str, str], str]) -> dict[str, Any]:
    """What lineage keeps of one scene."""
    assets: dict[str, dict[str, Any]] = {}
    for key, asset in scene.assets.items():
        assets[key] = {
            "href": asset.href,
            "bands": list(asset.bands),
            "size": asset.size_bytes,
            "checksum": asset.checksum,
        }
        etag = etags.get((scene.product, scene.id, key))
        if etag:
            assets[key]["etag"] = etag
    return {
        "archive": scene.archive,
        "collection": scene.collection,
        "platform": scene.platform,
        "tile": scene.tile,
        "sensed": scene.sensed.isoformat(),
        "baseline": scene.baseline,
        "generated": scene.generated.isoformat() if scene.generated else None,
        "licence": scene.licence,
        "attribution": scene.attribution,
        "origin": scene.origin,
        "assets": assets,
    }


def read_scenes(source: Path | BinaryIO) -> SceneEntries:
    """``scenes.json`` of an encoder folder, or an opened one."""
    text = (source / SCENES).read_bytes() if isinstance(source, Path) else source.read()
    document = json.loads(text)
    if document.get("format") != FORMAT:
        raise EncoderError(
            "unknown-format",
            f"{SCENES} has format {document.get('format')!r}; this version reads {FORMAT}",
            subject=SCENES,
            next_step="use the version of Swath that wrote it",
        )
    scenes: SceneEntries = document["scenes"]
    return scenes


def scenes_drawn(folder: Path, *, subject: str) -> tuple[int, set[tuple[str, str]]]:
    """How many samples a folder names, and of which scenes: (product, scene id).

    Raises
    ------
    EncoderError: ``incomplete-lineage``: a sample lacks a field, or its scene is not in ``scenes.json``.
    """
    count, drawn = 0, set()
    for sample in read_samples(folder):
        lacking = [field for field in SAMPLE_FIELDS if sample.get(field) in (None, "")]
        if lacking:
            raise _incomplete(f"sample {count + 1} has no {lacking[0]}", subject)
        drawn.add((sample["product"], sample["scene"]))
        count += 1
    entries = read_scenes(folder) if (folder / SCENES).is_file() else {}
    unnamed = sorted((p, s) for p, s in drawn if s not in entries.get(p, {}))
    if unnamed:
        more = f" (and {len(unnamed) - 1} more)" if len(unnamed) > 1 else ""
        raise _incomplete(f"scene {unnamed[0][1]}{more} was drawn from, but {SCENES} lacks it", subject)
    return count, drawn


def licences(entries: SceneEntries, drawn: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    """What the scenes drawn from ask of those who use the weights: one entry per licence and attribution."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for product, scene_id in sorted(drawn):
        entry = entries[product][scene_id]
        terms = (entry.get("licence", "unknown"), entry.get("attribution", ""))
        summary = found.setdefault(
            terms, {"licence": terms[0], "attribution": terms[1], "products": [], "scenes": 0}
        )
        summary["scenes"] += 1
        if product not in summary["products"]:
            summary["products"].append(product)
    return [found[terms] for terms in sorted(found)]


def joined(samples: Iterable[Mapping[str, Any]], entries: SceneEntries) -> list[dict[str, Any]]:
    """Samples with what is known of the assets they came from: ``href``, ``etag``, ``size`` per asset."""
    per_scene: dict[tuple[str, str], dict[str, Any]] = {}
    rows: list[dict[str, Any]] = []
    for sample in samples:
        place = (sample["product"], sample["scene"])
        if place not in per_scene:
            entry = entries.get(place[0], {}).get(place[1], {})
            # Assets without bands (metadata, thumbnails) gave no pixel.
            pixels = {key: asset for key, asset in entry.get("assets", {}).items() if asset.get("bands")}
            per_scene[place] = {
                "href": {key: asset["href"] for key, asset in pixels.items()},
                "etag": {key: asset.get("etag") for key, asset in pixels.items()},
                "size": {key: asset.get("size") for key, asset in pixels.items()},
                "licence": entry.get("licence"),
            }
        rows.append({**sample, **per_scene[place]})
    return rows


def _incomplete(message: str, subject: str) -> EncoderError:
    return EncoderError(
        "incomplete-lineage",
        message,
        subject=subject,
        next_step="register the folder of the run itself, with its samples.jsonl.gz and scenes.json",
    )
