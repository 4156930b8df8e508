"""Registers a finished training: lineage files, manifest and STAC item; a dead encoder is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from catalog import lineage
from catalog.encoders import Catalog, Encoder
from catalog.errors import EncoderError
from catalog.labels import LabelSet
from catalog.licences import allowed_together, known_licence
from catalog.mlm import build_mlm_item
from catalog.recipes import Pretraining, Recipe
from catalog.runs import code_version, lock_hash
from catalog.samples import Location
from models.vitality import Vitality
from tasks.evaluate.encoder import EvaluationResult
from tasks.evaluate.features import ENCODER
from tasks.evaluate.leakage import write_places
from tasks.evaluate.probes import LOGISTIC
from tasks.register.promotion import Promotion, decide_promotion
from tasks.register.refusal import dead

__all__ = ["Promotion", "decide_promotion", "refuse_dead", "register_encoder"]


def refuse_dead(name: str, vitality: Vitality) -> None:
    """Raise ``encoder-dead`` with every reason, unless the encoder lives."""
    reasons = vitality.refusals()
    if reasons:
        raise dead(name, reasons)


def register_encoder(
    encoder_folder: Path,
    *,
    recipe: Recipe,
    pretraining: Pretraining,
    cube: Any,
    snapshot: str,
    run_id: str,
    identity: str,
    vitality: Vitality,
    evaluations: Sequence[EvaluationResult] = (),
    label_sets: Sequence[LabelSet] = (),
    training: Mapping[str, Any] | None = None,
    started_from: Encoder | None = None,
    catalog: Catalog,
) -> Encoder:
    """Write the lineage and the manifest of a run's encoder folder, and add it to the catalog.

    The folder holds what the training left: ``model.safetensors``, ``config.json`` and the ids of the samples
    drawn. Registering the same run again returns the same encoder.

    Parameters
    ----------
    label_sets:   those it was evaluated on; their licences are stated beside those of the scenes
    training:     ``result.json`` of the run, for the record
    started_from: the encoder whose weights the run began with; where it was transductive, so is this one

    Raises
    ------
    EncoderError: ``encoder-dead`` with the reasons; ``incomplete-lineage``; those of ``Catalog.register``.
    """
    from models.encoder_files import export_program, is_plain, read_config

    name = pretraining.encoder
    refuse_dead(name, vitality)
    config = read_config(encoder_folder)
    scenes, places, period = write_lineage(encoder_folder, cube, snapshot, name=name)
    if not is_plain(config):
        export_program(encoder_folder)
    simulated = any(scene.origin == "simulated" for scene in scenes)
    inherited = bool(started_from and started_from.manifest.get("transductive"))
    manifest = {
        "run_id": run_id,
        "identity": identity,
        "recipe": recipe.model_dump(mode="json"),
        "pretraining": pretraining.model_dump(mode="json"),
        "code_version": code_version(),
        "lock_hash": lock_hash(),
        "seeds": [pretraining.seed],
        "snapshots": {recipe.cube_name: snapshot},
        "method": config["method"],
        "products": list(config["products"]),
        "bands": list(config["bands"]),
        "vitality": vitality.to_dict(),
        "evaluations": [result.to_dict() for result in evaluations],
        "evaluated_on": [_label_terms(labels) for labels in label_sets],
        "training": dict(training or {}),
        "started_from": None if started_from is None else started_from.ref,
        "labels": lineage.read_labels(encoder_folder),
        "transductive": pretraining.transductive or inherited,
        "simulated": simulated,
        "published": recipe.published and not simulated,
    }
    published = [result for result in evaluations if result.published]
    item = build_mlm_item(
        config,
        name=name,
        bbox=_bbox(places),
        period=period,
        total_parameters=_parameters(encoder_folder),
        pretrained_source=manifest["started_from"],
        licence=_licence(scenes),
        description=f"{config['timm']['name']} pretrained with {config['method']} on "
        f"{'simulated ' if simulated else ''}{', '.join(config['products'])}",
        metrics=flat_metrics(published),
    )
    return catalog.register(
        encoder_folder,
        manifest,
        name=name,
        metrics=flat_metrics(evaluations),
        mlm_item=item,
        scenes=[(scene.product, scene.id) for scene in scenes],
    )


def write_lineage(
    folder: Path, cube: Any, snapshot: str, *, name: str
) -> tuple[list[Any], list[Location], tuple[datetime, datetime]]:
    """Complete ``samples.jsonl.gz`` from the pinned snapshot; write ``scenes.json`` and ``places.jsonl.gz``.

    Returns the scenes and the locations drawn from, and the first and last sensing time. The samples keep
    their order. Doing it again writes the same bytes.

    Raises
    ------
    EncoderError: ``incomplete-lineage``: a sample is not in the snapshot, or holds other pixels there.
    """
    drawn = list(lineage.read_samples(folder)) if (folder / lineage.SAMPLES).is_file() else []
    if not drawn:
        raise _incomplete(name, "the run left no list of the samples it drew")
    tables = {
        product: cube.columns(product, snapshot).set_index("sample", drop=False)
        for product in dict.fromkeys(sample["product"] for sample in drawn)
    }
    lines, times = [], []
    used: dict[tuple[str, str], None] = {}
    for sample in drawn:
        table = tables[sample["product"]]
        if sample["sample"] not in table.index:
            raise _incomplete(name, f"sample {sample['sample']} is not in snapshot {snapshot}")
        row = table.loc[sample["sample"]]
        if sample.get("sha256", row["sha256"]) != row["sha256"]:
            raise _incomplete(name, f"sample {sample['sample']} has other pixels in snapshot {snapshot}")
        times.append(row["time"].to_pydatetime())
        used[sample["product"], str(row["scene"])] = None
        lines.append(
            {
                "sample": sample["sample"],
                "product": sample["product"],
                "scene": str(row["scene"]),
                "location": str(row["location"]),
                "row": int(row["row"]),
                "sha256": str(row["sha256"]),
                "time": times[-1].isoformat(),
            }
        )
    known = {product: cube.scenes(product, snapshot) for product in tables}
    scenes = [known[product][scene] for product, scene in used]
    wanted = {str(line["location"]) for line in lines}
    places = [location for location in cube.locations(snapshot) if location.id in wanted]
    lineage.write_samples(folder, lines)
    lineage.write_scenes(folder, scenes)
    write_places(folder, places)
    return scenes, places, (min(times), max(times))


def flat_metrics(evaluations: Sequence[EvaluationResult]) -> dict[str, float]:
    """``TASK/METRIC`` → mean over seeds of the logistic regression on the encoder's features."""
    return {
        f"{result.name}/{metric}": float(value["mean"])
        for result in evaluations
        for metric, value in result.scores[ENCODER][LOGISTIC].items()
        if value["mean"] is not None
    }


