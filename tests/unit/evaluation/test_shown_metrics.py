"""Metrics with intervals, shown beside what decides."""

import numpy as np
import pytest
import sklearn.metrics as sk

from driftloop_evaluation import metric_values as mv
from driftloop_evaluation.metric_values import confusion
from driftloop_evaluation.shown_metrics import (
    calibration_error,
    class_metrics,
    estimate,
    flat,
    value_metrics,
)
from driftloop_evaluation.wilson import wilson


def sample(n: int = 2_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    p = rng.random(n)
    labels = (rng.random(n) < p).astype(np.int64)
    return labels, (p > 0.5).astype(np.int64), np.stack([1 - p, p], axis=1)


def test_a_calibrated_model_has_known_metrics_inside_their_intervals() -> None:
    found = class_metrics(*sample(), 2)
    expected = {
        "accuracy": 0.75, "precision": 0.75, "recall": 0.75, "f1": 0.75, "log_loss": 0.5,
        "brier": 1 / 6, "roc_auc": 5 / 6,
    }  # fmt: skip
    for name, value in expected.items():
        assert found[name].low < value < found[name].high, name
        assert found[name].high - found[name].low < 0.1, name
    assert found["calibration_error"].value < 0.05


def test_the_interval_of_a_mean_is_that_of_its_standard_error() -> None:
    values = np.random.default_rng(1).normal(size=4_000)
    found = estimate(lambda m: float(values[m].mean()), len(values))
    assert (found.high - found.low) / 2 == pytest.approx(2.093 / np.sqrt(4_000), rel=0.5)


def test_rows_of_one_time_that_are_alike_make_the_interval_wider() -> None:
    rng = np.random.default_rng(2)
    alike = np.repeat(rng.normal(size=40), 100)
    mixed = rng.permutation(alike)
    widths = []
    for values in (alike, mixed):
        found = estimate(lambda m, v=values: float(v[m].mean()), len(values))  # type: ignore[misc]
        widths.append(found.high - found.low)
    assert widths[0] > 3 * widths[1]


def test_an_answer_that_is_never_wrong_still_has_an_interval() -> None:
    labels = np.arange(100) % 2
    assert class_metrics(labels, labels, None, 2)["accuracy"].low == pytest.approx(0.963, abs=1e-3)
    assert wilson(0, 0) == (0.0, 1.0)


def test_one_class_alone_has_no_auc_and_few_rows_no_interval() -> None:
    zeros = np.zeros(100, np.int64)
    p = np.tile([0.9, 0.1], (100, 1))
    assert "roc_auc" not in flat(class_metrics(zeros, zeros, p, 2))
    few = flat(value_metrics(np.arange(10.0), np.arange(10.0) + 1))
    assert few == {"mae": 1.0, "rmse": 1.0, "r2": pytest.approx(1 - 10 / 82.5)}


def test_confusion_and_calibration() -> None:
    labels, answers = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 0])
    assert confusion(labels, answers, 2).tolist() == [[1, 1], [1, 2]]
    assert calibration_error(np.full(100, 0.8), np.ones(100)) == pytest.approx(0.2)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_the_values_are_those_of_scikit_learn(classes: int) -> None:
    rng = np.random.default_rng(classes)
    p = rng.dirichlet(np.ones(classes), 300).round(2)  # with ties
    labels = rng.integers(0, classes if classes < 7 else 5, 300)
    answers = p.argmax(axis=1)
    average = "binary" if classes == 2 else "macro"
    said = mv.precision_recall_f1(labels, answers, classes)
    for value, kind in zip(said, (sk.precision_score, sk.recall_score, sk.f1_score), strict=True):
        assert value == pytest.approx(kind(labels, answers, average=average, zero_division=0.0))
    assert mv.accuracy(labels, answers) == pytest.approx(sk.accuracy_score(labels, answers))
    expected = sk.confusion_matrix(labels, answers, labels=np.arange(classes))
    assert np.array_equal(confusion(labels, answers, classes), expected)
    scores = p[:, 1]
    positive = labels == 1
    assert mv.roc_auc(positive, scores) == pytest.approx(sk.roc_auc_score(positive, scores))
    found = mv.average_precision(positive, scores)
    assert found == pytest.approx(sk.average_precision_score(positive, scores))
    whole = p / p.sum(axis=1, keepdims=True)
    loss = sk.log_loss(labels, whole, labels=np.arange(classes))
    assert mv.log_loss(labels, whole) == pytest.approx(loss)
    assert mv.r2(scores, p[:, 0]) == pytest.approx(sk.r2_score(scores, p[:, 0]))
    assert (mv.r2(np.ones(3), np.ones(3)), mv.r2(np.ones(3), np.zeros(3))) == (1.0, 0.0)
