"""Models with several labelled outputs: one graph, with an output for each label."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from driftloop_contracts.errors import Rejected
from driftloop_contracts.model import ModelSpec
from driftloop_evaluation.labelled_metrics import labelled_metrics
from driftloop_evaluation.served_objectives import served_objectives
from driftloop_export import NotExportable, export
from driftloop_onnx import OnnxModel

DICE = np.random.default_rng(0)
FRAME = pd.DataFrame({"a": DICE.normal(size=300), "b": DICE.normal(size=300)})
APPROVE = np.where(FRAME.a + FRAME.b > 0, "yes", "no")
AMOUNT = (3 * FRAME.a - FRAME.b).to_numpy()
LEVEL = np.digitize(FRAME.b, [-0.5, 0.5])


def spec_in(folder: Path) -> ModelSpec:
    document = yaml.safe_load((folder / "model.yaml").read_text())
    beside = ("model", "reference", "signature")
    return ModelSpec.from_dict({k: v for k, v in document.items() if k not in beside})


def answers(folder: Path, frame: pd.DataFrame = FRAME) -> dict[str, Any]:
    return OnnxModel(folder).run({n: frame[[n]].to_numpy() for n in frame})


def test_a_dict_of_models_becomes_one_graph_that_is_judged_by_label(tmp_path: Path) -> None:
    models = {
        "approve": make_pipeline(StandardScaler(), LogisticRegression()).fit(FRAME, APPROVE),
        "amount": make_pipeline(StandardScaler(), LinearRegression()).fit(FRAME, AMOUNT),
    }
    partly = np.where(np.arange(300) % 3 == 0, np.nan, AMOUNT)
    made = export(models, FRAME, "offers", {"approve": APPROVE, "amount": partly}, tmp_path)
    assert (made.rows, made.task) == (300, "classification")
    spec, graph = spec_in(tmp_path), OnnxModel(tmp_path)
    assert [t.name for t in graph.signature.outputs] == [
        "approve", "approve_probabilities", "amount"
    ]  # fmt: skip
    assert served_objectives(spec, graph.signature) == spec
    assert [(o.metric, o.label, o.classes) for o in spec.objectives] == [
        ("error", "approve", ("no", "yes")), ("squared", "amount", ())
    ]  # fmt: skip
    found = answers(tmp_path)
    assert (found["approve"].ravel() == models["approve"].predict(FRAME)).all()
    np.testing.assert_allclose(found["amount"].ravel(), AMOUNT, rtol=1e-5, atol=1e-5)
    reference = pq.read_table(tmp_path / "reference.parquet")
    assert reference["label"][0].as_py() == f'{{"approve": "{APPROVE[0]}", "amount": null}}'
    judged = {m.label: m.rows for m in labelled_metrics(spec, reference)}
    assert judged == {"approve": 300, "amount": 200}


def test_steps_that_models_share_are_in_the_graph_once(tmp_path: Path) -> None:
    scaler = StandardScaler().fit(FRAME)
    models = {
        name: make_pipeline(scaler, LinearRegression()).fit(FRAME, values)
        for name, values in {"x": AMOUNT, "y": -AMOUNT}.items()
    }
    export(models, FRAME, "m", output=tmp_path)
    kinds = [n.op_type for n in onnx.load(tmp_path / "model.onnx").graph.node]
    assert kinds.count("Scaler") + kinds.count("Div") == 1
    assert kinds.count("Concat") == 1


def test_each_model_takes_its_own_columns(tmp_path: Path) -> None:
    models = {
        "x": LinearRegression().fit(FRAME[["a"]], AMOUNT),
        "y": LinearRegression().fit(FRAME[["b"]], AMOUNT),
    }
    export(models, FRAME, "m", output=tmp_path)
    np.testing.assert_allclose(
        answers(tmp_path)["y"].ravel(), models["y"].predict(FRAME[["b"]]), rtol=1e-5, atol=1e-5
    )
    with pytest.raises(Rejected, match="the sample lacks"):
        export(models, FRAME[["a"]], "m", output=tmp_path)


@pytest.mark.parametrize(
    "model",
    [
        MultiOutputClassifier(LogisticRegression()),
        RandomForestClassifier(5, max_depth=4, random_state=0),
        DecisionTreeClassifier(max_depth=4),
    ],
    ids=lambda model: type(model).__name__,
)
def test_an_estimator_of_several_classes(tmp_path: Path, model: Any) -> None:
    labels = pd.DataFrame({"high": (FRAME.a > 0).astype(int), "level": LEVEL})
    model.fit(FRAME, labels)
    export(model, FRAME, "m", labels, tmp_path)
    found, native = answers(tmp_path), model.predict(FRAME)
    for number, label in enumerate(labels):
        assert (found[label].ravel() == native[:, number]).all()
        expected = model.predict_proba(FRAME)[number]
        np.testing.assert_allclose(found[f"{label}_probabilities"], expected, atol=1e-6)
    assert spec_in(tmp_path).objectives[1].classes == (0, 1, 2)


@pytest.mark.parametrize(
    "model",
    [
        make_pipeline(StandardScaler(), LinearRegression()),
        RandomForestRegressor(5, max_depth=4, random_state=0),
    ],
    ids=["pipeline", "forest"],
)
def test_an_estimator_of_several_values(tmp_path: Path, model: Any) -> None:
    model.fit(FRAME, np.stack([AMOUNT, LEVEL * 10.0], axis=1))
    export(model, FRAME, "m", output=tmp_path, outputs=["amount", "level"])
    found, native = answers(tmp_path), model.predict(FRAME)
    np.testing.assert_allclose(found["amount"].ravel(), native[:, 0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["level"].ravel(), native[:, 1], rtol=1e-4, atol=1e-5)


def test_labels_of_one_column_are_those_of_a_model_of_one_output(tmp_path: Path) -> None:
    model = LinearRegression().fit(FRAME, AMOUNT)
    export(model, FRAME, "m", pd.DataFrame({"amount": AMOUNT}), tmp_path)
    assert spec_in(tmp_path).labels == ()
    reference = pq.read_table(tmp_path / "reference.parquet")
    np.testing.assert_array_equal(reference["label_number"], AMOUNT)


BOTH = {
    "approve": DecisionTreeClassifier(max_depth=2).fit(FRAME, APPROVE),
    "amount": LinearRegression().fit(FRAME, AMOUNT),
}
FOREST = RandomForestClassifier(2).fit(FRAME, np.stack([LEVEL, LEVEL], axis=1))
CHAIN = ClassifierChain(LogisticRegression()).fit(FRAME, np.stack([LEVEL > 0, LEVEL > 1], axis=1))


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        (FOREST, {}, "name them, by labels"),
        (FOREST, {"outputs": ["x"]}, "answers 2 labels, and 1 are named"),
        (BOTH["amount"], {"outputs": ["x", "y"]}, "answers one label: export a dict"),
        (CHAIN, {"outputs": ["x", "y"]}, "has no form as a graph; use MultiOutputClassifier"),
        (BOTH, {"labels": {"approve": APPROVE}}, "models of approve, amount, and labels approve"),
        (
            BOTH,
            {"labels": {"approve": APPROVE, "amount": [None] * 300}},
            "label 'amount': no row has one",
        ),
        (
            BOTH,
            {"labels": {"approve": APPROVE, "amount": APPROVE}},
            "label 'amount': the model predicts numbers",
        ),
        (
            BOTH,
            {"objective": [{"metric": "error", "label": "aprove"}]},
            "its `label` is 'aprove', and the model answers approve, amount",
        ),
        (BOTH, {"task": "regression"}, "task: say it by label"),
        ({}, {}, "there is no model in the dict"),
        ({"approve": object()}, {}, "output 'approve': a builtins.object is not a model"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(
    tmp_path: Path, model: Any, options: dict[str, Any], said: str
) -> None:
    with pytest.raises((Rejected, NotExportable), match=said):
        export(model, FRAME, "m", output=tmp_path, **options)
