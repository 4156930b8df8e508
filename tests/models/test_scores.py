"""Scores are what their names say, and nothing is claimed from a handful of places."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.scores import (
    MIN_PLACES_FOR_INTERVAL,
    average_precision,
    bootstrap_interval,
    change_scores,
    class_scores,
    mean_over_seeds,
    mean_places,
    paired_difference,
)

labels = st.integers(1, 60).flatmap(
    lambda n: st.tuples(
        arrays(np.int64, n, elements=st.integers(0, 4)), arrays(np.int64, n, elements=st.integers(0, 4))
    )
)
finite = st.floats(-1, 1, allow_nan=False)


@given(labels)
@settings(deadline=None)
def test_micro_iou_says_nothing_that_micro_accuracy_does_not(pair: tuple[np.ndarray, np.ndarray]) -> None:
    scores = class_scores(*pair)
    accuracy = scores["micro_accuracy"]
    assert scores["micro_iou"] == pytest.approx(accuracy / (2 - accuracy))


@given(labels)
@settings(deadline=None)  # the first call imports scikit-learn
def test_scores_agree_with_scikit_learn(pair: tuple[np.ndarray, np.ndarray]) -> None:
    from sklearn.metrics import f1_score, jaccard_score, recall_score

    truth, predicted = pair
    scores = class_scores(truth, predicted)
    assert scores["macro_f1"] == pytest.approx(f1_score(truth, predicted, average="macro", zero_division=0))
    assert scores["macro_iou"] == pytest.approx(
        jaccard_score(truth, predicted, average="macro", zero_division=0)
    )
    recall = recall_score(truth, predicted, labels=np.unique(truth), average="macro", zero_division=0)
    assert scores["macro_accuracy"] == scores["balanced_accuracy"] == pytest.approx(recall)


def test_macro_and_micro_part_ways_on_an_unbalanced_mask() -> None:
    truth = np.array([0] * 95 + [1] * 5)
    scores = class_scores(truth, np.zeros(100, int))
    assert scores["micro_accuracy"] == pytest.approx(0.95)
    assert scores["macro_accuracy"] == pytest.approx(0.5)
    assert scores["macro_iou"] == pytest.approx(0.475)


def test_change_is_led_by_average_precision_of_the_ranking() -> None:
    truth = np.array([0, 0, 1, 1])
    scores = change_scores(truth, np.array([0, 1, 0, 1]), np.array([0.1, 0.8, 0.4, 0.9]))
    assert scores["average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert scores["changed_f1"] == pytest.approx(0.5)
    assert scores["changed_share"] == pytest.approx(0.5)


def test_a_place_without_change_has_no_average_precision() -> None:
    assert math.isnan(average_precision(np.zeros(4, bool), np.arange(4.0)))
    assert math.isnan(average_precision(np.ones(4, bool), np.arange(4.0)))


@given(st.lists(finite, min_size=1, max_size=MIN_PLACES_FOR_INTERVAL - 1))
@settings(deadline=None)
def test_below_fifteen_places_no_interval_is_given_and_no_percent_is_printed(values: list[float]) -> None:
    encoder = {f"p{index}": value for index, value in enumerate(values)}
    difference = paired_difference("macro_f1", encoder, dict.fromkeys(encoder, 0.0), name="pca")
    assert difference.interval is None
    assert difference.to_dict()["interval"] is None
    assert "%" not in difference.describe()
    assert f"of {len(values)} places" in difference.describe()


@given(arrays(np.float64, st.integers(MIN_PLACES_FOR_INTERVAL, 40), elements=finite))
@settings(max_examples=40, deadline=None)
def test_an_interval_lies_within_its_values_and_is_repeatable(values: np.ndarray) -> None:
    interval = bootstrap_interval(values, resamples=300)
    assert interval is not None
    assert values.min() - 1e-9 <= interval.low <= interval.high <= values.max() + 1e-9
    assert interval == bootstrap_interval(values, resamples=300)
    assert interval.places == len(values)


@given(arrays(np.float64, 20, elements=finite), st.floats(-2, 2))
@settings(max_examples=40, deadline=None)
def test_an_interval_moves_with_its_values(values: np.ndarray, shift: float) -> None:
    before, after = (
        bootstrap_interval(values, resamples=200),
        bootstrap_interval(values + shift, resamples=200),
    )
    assert before is not None and after is not None
    assert after.low == pytest.approx(before.low + shift)
    assert after.high == pytest.approx(before.high + shift)


def test_more_samples_of_the_same_places_do_not_narrow_an_interval() -> None:
    """One value per place: a place seen ten times counts once."""
    values = np.random.default_rng(0).normal(0, 1, 30)
    places = {f"p{index}": float(value) for index, value in enumerate(values)}
    many = mean_places([places] * 10)
    first = paired_difference("macro_f1", places, dict.fromkeys(places, 0.0), name="pca").interval
    second = paired_difference("macro_f1", many, dict.fromkeys(places, 0.0), name="pca").interval
    assert first is not None and second is not None
    assert (second.low, second.high) == pytest.approx((first.low, first.high))


def test_a_bootstrap_over_places_covers_the_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for trial in range(200):
        interval = bootstrap_interval(rng.normal(0.3, 1.0, 25), resamples=400, seed=trial)
        assert interval is not None
        covered += interval.low <= 0.3 <= interval.high
    assert 0.87 <= covered / 200 <= 0.99


def test_only_places_with_a_value_on_both_sides_are_compared() -> None:
    difference = paired_difference(
        "average_precision", {"a": 0.5, "b": math.nan, "c": 1.0}, {"a": 0.4, "b": 0.1}, name="pca"
    )
    assert list(difference.values) == ["a"]
    assert difference.mean == pytest.approx(0.1)
    assert (difference.better_in, difference.worse_in) == (1, 0)
    nothing = paired_difference("average_precision", {"a": math.nan}, {"a": 0.4}, name="pca")
    assert "no place" in nothing.describe()
    assert nothing.to_dict()["mean"] is None


def test_seeds_are_summarised_with_their_spread() -> None:
    runs = [{"macro_f1": value, "average_precision": math.nan} for value in (0.4, 0.6)]
    summary = mean_over_seeds(runs)
    assert summary["macro_f1"]["mean"] == pytest.approx(0.5)
    assert summary["macro_f1"]["std"] == pytest.approx(0.1414, abs=1e-3)
    assert summary["average_precision"] == {"mean": None, "std": None}
    assert mean_over_seeds([{"macro_f1": 0.4}])["macro_f1"]["std"] is None
