"""The minimum is scikit-learn's, reached where features are collinear too."""

from __future__ import annotations

import numpy as np
import pytest

from models.logistic import fit_path


def _task(
    samples: int, features: int, classes: int = 3, collinear: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(samples + features)
    hidden = rng.normal(size=(samples, 6))
    mixing = rng.normal(size=(6, features))
    inputs = hidden @ mixing + (1e-3 if collinear else 1.0) * rng.normal(size=(samples, features))
    labels = (hidden @ rng.normal(size=(6, classes)) + rng.normal(size=(samples, classes))).argmax(1)
    return (inputs - inputs.mean(0)) / inputs.std(0), labels * 10


@pytest.mark.parametrize(
    ("samples", "features", "collinear"),
    [(150, 8, False), (150, 40, True), (50, 200, False), (50, 200, True)],
)
def test_probabilities_agree_with_scikit_learn(samples: int, features: int, collinear: bool) -> None:
    from sklearn.linear_model import LogisticRegression

    inputs, labels = _task(samples, features, collinear=collinear)
    for fit in fit_path(inputs, labels, (0.01, 1.0, 10.0), tolerance=1e-5):
        plain = LogisticRegression(C=fit.strength, max_iter=20_000, tol=1e-8).fit(inputs, labels)
        assert fit.classes.tolist() == plain.classes_.tolist()
        assert np.abs(fit.probabilities(inputs) - plain.predict_proba(inputs)).max() < 0.01


def test_two_classes_agree_with_scikit_learn_at_half_the_c() -> None:
    """Softmax splits the one vector of two classes into two of half its length: half the penalty."""
    from sklearn.linear_model import LogisticRegression

    inputs, labels = _task(150, 8, classes=2)
    (fit,) = fit_path(inputs, labels, (0.1,), tolerance=1e-5)
    plain = LogisticRegression(C=0.2, max_iter=20_000, tol=1e-8).fit(inputs, labels)
    assert np.abs(fit.probabilities(inputs) - plain.predict_proba(inputs)).max() < 0.01


def test_inputs_need_not_be_centred() -> None:
    inputs, labels = _task(100, 5)
    (plain,), (moved,) = fit_path(inputs, labels, (1.0,)), fit_path(inputs + 7, labels, (1.0,))
    assert np.allclose(plain.coefficients, moved.coefficients, atol=1e-6)
    assert np.allclose(plain.probabilities(inputs), moved.probabilities(inputs + 7), atol=1e-6)


def test_fits_come_by_ascending_c_and_bend_further() -> None:
    inputs, labels = _task(100, 5)
    fits = fit_path(inputs, labels, (10.0, 0.01, 1.0))
    assert [fit.strength for fit in fits] == [0.01, 1.0, 10.0]
    lengths = [float((fit.coefficients**2).sum()) for fit in fits]
    assert lengths == sorted(lengths)
