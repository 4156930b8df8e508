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
from models.probes import (
    Criterion,
    LogisticProbe,
    Probe,
    fit_logistic,
    fit_neighbours,
    predicted,
    probability_of,
)
from models.scores import (
    MIN_PLACES_FOR_INTERVAL,
    PairedDifference,
    change_scores,
    class_scores,
    mean_over_seeds,
    mean_places,
    paired_difference,
)
from tasks.evaluation_features import FeatureTable, feature_table, random_name
from tasks.evaluation_set import EvaluationSet, evaluation_set, nothing
from tasks.leakage import Draws, Footprint, footprint, leaks, overlaps, read_draws

ENCODER = "encoder"
LOGISTIC, NEIGHBOURS, LOGISTIC_CONCAT = "logistic", "neighbours", "logistic-concat"
HEADLINE = {"patch-classes": "macro_f1", "pixel-classes": "macro_f1", "change": "average_precision"}
PLACE_METRIC = {
    # A block holds few patches, often of one class: its accuracy means something, its F1 does not.
    "patch-classes": "micro_accuracy",
    "pixel-classes": "macro_f1",
    "change": "average_precision",
}
TRAINING_SHARE = 0.8
"""Of each training place's units, drawn anew for every seed, so that the seeds tell something."""
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
    all the others. C is chosen within the training places of each fit. ``ancestors`` are the folders of
    encoders whose weights this one started from: where they learnt counts too.

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
    folds = list(_folds(evaluation, units, footprints))
    if not folds:
        raise nothing(evaluation, "there is no place to learn at and another one to judge at")
    runs = {seed: _run_seed(evaluation.kind, units, table, folds, seed) for seed in seeds}

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


