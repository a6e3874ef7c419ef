"""What is measured of a candidate for its report."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import auc, precision_recall_curve, roc_curve

from driftloop_contracts.kind import Task
from driftloop_contracts.model import ModelSpec
from driftloop_onnx import OnnxModel
from driftloop_retrain.tabular.dataset import dataset_of, input_tensors
from driftloop_retrain.tabular.evaluate import losses
from driftloop_retrain.tabular.evaluation.curves import POINTS, class_curve, histogram
from driftloop_retrain.tabular.evaluation.evaluation_record import Compared, evaluation_of
from driftloop_retrain.tabular.evaluation.groups import groups
from driftloop_retrain.tabular.evaluation.importance import contributions, importance
from driftloop_retrain.tabular.evaluation.intervals import gain, share
from driftloop_retrain.tabular.evaluation.speed import paired_times, ratio
from driftloop_retrain.tabular.inference import outputs_of
from driftloop_retrain.tabular.recipes import FitContext
from driftloop_retrain.tabular.recipes.check import example
from driftloop_retrain.tabular.recipes.gradient_boosting import GradientBoosting

RANDOM = np.random.default_rng(3)


def test_the_curve_is_that_of_scikit_learn() -> None:
    positive = RANDOM.random(500) < 0.3
    p = np.round(np.clip(RANDOM.normal(0.3 + 0.3 * positive, 0.2), 0, 1), 2)
    curve = class_curve(p, positive)
    assert len(curve) <= POINTS
    false_positives, found, thresholds = roc_curve(positive, p, drop_intermediate=False)
    known = {
        round(t, 6): (f, r) for t, f, r in zip(thresholds, false_positives, found, strict=True)
    }
    precision = {
        round(t, 6): q
        for q, t in zip(*(precision_recall_curve(positive, p)[i] for i in (0, 2)), strict=False)
    }
    for point in curve:
        at = round(point["threshold"], 6)
        assert (point["false_positive_rate"], point["recall"]) == pytest.approx(known[at])
        assert point["precision"] == pytest.approx(precision[at])
    ours = auc([c["false_positive_rate"] for c in curve], [c["recall"] for c in curve])
    assert ours == pytest.approx(auc(false_positives, found), abs=0.02)
    assert class_curve(p, np.ones(500, bool)) == []


def test_shapley_values_of_a_sum_are_its_parts() -> None:
    background = pa.table({"a": RANDOM.normal(size=400), "b": RANDOM.normal(size=400)})
    row = pa.table({"a": [2.0], "b": [-1.0]})

    def score(rows: pa.Table) -> np.ndarray:
        return np.asarray(3 * rows["a"].to_numpy() + rows["b"].to_numpy())

    mean, found = contributions(background, row, score)
    assert [each["column"] for each in found] == ["a", "b"]
    assert sum(each["contribution"] for each in found) + mean == pytest.approx(5.0)
    assert found[0]["contribution"] == pytest.approx(6.0, abs=1.5)


def test_an_interaction_is_shared_by_its_columns() -> None:
    background = pa.table({"a": np.zeros(50), "b": np.zeros(50), "c": np.zeros(50)})
    row = pa.table({"a": [1.0], "b": [1.0], "c": [1.0]})
    _, found = contributions(
        background, row, lambda rows: rows["a"].to_numpy() * rows["b"].to_numpy()
    )
    parts = {each["column"]: each["contribution"] for each in found}
    assert parts["a"] == pytest.approx(0.5, abs=0.2)
    assert parts["a"] + parts["b"] == pytest.approx(1.0)
    assert parts["c"] == 0.0


def test_importance_says_how_it_moved() -> None:
    features = pa.table({"x": RANDOM.normal(size=600), "y": RANDOM.normal(size=600)})
    truth = features["x"].to_numpy() > 0
    rows = dataset_of(features, truth, np.arange(600).astype("datetime64[us]"), "made up")

    def by(column: str) -> "object":
        return lambda asked: ((asked[column].to_numpy() > 0) != truth).astype(float)

    found = importance(rows, by("x"), by("y"))  # type: ignore[arg-type]
    assert [each["column"] for each in found] == ["x", "y"]
    assert found[0]["low"] > 0.4
    assert found[0]["moved"] == pytest.approx(found[0]["rise"] - found[0]["was"])
    assert found[1]["rise"] == 0.0


def test_groups_have_rates_with_intervals() -> None:
    rows = pa.table({"in_sex": ["f", "m"] * 100})
    called = np.array([True, False] * 50 + [False, False] * 50)
    true = np.array([True, True] * 100)
    spec = ModelSpec("m", "classification", "label", slices=("sex",))
    found = {g["group"]: g for g in groups(spec, rows, (called != true) * 1.0, (called, true))}
    assert found["sex=f"]["missed"] == 0.5
    assert found["sex=m"]["missed"] == 1.0
    assert found["sex=m"]["missed_low"] > found["sex=f"]["missed_high"]
    assert found["sex=f"]["false_positives"] is None


def test_a_faster_graph_is_seen_through_noise() -> None:
    noise = np.exp(RANDOM.normal(0, 0.3, (60, 2)))
    slow = np.linspace(1, 3, 60)  # the machine becomes busy meanwhile
    one, other = 0.7 * slow * noise[:, 0], slow * noise[:, 1]
    one[5] *= 100
    found = ratio(one, other)
    assert found["low"] < 0.7 < found["high"] < 1.0


class Counts:
    def __init__(self) -> None:
        self.calls = 0

    def run(self, inputs: object) -> None:
        self.calls += 1


def test_both_are_asked_as_often() -> None:
    one, other = Counts(), Counts()
    times = paired_times(one, other, {}, pairs=7)
    assert one.calls == other.calls == 12
    assert all((each > 0).all() for each in times)


def test_intervals() -> None:
    assert share(0, 0) == {}
    assert share(0, 20)["high"] == pytest.approx(0.161, abs=0.001)
    found = gain(np.array([1.0, np.nan, 0.0, 1.0]), np.array([0.0, 1.0, 0.0, 0.0]))
    assert (found["rows"], round(found["mean"], 3)) == (3, 0.667)
    assert histogram(np.ones(50)) == []
    assert sum(bar["rows"] for bar in histogram(RANDOM.normal(size=1_000))) == 980


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_an_evaluation_is_of_the_graphs_that_would_be_served(tmp_path: Path, task: Task) -> None:
    data = example(task, rows=700)
    classes = np.unique(data.labels) if task == "classification" else None
    tensors = input_tensors(data.features)
    context = FitContext(task, tensors, 0, tmp_path, classes=classes, rounds=8)
    output = "label" if task == "classification" else "value"
    graphs = []
    for name, rows in (("candidate", 700), ("champion", 120)):
        GradientBoosting().fit(data.slice(0, rows), None, context).export(tmp_path / name)
        graphs.append(outputs_of(OnnxModel(tmp_path / name), data.features))
    spec = ModelSpec("m", task, output, slices=("flag",))
    found = evaluation_of(
        Compared(
            spec,
            data,
            classes,
            tmp_path / "candidate",
            graphs[0],
            tmp_path / "champion",
            graphs[1],
            lambda rows, outputs: losses(task, rows.labels, outputs[output], 10.0),
        )
    )
    assert json.loads(json.dumps(found)) == found
    assert found["importance"][0]["rise"] > 0
    assert len(found["contributions"]) == 3
    for row in found["contributions"]:
        moved = sum(each["contribution"] for each in row["columns"])
        assert row["mean"] + moved == pytest.approx(row["score"], abs=1e-5)
    assert {each["group"] for each in found["groups"]} == {"flag=False", "flag=True"}
    assert [each["rows"] for each in found["speed"]] == [1, 64]
    assert found["disagreement"]["rows"] == 700
    assert ("curve" in found) == (task == "classification")
    assert ("histogram" in found) == (task == "regression")
