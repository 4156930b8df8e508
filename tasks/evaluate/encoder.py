"""Scores an encoder's frozen features on a downstream task, beside what costs nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.errors import EncoderError
from catalog.recipes import Evaluation, Recipe
from models import baselines
from models.probes import threads_for
from models.scores import (
    MIN_PLACES_FOR_INTERVAL,
    PairedDifference,
    mean_over_seeds,
    mean_places,
    paired_difference,
)
from tasks.evaluate.evaluation_set import EvaluationSet, evaluation_set, nothing
from tasks.evaluate.features import ENCODER, feature_table, random_name
from tasks.evaluate.leakage import Draws, Footprint, footprint, leaks, read_draws, read_taught, taught_places
from tasks.evaluate.probes import LOGISTIC, PLACE_METRIC, folds_of, run_seed

HEADLINE = {"patch-classes": "macro_f1", "pixel-classes": "macro_f1", "change": "average_precision"}
MIN_SEEDS_TO_PUBLISH = 3


@dataclass(frozen=True)
class EvaluationResult:
    """Scores of one encoder on one task."""

    name: str
    encoder: str
    kind: str
    protocol: str
    product: str
    label_set: str
    place: str
    cube: str
    snapshot: str
    metric: str
    """Headline metric, of the logistic regression over all judged units."""
    place_metric: str
    """Metric of the single values per place."""
    scores: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float | None]]]]
    """Source (``encoder`` and the baselines) → probe → metric → ``{"mean", "std"}`` over seeds."""
    per_place: Mapping[str, Mapping[str, float]]
    """Source → place → ``place_metric`` of the logistic regression, mean over seeds."""
    differences: tuple[PairedDifference, ...]
    """Encoder minus each baseline, place by place."""
    places: int
    test_samples: int
    train_samples: int
    classes: Mapping[str, int]
    """Class name → judged units."""
    chosen_c: Mapping[str, tuple[float, ...]]
    """Source → C of the logistic regressions, by seed and fold."""
    seeds: tuple[int, ...]
    caveat: str
    transductive: bool
    """The encoder has learnt from places that are judged here."""
    draws_known: bool
    """Whether it is on record where the encoder has learnt; only then overlap can be excluded."""
    published: bool
    """Whether the score may be quoted as quality."""
    notes: tuple[str, ...]
    seconds: float

    @property
    def headline(self) -> float:
        """Mean of the headline metric over seeds; NaN where it is not defined."""
        mean = self.scores[ENCODER][LOGISTIC][self.metric]["mean"]
        return math.nan if mean is None else mean

    def to_dict(self) -> dict[str, Any]:
        """A JSON document."""
        document = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return document | {
            "differences": [difference.to_dict() for difference in self.differences],
            "chosen_c": {name: list(values) for name, values in self.chosen_c.items()},
            "seeds": list(self.seeds),
            "notes": list(self.notes),
        }


def evaluate_encoder(
    encoder_folder: Path,
    evaluation: Evaluation,
    recipe: Recipe,
    cube: Any,
    snapshot: str,
    label_set: Any,
    *,
    seeds: Sequence[int] | None = None,
    name: str | None = None,
    ancestors: Sequence[Path] = (),
    batch_size: int = 64,
    device: str = "cpu",
) -> EvaluationResult:
    """Fit probes on frozen features and judge them at places that nothing was learnt from.

    ``holdout``: probes learn at the probe places and are judged at the test places.
    ``leave-one-place-out``: every place that is not for pretraining is judged once, by probes that learnt at
    all the others; average precision is then the mean over places. C is chosen within the training places of
    each fit. Places whose labels the encoder was pretrained with are left out, of probes and of judgement,
    also where the recipe is transductive. ``ancestors`` are the folders of encoders whose weights this one
    started from: where they learnt, and from which labels, counts too. ``name`` is the encoder's in the
    recipe; the folder's unless given.

    Raises
    ------
    EncoderError: ``evaluation-leaks``: the encoder has learnt from a judged place and its recipe does not ask
    for the transductive setting; ``wrong-product``.
    UsageError: ``nothing-to-evaluate``, ``no-change-class``.
    """
    from models.encoder_files import load_encoder, random_encoder
    from models.features import physical_batches
    from models.physical_pixels import choose_bands

    began = time.perf_counter()
    seeds = tuple(range(evaluation.seeds)) if seeds is None else tuple(seeds)
    model = load_encoder(encoder_folder, device=device)
    config = model.config
    name = name or encoder_folder.name
    if evaluation.product not in (config["product"], *config.get("products", ())):
        raise EncoderError(
            "wrong-product",
            f"it takes {config['product']}, the evaluation is on {evaluation.product}",
            subject=name,
            next_step=f"name the encoders of evaluation {evaluation.name} in the recipe",
        )
    product = cube.products(snapshot)[evaluation.product]
    choice = choose_bands(product, tuple(config["bands"]), gsd_m=config["gsd_m"])
    units = evaluation_set(evaluation, cube, snapshot, label_set, product, choice.gsd_m)

    locations = {location.id: location for location in cube.locations(snapshot)}
    taught = read_taught((encoder_folder, *ancestors))
    units = _without_taught(evaluation, units, locations, taught)
    draws = read_draws((encoder_folder, *ancestors), locations.values())
    pretraining = next((item for item in recipe.pretrain if item.encoder == name.split("@")[0]), None)
    declared = bool(config.get("transductive", pretraining.transductive if pretraining else False))
    transductive = _judge_draws(evaluation, name, units, locations, draws, declared)

    mask_cloud = bool(config.get("mask_cloud", pretraining.mask_cloud if pretraining else False))

    def read(rows: NDArray[np.int64]) -> Iterator[tuple[Any, Any]]:
        return physical_batches(
            cube, snapshot, choice, rows, batch_size=batch_size, mask_cloud=mask_cloud, device=device
        )

    twins = {random_name(seed): random_encoder(config, seed).to(device) for seed in seeds}
    table = feature_table({ENCODER: model} | twins, units, read)
    judged = np.flatnonzero(table.valid)
    units = units.take(judged).leaving_out(
        "units with too few valid pixels", int(len(table.valid) - len(judged))
    )
    table = table.take(judged)
    footprints = {place: footprint(locations[place]) for place in np.unique(units.locations).tolist()}
    folds = list(folds_of(evaluation.protocol, units, footprints))
    if not folds:
        raise nothing(evaluation, "there is no place to learn at and another one to judge at")
    # What PCA is fitted on is wider than anything that a probe sees.
    with threads_for(max(part.size for source, part in table.features.items() if source != baselines.PCA)):
        runs = {seed: run_seed(evaluation.kind, units, table, folds, seed) for seed in seeds}

    tested = np.unique(np.concatenate([test for _, test in folds]))
    sources = [ENCODER, *baselines.BASELINES]
    per_place = {source: mean_places([runs[seed].per_place[source] for seed in seeds]) for source in sources}
    place_metric = PLACE_METRIC[evaluation.kind]
    simulated = any(scene.origin == "simulated" for scene in cube.scenes(product.id, snapshot).values())
    return EvaluationResult(
        name=evaluation.name,
        encoder=name,
        kind=evaluation.kind,
        protocol=evaluation.protocol,
        product=evaluation.product,
        label_set=evaluation.label_set,
        place=evaluation.place,
        cube=recipe.cube_name,
        snapshot=snapshot,
        metric=HEADLINE[evaluation.kind],
        place_metric=place_metric,
        scores={
            source: {
                probe: mean_over_seeds([runs[seed].scores[source][probe] for seed in seeds])
                for probe in runs[seeds[0]].scores[source]
            }
            for source in sources
        },
        per_place=per_place,
        differences=tuple(
            paired_difference(place_metric, per_place[ENCODER], per_place[baseline], name=baseline)
            for baseline in baselines.BASELINES
        ),
        places=len(np.unique(units.places[tested])),
        test_samples=len(tested),
        train_samples=int(np.median([len(train) for train, _ in folds])),
        classes=_class_counts(evaluation.kind, label_set, units.labels[tested]),
        chosen_c={
            source: tuple(c for seed in seeds for c in runs[seed].chosen_c[source]) for source in sources
        },
        seeds=seeds,
        caveat=evaluation.caveat,
        transductive=transductive,
        draws_known=draws.recorded and not draws.unknown,
        published=recipe.published
        and not simulated
        and len(seeds) >= MIN_SEEDS_TO_PUBLISH
        and draws.recorded,
        notes=_notes(units, per_place[ENCODER], len(np.unique(units.places[tested])), draws, simulated),
        seconds=round(time.perf_counter() - began, 3),
    )


def _without_taught(
    evaluation: Evaluation,
    units: EvaluationSet,
    locations: Mapping[str, Any],
    taught: Sequence[Footprint],
) -> EvaluationSet:
    """The units at places whose labels the encoder has not seen; a transductive recipe changes nothing."""
    left_out = taught_places([locations[place] for place in np.unique(units.locations).tolist()], taught)
    kept = ~np.isin(units.locations, sorted(left_out))
    if not kept.any():
        raise nothing(
            evaluation, "the encoder was pretrained with labels of every place that could be judged"
        )
    return units.take(kept).leaving_out(
        "units at places whose labels were used in pretraining", int((~kept).sum())
    )


def _judge_draws(
    evaluation: Evaluation,
    name: str,
    units: EvaluationSet,
    locations: Mapping[str, Any],
    draws: Draws,
    declared: bool,
) -> bool:
    """Whether the score is transductive; refuses one that would be so without saying."""
    found = leaks([locations[place] for place in np.unique(units.locations).tolist()], draws)
    if found and not declared:
        place, why = next(iter(sorted(found.items())))
        raise EncoderError(
            "evaluation-leaks",
            f"it has learnt from {len(found)} of the places that {evaluation.name} judges ({place}: {why})",
            subject=name,
            next_step="evaluate at other places, or say `transductive: true` in its part of the recipe",
        )
    return bool(found) or declared


def _class_counts(kind: str, label_set: Any, labels: NDArray[np.integer]) -> dict[str, int]:
    names = {0: "unchanged", 1: "changed"} if kind == "change" else label_set.classes
    values, counts = np.unique(labels, return_counts=True)
    return {str(names.get(int(v), v)): int(count) for v, count in zip(values, counts, strict=True)}


def _notes(
    units: EvaluationSet, scored: Mapping[str, float], places: int, draws: Draws, simulated: bool
) -> tuple[str, ...]:
    notes = [f"{reason}: {count} left out" for reason, count in units.left_out.items()]
    if len(scored) < places:
        notes.append(f"places of one class only, which cannot be scored on their own: {places - len(scored)}")
    if len(scored) < MIN_PLACES_FOR_INTERVAL:
        notes.append(f"{len(scored)} places are too few for an interval; each dot is one of them")
    if not draws.recorded:
        notes.append("where this encoder has learnt is not on record: overlap cannot be excluded")
    elif draws.unknown:
        notes.append(f"{len(draws.unknown)} locations it has learnt from are not in this cube")
    if simulated:
        notes.append("simulated scenes: not to be quoted as quality")
    return tuple(notes)