def _folds(
    evaluation: Evaluation, units: EvaluationSet, footprints: Mapping[str, Footprint]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(train, test) positions; no training location shares ground with a judged one."""
    if evaluation.protocol == "holdout":
        pairs = [(units.splits == "probe", units.splits == "test")]
    else:
        pairs = [(units.places != place, units.places == place) for place in np.unique(units.places)]
    names = list(footprints)
    shared = overlaps(list(footprints.values()), list(footprints.values()))
    position = {name: index for index, name in enumerate(names)}
    of_unit = np.array([position[name] for name in units.locations.tolist()])
    for train, test in pairs:
        touched = shared[:, np.unique(of_unit[test])].any(1)
        train = np.flatnonzero(train & ~touched[of_unit])
        if len(train) and test.any():
            yield train, np.flatnonzero(test)


@dataclass(frozen=True)
class _SeedRun:
    scores: Mapping[str, Mapping[str, Mapping[str, float]]]
    per_place: Mapping[str, Mapping[str, float]]
    chosen_c: Mapping[str, Sequence[float]]


def _run_seed(
    kind: str,
    units: EvaluationSet,
    table: FeatureTable,
    folds: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
    seed: int,
) -> _SeedRun:
    scores: dict[str, dict[str, dict[str, float]]] = {}
    per_place: dict[str, dict[str, float]] = {}
    chosen: dict[str, list[float]] = {}
    probes = [NEIGHBOURS, LOGISTIC, *([LOGISTIC_CONCAT] if kind == "change" else [])]
    for source in (ENCODER, *baselines.BASELINES):
        outputs: dict[str, list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]] = {}
        for train, test in folds:
            train = _subsample(train, units.places, seed)
            inputs = _inputs(table, source, train, seed)
            for probe in probes:
                features = _combined(inputs, probe) if kind == "change" else inputs
                fitted = _fitted(probe, kind, features[train], units.labels[train], units.places[train])
                outputs.setdefault(probe, []).append(
                    (test, predicted(fitted, features[test]), probability_of(fitted, features[test], 1))
                )
                if probe == LOGISTIC and isinstance(fitted, LogisticProbe):
                    chosen.setdefault(source, []).append(fitted.strength)
        chosen.setdefault(source, [])
        merged = {
            probe: tuple(np.concatenate([part[index] for part in parts]) for index in range(3))
            for probe, parts in outputs.items()
        }
        scores[source] = {
            probe: _score(kind, units.labels[test], said, probability)
            for probe, (test, said, probability) in merged.items()
        }
        test, said, probability = merged[LOGISTIC]
        per_place[source] = {}
        for place in np.unique(units.places[test]).tolist():
            here = units.places[test] == place
            value = _score(kind, units.labels[test][here], said[here], probability[here])[PLACE_METRIC[kind]]
            per_place[source][place] = value
    return _SeedRun(scores, per_place, chosen)


def _fitted(
    probe: str, kind: str, features: NDArray[Any], labels: NDArray[Any], places: NDArray[Any]
) -> Probe:
    if probe == NEIGHBOURS:
        return fit_neighbours(features, labels)
    criterion: Criterion = "average_precision" if kind == "change" else "macro_f1"
    return fit_logistic(features, labels, places, criterion=criterion)


def _subsample(train: NDArray[np.int64], places: NDArray[Any], seed: int) -> NDArray[np.int64]:
    """``TRAINING_SHARE`` of each place's units, at least one of each."""
    rng = np.random.default_rng([seed, 1])
    kept = []
    for place in np.unique(places[train]):
        own = train[places[train] == place]
        kept.append(rng.permutation(own)[: max(1, round(TRAINING_SHARE * len(own)))])
    return np.sort(np.concatenate(kept))


def _inputs(table: FeatureTable, source: str, train: NDArray[np.int64], seed: int) -> NDArray[np.floating]:
    """Features of a source for one seed and fold; PCA is fitted on the training units here."""
    if source == baselines.RANDOM_WEIGHTS:
        return table.features[random_name(seed)]
    if source != baselines.PCA:
        return table.features[source]
    inputs = table.features[source]
    learnt = inputs[train].reshape(-1, inputs.shape[-1])
    components = baselines.PrincipalComponents.fit(learnt, seed=seed)
    return components.apply(inputs.reshape(-1, inputs.shape[-1])).reshape(*inputs.shape[:-1], -1)


def _combined(inputs: NDArray[np.floating], probe: str) -> NDArray[np.floating]:
    """Features of both dates ``(unit, 2, feature)`` as one vector: their distance, or one after the other."""
    if probe == LOGISTIC_CONCAT:
        return inputs.reshape(len(inputs), -1)
    return np.abs(inputs[:, 1] - inputs[:, 0])


def _score(kind: str, truth: NDArray[Any], said: NDArray[Any], probability: NDArray[Any]) -> dict[str, float]:
    return change_scores(truth, said, probability) if kind == "change" else class_scores(truth, said)


def _class_counts(kind: str, label_set: Any, labels: NDArray[np.integer]) -> dict[str, int]:
    names = {0: "unchanged", 1: "changed"} if kind == "change" else label_set.classes
    values, counts = np.unique(labels, return_counts=True)
    return {str(names.get(int(v), v)): int(count) for v, count in zip(values, counts, strict=True)}


def _notes(
    units: EvaluationSet, scored: Mapping[str, float], places: int, draws: Draws, simulated: bool
) -> tuple[str, ...]:
    notes = [f"{reason}: {count} left out" for reason, count in units.left_out.items()]
    if len(scored) < places:
        notes.append(f"{places - len(scored)} places hold one class only and cannot be scored on their own")
    if len(scored) < MIN_PLACES_FOR_INTERVAL:
        notes.append(f"{len(scored)} places are too few for an interval; each dot is one of them")
    if not draws.recorded:
        notes.append("where this encoder has learnt is not on record: overlap cannot be excluded")
    elif draws.unknown:
        notes.append(f"{len(draws.unknown)} locations it has learnt from are not in this cube")
    if simulated:
        notes.append("simulated scenes: not to be quoted as quality")
    return tuple(notes)
