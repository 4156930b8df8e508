"""Decides whether a new version of an encoder becomes the one in production."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from models.scores import MIN_PLACES_FOR_INTERVAL, paired_difference
from tasks.evaluate.encoder import EvaluationResult
from tasks.evaluate.features import ENCODER
from tasks.evaluate.probes import LOGISTIC

SAME_TASK = ("kind", "protocol", "product", "label_set", "place", "place_metric", "metric")
MIN_SHARED_PLACES = 0.5
"""Of the places the current version was judged at; with fewer in common the sets are not the same."""
NOISE = 0.05
"""Probability with which equal encoders would be told apart: a one-sided test at this level."""

Result = EvaluationResult | Mapping[str, Any]


@dataclass(frozen=True)
class Promotion:
    """What becomes of a new version."""

    promote: bool
    why: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def decide_promotion(
    new: Sequence[Result], current: Sequence[Result] | None, tolerance: float = 0.0
) -> Promotion:
    """Promote unless the new version is somewhere worse than the current one beyond the noise of the scores.

    ``current`` is None where nothing is in production yet. Every task of the current version must be there
    again. Per task the noise is that of the paired differences over places; with one place, that of the
    seeds. ``tolerance`` is a loss that is accepted beyond it, in units of the metric.
    """
    if current is None:
        return Promotion(True, "the first version")
    fresh = {document["name"]: document for document in map(_document, new)}
    said = []
    for old in map(_document, current):
        name = old["name"]
        if name not in fresh:
            return Promotion(False, f"{name} was judged for the current version and not for this one")
        task = fresh[name]
        differing = [key for key in SAME_TASK if task[key] != old[key]]
        if differing:
            return Promotion(False, f"{name} is not the same task any more: {', '.join(differing)} changed")
        if task["transductive"] and not old["transductive"]:
            return Promotion(False, f"on {name} this version has learnt from places it is judged at")
        verdict = _compare(name, task, old, tolerance)
        if not verdict.promote:
            return verdict
        said.append(verdict.why)
    if not said:
        return Promotion(True, "nothing was judged for the current version; the newest living one is taken")
    return Promotion(True, f"nowhere worse beyond the noise: {'; '.join(said)}")


def _compare(name: str, new: Mapping[str, Any], old: Mapping[str, Any], tolerance: float) -> Promotion:
    places, before = new["per_place"][ENCODER], old["per_place"][ENCODER]
    difference = paired_difference(old["place_metric"], places, before, name="the current version")
    count = len(difference.values)
    metric = old["place_metric"].replace("_", " ")
    if before and count < MIN_SHARED_PLACES * len(before):
        return Promotion(
            False, f"{name}: {count} of {len(before)} places are the same, too few to compare versions by"
        )
    if count < 2:
        return _compare_headline(name, new, old, tolerance)
    if count >= MIN_PLACES_FOR_INTERVAL and difference.interval is not None:
        reach = (difference.interval.high - difference.interval.low) / 2
        worse = difference.interval.high < -tolerance
    else:
        from scipy.stats import t

        reach = float(t.ppf(1 - NOISE, count - 1)) * difference.noise
        worse = difference.mean + reach < -tolerance
    text = f"{name} {difference.mean:+.3f} {metric} over {count} places, noise {reach:.3f}"
    return Promotion(not worse, f"worse on {text}" if worse else text)


def _compare_headline(
    name: str, new: Mapping[str, Any], old: Mapping[str, Any], tolerance: float
) -> Promotion:
    metric = old["metric"]
    after, before = (document["scores"][ENCODER][LOGISTIC][metric] for document in (new, old))
    if after["mean"] is None or before["mean"] is None:
        return Promotion(after["mean"] is not None or before["mean"] is None, f"{name} cannot be scored")
    change = after["mean"] - before["mean"]
    deviations = np.array([part["std"] or 0.0 for part in (after, before)])
    noise = 2 * math.hypot(*deviations)
    text = f"{name} {change:+.3f} {metric.replace('_', ' ')}, noise over seeds {noise:.3f}"
    return Promotion(
        change >= -noise - tolerance, text if change >= -noise - tolerance else f"worse on {text}"
    )


def _document(result: Result) -> Mapping[str, Any]:
    return result.to_dict() if isinstance(result, EvaluationResult) else result