def _bbox(places: Sequence[Location]) -> tuple[float, float, float, float]:
    """Degrees around the locations; west > east where they lie on both sides of the antimeridian."""
    reach = [place.size_m / 2 / 111_320 for place in places]
    south = min(place.latitude - r for place, r in zip(places, reach, strict=True))
    north = max(place.latitude + r for place, r in zip(places, reach, strict=True))
    wide = [r / max(math.cos(math.radians(p.latitude)), 0.01) for p, r in zip(places, reach, strict=True)]
    ends = [(p.longitude - w, p.longitude + w) for p, w in zip(places, wide, strict=True)]
    west, east = min(end[0] for end in ends), max(end[1] for end in ends)
    if east - west > 180:
        west = min(low for low, _ in ends if low > 0)
        east = max(high for _, high in ends if high < 0)
    return max(west, -180.0), max(south, -90.0), min(east, 180.0), min(north, 90.0)


def _licence(scenes: Sequence[Any]) -> str:
    """The scenes' licence where they share one with an SPDX id; else ``other``: the manifest lists all."""
    found = {scene.licence for scene in scenes}
    only = next(iter(found)) if len(found) == 1 else "other"
    return only if known_licence(only).id == only and only != "unknown" else "other"


def _label_terms(labels: LabelSet) -> dict[str, Any]:
    return {
        "label_set": labels.name,
        "licence": labels.licence,
        "attribution": labels.attribution,
        "allows": allowed_together([labels.licence]),
    }


def _parameters(folder: Path) -> int:
    """Weights, without the running statistics of batch normalisation."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", framework="numpy") as weights:
        return sum(
            math.prod(weights.get_slice(key).get_shape())
            for key in weights.keys()  # noqa: SIM118 it is no dictionary
            if not key.endswith(("running_mean", "running_var", "num_batches_tracked"))
        )


def _incomplete(name: str, message: str) -> EncoderError:
    return EncoderError(
        "incomplete-lineage",
        message,
        subject=name,
        next_step="register the folder of the run itself, with the snapshot it was pinned to",
    )
