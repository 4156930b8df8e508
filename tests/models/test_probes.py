"""Probes learn from what they are given, choose C within the training places, and see nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from models.probes import (
    FOLDS,
    STRENGTHS,
    ConstantProbe,
    LogisticProbe,
    fit_logistic,
    fit_neighbours,
    predicted,
    probability_of,
)


def _task(n: int = 120, d: int = 12, places: int = 10, seed: int = 0, spread: float = 1.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    centres = rng.normal(0, 2, (3, d))
    return (
        centres[labels] + rng.normal(0, spread, (n, d)),
        labels,
        np.array([f"p{i % places}" for i in range(n)]),
    )


@pytest.mark.parametrize("kind", ["neighbours", "logistic"])
def test_a_probe_learns_what_can_be_learnt(kind: str) -> None:
    features, labels, places = _task()
    train, test = slice(0, 80), slice(80, None)
    if kind == "neighbours":
        probe = fit_neighbours(features[train], labels[train])
    else:
        probe = fit_logistic(features[train], labels[train], places[train])
    assert (predicted(probe, features[test]) == labels[test]).mean() > 0.9


def test_every_fold_keeps_a_place_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    import models.probes as probes

    features, labels, places = _task()
    seen: list[tuple[set[str], set[str]]] = []
    real = probes._place_folds

    def recording(places_, labels_):
        folds = real(places_, labels_)
        seen.extend((set(places_[train]), set(places_[held])) for train, held in folds)
        return folds

    monkeypatch.setattr(probes, "_place_folds", recording)
    fit_logistic(features, labels, places)
    assert len(seen) == FOLDS
    for train, held in seen:
        assert not train & held
    assert set().union(*(held for _, held in seen)) == set(places)


def test_place_folds_choose_a_strong_penalty_where_features_only_know_the_place() -> None:
    """Each place has its own signature and one label: random folds would call the signature knowledge."""
    rng = np.random.default_rng(0)
    place = np.repeat(np.arange(16), 8)
    labels = (place % 2).astype(int)
    features = np.concatenate([np.eye(16)[place], rng.normal(0, 1, (128, 2))], axis=1)
    names = np.array([f"p{i}" for i in place])
    by_place = fit_logistic(features, labels, names)
    by_sample = fit_logistic(features, labels, np.array([f"s{i}" for i in range(128)]))
    assert isinstance(by_place, LogisticProbe) and isinstance(by_sample, LogisticProbe)
    assert max(by_sample.tried.values()) > 0.95
    assert max(by_place.tried.values()) < 0.75


def test_c_depends_on_the_training_places_alone() -> None:
    features, labels, places = _task(spread=4.0)
    first = fit_logistic(features, labels, places)
    again = fit_logistic(features.copy(), labels.copy(), places.copy())
    assert isinstance(first, LogisticProbe) and isinstance(again, LogisticProbe)
    assert first.strength == again.strength
    assert set(first.tried) == set(STRENGTHS)
    assert first.tried[first.strength] == pytest.approx(max(first.tried.values()), abs=1e-5)


def test_with_one_training_place_c_is_not_chosen() -> None:
    features, labels, _ = _task()
    probe = fit_logistic(features, labels, ["only"] * len(labels))
    assert isinstance(probe, LogisticProbe)
    assert (probe.strength, probe.folds, probe.tried) == (1.0, 0, {})


def test_units_do_not_decide_between_feature_sets() -> None:
    features, labels, places = _task()
    scaled = features * np.geomspace(1e-4, 1e4, features.shape[1]) + 7
    for fit in (fit_neighbours, lambda x, y: fit_logistic(x, y, places)):
        assert np.array_equal(
            predicted(fit(features, labels), features), predicted(fit(scaled, labels), scaled)
        )


def test_gaps_in_features_become_the_training_mean() -> None:
    features, labels, places = _task()
    features[3, 2] = np.nan
    features[:, 5] = np.nan
    probe = fit_logistic(features, labels, places)
    assert np.isfinite(probe.probabilities(features)[1]).all()


def test_one_class_to_learn_is_what_is_said() -> None:
    features, _, places = _task(n=20)
    probe = fit_logistic(features, np.full(20, 7), places[:20])
    assert isinstance(probe, ConstantProbe)
    assert set(predicted(probe, features)) == {7}
    assert (probability_of(probe, features, 1) == 0).all()
