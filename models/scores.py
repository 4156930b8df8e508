"""Scores of predictions, and what may be said of the difference of two encoders over places."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MIN_PLACES_FOR_INTERVAL = 15
"""Fewer places than this are shown as dots: a percentile bootstrap over a handful of them is too narrow."""


def confusion(
    truth: NDArray[np.integer], predicted: NDArray[np.integer], classes: Sequence[int]
) -> NDArray[np.int64]:
    """Counts ``(class of truth, class predicted)`` over ``classes``, in their order."""
    order = {value: index for index, value in enumerate(classes)}
    rows = np.array([order[int(value)] for value in truth], np.int64)
    columns = np.array([order[int(value)] for value in predicted], np.int64)
    counts = np.zeros((len(order), len(order)), np.int64)
    np.add.at(counts, (rows, columns), 1)
    return counts


def class_scores(truth: NDArray[np.integer], predicted: NDArray[np.integer]) -> dict[str, float]:
    """Scores of single-label predictions ``(sample,)``; every average is named, none is called just "mIoU".

    *Micro* scores count samples: ``micro_iou = micro_accuracy / (2 - micro_accuracy)``, so it carries nothing
    that the accuracy does not. *Macro* scores average over the classes that occur in the truth or the
    prediction (F1, IoU) or in the truth (accuracy). ``macro_accuracy`` and ``balanced_accuracy`` are one
    number under its two usual names.
    """
    if not len(truth):
        raise ValueError("nothing to score")
    counts = confusion(
        truth, predicted, sorted({*map(int, np.unique(truth)), *map(int, np.unique(predicted))})
    )
    hits = np.diag(counts).astype(float)
    of_truth, of_prediction = counts.sum(1), counts.sum(0)
    union = of_truth + of_prediction - hits
    correct, total = hits.sum(), counts.sum()
    recall = hits[of_truth > 0] / of_truth[of_truth > 0]
    return {
        "macro_f1": float(np.mean(2 * hits / (of_truth + of_prediction))),
        "micro_accuracy": float(correct / total),
        "macro_accuracy": float(recall.mean()),
        "balanced_accuracy": float(recall.mean()),
        "micro_iou": float(correct / (2 * total - correct)),
        "macro_iou": float(np.mean(hits / union)),
    }


def change_scores(
    truth: NDArray[np.integer], predicted: NDArray[np.integer], probability: NDArray[np.floating]
) -> dict[str, float]:
    """Scores of changed (1) against unchanged (0), led by the average precision of the change probability.

    Average precision is NaN where the truth holds one class only: no ranking can be judged there.
    """
    changed = np.asarray(truth) == 1
    hits = float(np.sum(changed & (predicted == 1)))
    named = float(np.sum(predicted == 1) + changed.sum())
    scores = class_scores(truth, predicted)
    return {
        "average_precision": average_precision(changed, probability),
        "changed_f1": 2 * hits / named if named else math.nan,
        "changed_share": float(changed.mean()),
        "balanced_accuracy": scores["balanced_accuracy"],
        "macro_f1": scores["macro_f1"],
        "micro_accuracy": scores["micro_accuracy"],
    }


def average_precision(positive: NDArray[np.bool_], score: NDArray[np.floating]) -> float:
    """Mean precision over the positives, by descending score; NaN where only one class is there."""
    if positive.all() or not positive.any():
        return math.nan
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(positive, score))


@dataclass(frozen=True)
class Interval:
    """Percentile bootstrap over places."""

    low: float
    high: float
    level: float
    places: int


@dataclass(frozen=True)
class PairedDifference:
    """Encoder minus baseline, one value per place."""

    baseline: str
    metric: str
    values: Mapping[str, float]
    """Place → difference; places without a value (e.g. no change in them) are left out."""
    mean: float
    interval: Interval | None
    """None below ``MIN_PLACES_FOR_INTERVAL`` places."""

    @property
    def better_in(self) -> int:
        return sum(value > 0 for value in self.values.values())

    @property
    def worse_in(self) -> int:
        return sum(value < 0 for value in self.values.values())

    @property
    def noise(self) -> float:
        """Standard error of the mean over places; infinite below two places."""
        values = np.array(list(self.values.values()), float)
        return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.inf

    def describe(self) -> str:
        """One line: the mean, and either the interval or how many places went which way."""
        baseline = "PCA" if self.baseline == "pca" else self.baseline.replace("-", " ")
        subject = f"{self.metric.replace('_', ' ')} against {baseline}"
        if not self.values:
            return f"{subject}: no place can be scored on its own"
        head = f"{subject}: {self.mean:+.3f}"
        if self.interval is not None:
            low, high, percent = self.interval.low, self.interval.high, round(100 * self.interval.level)
            return f"{head} ({percent} % over {self.interval.places} places: {low:+.3f} to {high:+.3f})"
        return f"{head}, better in {self.better_in} and worse in {self.worse_in} of {len(self.values)} places"

    def to_dict(self) -> dict[str, Any]:
        """A JSON document."""
        interval = self.interval
        return {
            "baseline": self.baseline,
            "metric": self.metric,
            "mean": _json_number(self.mean),
            "places": len(self.values),
            "values": dict(self.values),
            "better_in": self.better_in,
            "worse_in": self.worse_in,
            "interval": None
            if interval is None
            else {"low": interval.low, "high": interval.high, "level": interval.level},
            "text": self.describe(),
        }


def paired_difference(
    metric: str,
    encoder: Mapping[str, float],
    baseline: Mapping[str, float],
    *,
    name: str,
    seed: int = 0,
) -> PairedDifference:
    """Differences over the places that have a finite value on both sides."""
    shared = sorted(
        place
        for place in encoder.keys() & baseline.keys()
        if math.isfinite(encoder[place]) and math.isfinite(baseline[place])
    )
    values = {place: float(encoder[place] - baseline[place]) for place in shared}
    mean = float(np.mean(list(values.values()))) if values else math.nan
    interval = bootstrap_interval(np.array(list(values.values()), float), seed=seed)
    return PairedDifference(name, metric, values, mean, interval)


def bootstrap_interval(
    values: NDArray[np.floating], *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval | None:
    """Percentile interval of the mean when *places* are drawn again with replacement.

    ``values`` holds one number per place ``(place,)``. None below ``MIN_PLACES_FOR_INTERVAL`` places: pixels
    or dates of one place are no substitute for places.
    """
    if len(values) < MIN_PLACES_FOR_INTERVAL:
        return None
    draws = np.random.default_rng(seed).integers(0, len(values), (resamples, len(values)))
    low, high = np.quantile(values[draws].mean(1), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level, len(values))


def mean_over_seeds(runs: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float | None]]:
    """Metric → ``{"mean", "std"}`` over seeds; None for the ``std`` of one seed and for what is NaN."""
    summary: dict[str, dict[str, float | None]] = {}
    for metric in runs[0]:
        values = np.array([run[metric] for run in runs], float)
        finite = values[np.isfinite(values)]
        summary[metric] = {
            "mean": float(finite.mean()) if len(finite) else None,
            "std": float(finite.std(ddof=1)) if len(finite) > 1 else None,
        }
    return summary


def mean_places(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Place → mean over the seeds in which the place has a finite value."""
    gathered: dict[str, list[float]] = {}
    for run in runs:
        for place, value in run.items():
            if math.isfinite(value):
                gathered.setdefault(place, []).append(value)
    return {place: float(np.mean(values)) for place, values in sorted(gathered.items())}


def _json_number(value: float) -> float | None:
    return value if math.isfinite(value) else None
