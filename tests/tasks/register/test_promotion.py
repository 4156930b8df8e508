"""A new version replaces the one in production unless it is somewhere worse beyond the noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.register.promotion import decide_promotion


def _result(values: dict[str, float], name: str = "cover", **changes: Any) -> dict[str, Any]:
    scores = {"mean": float(np.mean(list(values.values()))) if values else 0.5, "std": 0.01}
    return {
        "name": name,
        "kind": "patch-classes",
        "protocol": "holdout",
        "product": "toy",
        "label_set": "toy-cover",
        "place": "block",
        "place_metric": "micro_accuracy",
        "metric": "macro_f1",
        "transductive": False,
        "scores": {"encoder": {"logistic": {"macro_f1": scores}}},
        "per_place": {"encoder": values},
    } | changes


def _places(mean: float, count: int = 20, noise: float = 0.05, seed: int = 0) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    base = np.random.default_rng(99).uniform(0.4, 0.8, count)
    return {f"p{i}": float(base[i] + mean + rng.normal(0, noise)) for i in range(count)}


def test_the_first_version_is_promoted() -> None:
    decision = decide_promotion([_result(_places(0))], None)
    assert decision.promote
    assert "first" in decision.why


@pytest.mark.parametrize("count", [4, 20])
def test_a_clearly_worse_version_stays_a_candidate_and_the_reason_is_given(count: int) -> None:
    decision = decide_promotion([_result(_places(-0.2, count, seed=1))], [_result(_places(0, count))])
    assert not decision.promote
    assert decision.why.startswith("worse on cover")


@pytest.mark.parametrize("count", [4, 20])
def test_a_clearly_better_version_is_promoted(count: int) -> None:
    assert decide_promotion([_result(_places(0.2, count, seed=1))], [_result(_places(0, count))]).promote


def test_better_on_one_task_does_not_make_up_for_worse_on_another() -> None:
    new = [_result(_places(0.3, seed=1)), _result(_places(-0.3, seed=2), "fields")]
    old = [_result(_places(0)), _result(_places(0), "fields")]
    decision = decide_promotion(new, old)
    assert not decision.promote
    assert "fields" in decision.why


def test_noise_alone_does_not_keep_a_version_back() -> None:
    kept = sum(
        not decide_promotion(
            [_result(_places(0, 12, seed=seed))], [_result(_places(0, 12, seed=seed + 1000))]
        ).promote
        for seed in range(200)
    )
    assert kept / 200 < 0.1


@given(st.floats(-0.3, 0.3), st.integers(2, 30), st.floats(0, 0.2))
@settings(deadline=None, max_examples=60)
def test_the_same_scores_are_never_worse_and_tolerance_only_helps(
    shift: float, count: int, tolerance: float
) -> None:
    old = [_result(_places(0, count))]
    new = [_result(_places(shift, count, seed=5))]
    assert decide_promotion(old, old).promote
    if decide_promotion(new, old).promote:
        assert decide_promotion(new, old, tolerance).promote


def test_a_loss_within_the_tolerance_is_accepted() -> None:
    old, new = _result(_places(0, noise=0)), _result(_places(-0.02, noise=0))
    assert not decide_promotion([new], [old]).promote
    assert decide_promotion([new], [old], 0.03).promote


def test_every_task_of_the_current_version_must_be_judged_again() -> None:
    decision = decide_promotion([], [_result(_places(0))])
    assert not decision.promote
    assert "cover" in decision.why


def test_other_places_or_another_protocol_are_no_comparison() -> None:
    old = _result(_places(0))
    elsewhere = {f"q{index}": value for index, value in enumerate(old["per_place"]["encoder"].values())}
    assert not decide_promotion([_result(elsewhere)], [old]).promote
    changed = decide_promotion([_result(_places(0.3), protocol="leave-one-place-out")], [old])
    assert not changed.promote
    assert "protocol" in changed.why


def test_a_transductive_version_does_not_beat_an_honest_one() -> None:
    decision = decide_promotion([_result(_places(0.3), transductive=True)], [_result(_places(0))])
    assert not decision.promote


def test_with_one_place_the_seeds_are_the_noise() -> None:
    old = _result({"p": 0.8})
    assert decide_promotion([_result({"p": 0.79})], [old]).promote
    decision = decide_promotion([_result({"p": 0.5})], [old])
    assert not decision.promote
    assert "seeds" in decision.why


def test_where_nothing_was_judged_the_newest_living_version_is_taken() -> None:
    assert decide_promotion([_result(_places(0))], []).promote
