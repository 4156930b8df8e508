"""Probes of frozen features: nearest neighbours, and logistic regression tuned within training places."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from models.logistic import LogisticFit, fit_path

Features = NDArray[np.floating]
"""``(sample, feature)``."""
Criterion = Literal["macro_f1", "average_precision"]

NEIGHBOURS = 5
"""As in torchgeo-bench (Euclidean distance, features not L2-normalised)."""
STRENGTHS = tuple(10.0**power for power in range(-3, 5))
"""Values of C tried: the inverse of the L2 penalty, on standardised features."""
FOLDS = 4
SMALL = 4_000_000
"""Values in a feature table up to which one thread is fastest."""


class Probe(Protocol):
    """A fitted classifier of features."""

    def probabilities(self, features: Features) -> tuple[NDArray[np.integer], NDArray[np.floating]]:
        """The classes ``(class,)``, and ``(sample, class)`` probabilities in their order."""


@dataclass(frozen=True)
class Standardiser:
    """Zero mean and unit deviation by the training samples alone; what is not finite becomes the mean.

    Both probes standardise every feature set, the baselines' too: image statistics mix reflectance with dB,
    and a baseline that fails for its units would flatter the encoder.
    """

    mean: NDArray[np.floating]
    deviation: NDArray[np.floating]

    @classmethod
    def fit(cls, features: Features) -> Standardiser:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a feature that is never finite
            finite = np.where(np.isfinite(features), features, np.nan).astype(np.float64)
            mean, deviation = np.nanmean(finite, axis=0), np.nanstd(finite, axis=0)
        mean = np.nan_to_num(mean)
        steady = np.nan_to_num(deviation) <= 1e-8 * np.maximum(1.0, np.abs(mean))
        return cls(mean, np.where(steady, 1.0, deviation))

    def apply(self, features: Features) -> Features:
        scaled = (features - self.mean) / self.deviation
        return np.where(np.isfinite(scaled), scaled, 0.0)


@dataclass(frozen=True)
class NeighbourProbe:
    """Votes of the nearest training samples."""

    scale: Standardiser
    model: Any

    def probabilities(self, features: Features) -> tuple[NDArray[np.integer], NDArray[np.floating]]:
        return self.model.classes_, self.model.predict_proba(self.scale.apply(features))


@dataclass(frozen=True)
class LogisticProbe:
    """Multinomial logistic regression."""

    scale: Standardiser
    fit: LogisticFit
    tried: dict[float, float]
    """C → mean score over the folds; empty where there were too few training places to choose."""
    folds: int

    @property
    def strength(self) -> float:
        """The C it was fitted with."""
        return self.fit.strength

    def probabilities(self, features: Features) -> tuple[NDArray[np.integer], NDArray[np.floating]]:
        return self.fit.classes, self.fit.probabilities(self.scale.apply(features))


@dataclass(frozen=True)
class ConstantProbe:
    """Says the one class there was to learn."""

    label: int

    def probabilities(self, features: Features) -> tuple[NDArray[np.integer], NDArray[np.floating]]:
        return np.array([self.label]), np.ones((len(features), 1))


def fit_neighbours(features: Features, labels: NDArray[np.integer]) -> Probe:
    """Five nearest neighbours (fewer where there are fewer training samples)."""
    from sklearn.neighbors import KNeighborsClassifier

    scale = Standardiser.fit(features)
    model = KNeighborsClassifier(min(NEIGHBOURS, len(labels)), algorithm="brute")
    return NeighbourProbe(scale, model.fit(scale.apply(features), labels))


def fit_logistic(
    features: Features,
    labels: NDArray[np.integer],
    places: Sequence[str] | NDArray[Any],
    *,
    criterion: Criterion = "macro_f1",
    strengths: Sequence[float] = STRENGTHS,
) -> Probe:
    """Logistic regression whose C is chosen within the training places.

    ``places`` names the place of each training sample; the folds keep a place whole, so that C is chosen for
    places the fit has not seen. Nothing but what is passed here takes part. Of equal scores the one with the
    least log loss wins, so that thresholds are sound where a ranking is perfect. With one training place
    there is nothing to choose by, and C is 1.
    """
    if len(np.unique(labels)) == 1:
        return ConstantProbe(int(labels[0]))
    places = np.asarray(places)
    folds = _place_folds(places, labels)
    tried: dict[float, list[tuple[float, float]]] = {strength: [] for strength in strengths}
    for train, held in folds:
        scale = Standardiser.fit(features[train])
        inputs = scale.apply(features[held])
        for fit in fit_path(scale.apply(features[train]), labels[train], strengths):
            probabilities = fit.probabilities(inputs)
            tried[fit.strength].append(
                (
                    _fold_score(criterion, labels[held], fit.classes, probabilities),
                    _surprise(labels[held], fit.classes, probabilities),
                )
            )
    means: dict[float, tuple[float, float]] = {}
    for strength, scores in tried.items():
        if np.isfinite([score for score, _ in scores]).any():
            score, surprise = np.nanmean(np.array(scores), axis=0)
            means[strength] = (float(score), float(surprise))
    best = min(means, key=lambda c: (-round(means[c][0], 6), means[c][1], c)) if means else 1.0
    scale = Standardiser.fit(features)
    (fit,) = fit_path(scale.apply(features), labels, (best,))
    chosen_by = {strength: score for strength, (score, _) in means.items()}
    return LogisticProbe(scale, fit, chosen_by, len(folds))


def threads_for(values: int) -> AbstractContextManager[Any]:
    """Threads for probes on tables of so many ``values``: one, for small ones.

    The fits make very many tiny BLAS calls; waking threads for them cost ten times the work itself (measured
    on 2 cores, 56 samples of 32 features).
    """
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[Any] = threadpool_limits(1 if values < SMALL else None)
    return limits


def predicted(probe: Probe, features: Features) -> NDArray[np.integer]:
    """The most probable class of each sample ``(sample,)``."""
    classes, probabilities = probe.probabilities(features)
    return classes[probabilities.argmax(1)]


def probability_of(probe: Probe, features: Features, label: int) -> NDArray[np.floating]:
    """Probability of one class ``(sample,)``; zero for a class the probe never saw."""
    classes, probabilities = probe.probabilities(features)
    hit = np.flatnonzero(classes == label)
    return probabilities[:, hit[0]] if len(hit) else np.zeros(len(features))


def _place_folds(
    places: NDArray[Any], labels: NDArray[np.integer]
) -> list[tuple[NDArray[np.integer], NDArray[np.integer]]]:
    """Folds that keep a place whole and spread the classes; none that would train on one class."""
    from sklearn.model_selection import StratifiedGroupKFold

    count = min(FOLDS, len(np.unique(places)))
    if count < 2:
        return []
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer samples than folds is no fault
        folds = list(splitter.split(np.zeros(len(labels)), labels, places))
    return [(train, held) for train, held in folds if len(held) and len(np.unique(labels[train])) > 1]


def _fold_score(
    criterion: Criterion,
    truth: NDArray[np.integer],
    classes: NDArray[np.integer],
    probabilities: NDArray[np.floating],
) -> float:
    from models.scores import average_precision, class_scores

    if criterion == "average_precision":
        return average_precision(truth == 1, probabilities[:, np.flatnonzero(classes == 1)[0]])
    return class_scores(truth, classes[probabilities.argmax(1)])["macro_f1"]


def _surprise(
    truth: NDArray[np.integer], classes: NDArray[np.integer], probabilities: NDArray[np.floating]
) -> float:
    """Log loss; a class that the fit has not seen counts as improbable as a float32 can tell."""
    given = (probabilities * (classes[None, :] == truth[:, None])).sum(1)
    return float(-np.log(np.maximum(given, 1e-7)).mean())
