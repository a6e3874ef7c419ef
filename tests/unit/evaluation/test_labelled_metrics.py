"""The metrics of labelled rows of the lake, for each output that has labels."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import sklearn.metrics as sk

from driftloop_contracts.model import ModelSpec
from driftloop_evaluation.labelled_metrics import labelled_metrics, metric_columns


def spec(**more: Any) -> ModelSpec:
    value = {"name": "m", "task": "classification", "output": "y", **more}
    return ModelSpec.from_dict(value)


def rows(labels: list[Any], **outputs: Any) -> pa.Table:
    numbers = [float(v) if isinstance(v, int | float) else None for v in labels]
    texts = [None if v is None else json.dumps(v) for v in labels]
    columns = {f"out_{name}": pa.array(list(values)) for name, values in outputs.items()}
    label = {"label": pa.array(texts, pa.string()), "label_number": pa.array(numbers, pa.float64())}
    return pa.table(columns | label)


def test_of_two_classes_with_probabilities() -> None:
    r = np.random.default_rng(1)
    p = r.random(400)
    truth, answer = (r.random(400) < p).astype(int), (p > 0.5).astype(int)
    both = [row.tolist() for row in np.stack([1 - p, p], axis=1)]
    table = rows([*truth.tolist(), None, "x"], y=[*answer, 1, 1], probabilities=[*both, *both[:2]])
    (found,) = labelled_metrics(spec(), table)
    assert (found.output, found.label, found.rows, found.classes) == ("y", None, 400, ("0", "1"))
    expected = {
        "accuracy": sk.accuracy_score(truth, answer),
        "precision": sk.precision_score(truth, answer),
        "recall": sk.recall_score(truth, answer),
        "f1": sk.f1_score(truth, answer),
        "roc_auc": sk.roc_auc_score(truth, p),
        "pr_auc": sk.average_precision_score(truth, p),
        "brier": sk.brier_score_loss(truth, p),
        "log_loss": sk.log_loss(truth, p),
    }
    for name, value in expected.items():
        estimate = found.metrics[name]
        assert estimate.value == pytest.approx(value), name
        assert estimate.low < estimate.value < estimate.high, name
    assert "calibration_error" in found.metrics
    assert np.array_equal(found.confusion, sk.confusion_matrix(truth, answer))
    assert json.loads(json.dumps(found.to_dict()))["metrics"]["f1"][0] == found.metrics["f1"].value


def test_of_more_classes_the_matrix_has_them_all_and_unknown_labels_too() -> None:
    labels = ["a", "b", "c", "never", "a", None]
    table = rows(labels, y=["a", "a", "c", "a", "b", "c"])
    (found,) = labelled_metrics(spec(classes=["c", "b", "a"]), table)
    assert found.classes == ("c", "b", "a", "never")
    assert found.confusion == ((1, 0, 0, 0), (0, 0, 1, 0), (0, 1, 1, 0), (0, 0, 1, 0))
    assert found.metrics["accuracy"].value == pytest.approx(2 / 5)
    assert "brier" not in found.metrics


def test_the_positive_class_of_the_objective_is_the_positive_one() -> None:
    table = rows(["fraud", "ok", "ok"], y=["fraud", "fraud", "ok"])
    said = {"metric": "miss_rate", "positive": "fraud"}
    (found,) = labelled_metrics(spec(objective=said, classes=["fraud", "ok"]), table)
    assert found.classes == ("ok", "fraud")
    assert (found.metrics["recall"].value, found.metrics["precision"].value) == (1.0, 0.5)


def test_of_values() -> None:
    table = rows([1, 2, 3, None, 4], y=[1.0, 2.5, 3.0, 1.0, float("nan")])
    (found,) = labelled_metrics(spec(task="regression"), table)
    assert (found.rows, found.confusion) == (3, ())
    assert found.metrics["mae"].value == pytest.approx(1 / 6)
    assert found.metrics["r2"].value == pytest.approx(1 - 0.25 / 2)


def test_each_of_several_outputs_has_its_own() -> None:
    own = spec(
        output="approve",
        objective=[{"metric": "brier", "label": "approve", "output": "approve_scores"},
                   {"metric": "absolute", "label": "amount"}],
    )  # fmt: skip
    labels = [{"approve": 1, "amount": 310}, {"approve": 0}, {"amount": 290}, 7]
    scores = [[0.2, 0.8], [0.9, 0.1], [0.5, 0.5], [0.5, 0.5]]
    table = rows(
        labels, approve=[1, 1, 1, 1], approve_scores=scores, amount=[300.0] * 4, other=[1.0] * 4
    )
    first, second = labelled_metrics(own, table)
    assert (first.output, first.label, first.rows) == ("approve", "approve", 2)
    assert (first.metrics["accuracy"].value, first.metrics["roc_auc"].value) == (0.5, 1.0)
    assert (second.output, second.rows, second.metrics["mae"].value) == ("amount", 2, 10.0)
    names = ["out_approve", "out_approve_scores", "out_amount", "label", "label_number"]
    assert metric_columns(own, table) == names


def test_scores_that_are_no_probabilities_give_no_metrics_of_probabilities() -> None:
    table = rows([1, 0], y=[1, 0], scores=[[3.0, 9.0], [9.0, 3.0]])
    (found,) = labelled_metrics(spec(), table)
    assert set(found.metrics) == {"accuracy", "precision", "recall", "f1"}


@pytest.mark.parametrize(
    ("own", "table"),
    [
        (ModelSpec("m"), rows([1], y=[1])),
        (spec(), rows([1], other=[1])),
        (spec(task="regression"), rows([1], y=["a"])),
    ],
)
def test_what_labels_do_not_compare_with_has_no_metrics(own: ModelSpec, table: pa.Table) -> None:
    assert labelled_metrics(own, table) == []


def test_without_labels_there_are_no_numbers() -> None:
    (found,) = labelled_metrics(spec(), rows([None, None], y=[1, 0]))
    assert (found.rows, dict(found.metrics), found.confusion) == (0, {}, ())
