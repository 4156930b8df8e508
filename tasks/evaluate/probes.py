"""Fits probes fold by fold and seed by seed, and scores what they say."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
from models.scores import change_scores, class_scores
from tasks.evaluate.evaluation_set import EvaluationSet
from tasks.evaluate.features import ENCODER, FeatureTable, random_name
from tasks.evaluate.leakage import Footprint, overlaps

LOGISTIC, NEIGHBOURS, LOGISTIC_CONCAT = "logistic", "neighbours", "logistic-concat"
PLACE_METRIC = {
    # A block holds few patches, often of one class: its accuracy means something, its F1 does not.
    "patch-classes": "micro_accuracy",
    "pixel-classes": "macro_f1",
    "change": "average_precision",
}
TRAINING_SHARE = 0.8
"""Of each training place's units, drawn anew for every seed, so that the seeds tell something."""


def folds_of(
    protocol: str, units: EvaluationSet, footprints: Mapping[str, Footprint]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(train, test) positions; no training location shares ground with a judged one."""
    if protocol == "holdout":
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
class SeedRun:
    """What one seed gave; source → …"""

    scores: Mapping[str, Mapping[str, Mapping[str, float]]]
    per_place: Mapping[str, Mapping[str, float]]
    chosen_c: Mapping[str, Sequence[float]]


def run_seed(
    kind: str,
    units: EvaluationSet,
    table: FeatureTable,
    folds: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
    seed: int,
) -> SeedRun:
    """Fit and judge every source's features with one seed; places judged in several folds are pooled."""
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
        by_place = {probe: _place_values(kind, units, *parts) for probe, parts in merged.items()}
        per_place[source] = by_place[LOGISTIC]
        if kind == "change" and len(folds) > 1:
            # Probabilities of different fits are on different scales and cannot be ranked together.
            for probe, values in by_place.items():
                finite = [value for value in values.values() if math.isfinite(value)]
                scores[source][probe]["average_precision"] = float(np.mean(finite)) if finite else math.nan
    return SeedRun(scores, per_place, chosen)


def _place_values(
    kind: str, units: EvaluationSet, test: NDArray[Any], said: NDArray[Any], probability: NDArray[Any]
) -> dict[str, float]:
    values = {}
    for place in np.unique(units.places[test]).tolist():
        here = units.places[test] == place
        scores = _score(kind, units.labels[test][here], said[here], probability[here])
        values[place] = scores[PLACE_METRIC[kind]]
    return values


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
