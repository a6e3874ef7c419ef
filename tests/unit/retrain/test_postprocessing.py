"""Calibration and decision by costs, inside the graph."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected
from driftloop_contracts.model import ModelSpec
from driftloop_contracts.objective import Objective
from driftloop_onnx import OnnxModel
from driftloop_retrain.tabular.dataset import Dataset, dataset_of, input_tensors
from driftloop_retrain.tabular.evaluate import Outputs
from driftloop_retrain.tabular.inference import outputs_of
from driftloop_retrain.tabular.parity import check_parity
from driftloop_retrain.tabular.postprocessing.calibration import fit_isotonic, fit_scaled
from driftloop_retrain.tabular.postprocessing.choice import Wanted, choose_steps
from driftloop_retrain.tabular.postprocessing.decision_costs import costs_of, threshold_of
from driftloop_retrain.tabular.postprocessing.fitting import fitted_steps
from driftloop_retrain.tabular.postprocessing.interval import fit_interval
from driftloop_retrain.tabular.postprocessing.model import with_steps
from driftloop_retrain.tabular.postprocessing.prediction_set import fit_prediction_set
from driftloop_retrain.tabular.postprocessing.steps import Steps
from driftloop_retrain.tabular.recipes import FitContext, FittedModel
from driftloop_retrain.tabular.recipes.check import example
from driftloop_retrain.tabular.recipes.gradient_boosting import GradientBoosting

SPEC = ModelSpec("m", "classification", "label", classes=("0", "1"))
DEAR = {"metric": "cost", "false_positive": 1.0, "false_negative": 9.0}
TWO = np.array([0, 1])


def softmax(scores: NDArray[np.float64]) -> NDArray[np.float32]:
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)


def overconfident(rows: int, classes: int = 2, factor: float = 3.0) -> tuple[Outputs, np.ndarray]:
    """Answers whose log-odds are `factor` times too large, and labels."""
    random = np.random.default_rng(4)
    scores = random.normal(size=(rows, classes))
    true = softmax(scores)
    labels = np.array([random.choice(classes, p=p / p.sum()) for p in true.astype(float)])
    p = softmax(factor * scores)
    return {"label": p.argmax(axis=1), "probabilities": p}, labels


def errors(labels: np.ndarray) -> "object":
    return lambda outputs: (outputs["label"] != labels).astype(float)


def test_an_overconfident_model_is_calibrated() -> None:
    outputs, labels = overconfident(3_000, classes=3)
    spec = replace(SPEC, classes=("0", "1", "2"))
    chosen = choose_steps(spec, np.arange(3), labels, outputs, errors(labels), Wanted())  # type: ignore[arg-type]
    assert chosen.steps is not None
    assert chosen.steps.calibration is not None
    assert chosen.steps.calibration.to_dict()["slope"] == pytest.approx(1 / 3, abs=0.05)
    assert chosen.measured["log_loss"]["after"] < chosen.measured["log_loss"]["before"]


def test_a_calibrated_model_is_left_as_it_is() -> None:
    outputs, labels = overconfident(3_000, factor=1.0)
    chosen = choose_steps(SPEC, TWO, labels, outputs, errors(labels), Wanted())  # type: ignore[arg-type]
    assert chosen.steps is None


def test_noise_is_not_taken_for_miscalibration() -> None:
    outputs, labels = overconfident(400, factor=1.15)
    chosen = choose_steps(SPEC, TWO, labels, outputs, errors(labels), Wanted())  # type: ignore[arg-type]
    assert chosen.steps is None


def test_the_label_is_the_answer_that_costs_least() -> None:
    outputs, labels = overconfident(4_000, factor=1.0)
    spec = replace(SPEC, objective=Objective(**DEAR))

    def cost(answers: Outputs) -> np.ndarray:
        missed = (labels == 1) & (answers["label"] == 0)
        alarm = (labels == 0) & (answers["label"] == 1)
        return (9.0 * missed + alarm) / 9.0

    chosen = choose_steps(spec, TWO, labels, outputs, cost, Wanted())
    assert chosen.steps is not None
    assert chosen.measured["threshold"] == pytest.approx(0.1)
    decided = chosen.steps.apply(outputs)
    assert ((decided["probabilities"][:, 1] >= 0.1) == (decided["label"] == 1)).all()
    assert cost(decided).mean() < 0.7 * cost(outputs).mean()


def test_steps_by_which_the_objective_loses_are_left_out() -> None:
    """The declared costs are the wrong way round of what is measured."""
    outputs, labels = overconfident(4_000, factor=1.0)
    spec = replace(SPEC, objective=Objective(**DEAR))
    chosen = choose_steps(spec, TWO, labels, outputs, errors(labels), Wanted())  # type: ignore[arg-type]
    assert chosen.steps is None


def test_costs_follow_from_the_objective() -> None:
    place = np.array([0] * 90 + [1] * 10)
    dear = replace(SPEC, objective=Objective(**DEAR))
    turned = replace(SPEC, objective=Objective(**DEAR, positive=0))
    balanced = replace(SPEC, objective=Objective(metric="balanced_error"))
    equal = replace(SPEC, objective=Objective(metric="error"))
    found = {
        name: costs_of(spec, TWO, place)
        for name, spec in (("dear", dear), ("turned", turned), ("balanced", balanced))
    }
    assert {k: round(threshold_of(c), 3) for k, c in found.items()} == {  # type: ignore[arg-type]
        "dear": 0.1, "turned": 0.9, "balanced": 0.1,
    }  # fmt: skip
    assert costs_of(equal, TWO, place) is None
    assert costs_of(replace(dear, output="other"), TWO, place) is not None
    named = replace(dear, objective=Objective(**DEAR, output="probabilities"))
    assert costs_of(named, TWO, place) is None


def test_costs_of_many_classes() -> None:
    said = {"a": {"b": 1.0, "c": 4.0}, "b": {"a": 1.0, "c": 1.0}, "c": {"a": 8.0, "b": 2.0}}
    spec = ModelSpec(
        "m", "classification", "label", classes=("a", "b", "c"),
        objective=Objective(metric="cost", costs=said),
    )  # fmt: skip
    costs = costs_of(spec, np.array(["a", "b", "c"], dtype=object), np.zeros(3, np.int64))
    assert costs is not None
    assert (costs * 8).tolist() == [[0, 1, 4], [1, 0, 1], [8, 2, 0]]


def test_isotonic_rises_and_stays_within_zero_and_one() -> None:
    outputs, labels = overconfident(5_000)
    found = fit_isotonic(outputs["probabilities"], labels)
    assert found is not None
    assert (np.diff(found.knots) > 0).all()
    assert (np.diff(found.values) > 0).all()
    assert min(found.values) > 0
    assert max(found.values) < 1
    constant = np.full((500, 2), 0.5, np.float32)
    assert fit_isotonic(constant, labels[:500]) is None


@pytest.mark.parametrize("texts", [False, True])
@pytest.mark.parametrize("form", ["scaled", "isotonic", "costs"])
def test_the_graph_answers_as_the_steps_do(tmp_path: Path, form: str, texts: bool) -> None:
    data, model, classes = trained(tmp_path, texts, three=form == "costs")
    outputs = model.predict(data.features)
    p, place = outputs["probabilities"], np.searchsorted(classes, data.labels)
    costs = np.array([[0.0, 1.0, 0.3], [0.2, 0.0, 1.0], [0.5, 0.4, 0.0]])
    steps = {
        "scaled": lambda: Steps(classes, fit_scaled(p, place)),
        "isotonic": lambda: Steps(classes, fit_isotonic(p, place)),
        "costs": lambda: Steps(classes, fit_scaled(p, place), costs),
    }[form]()
    after = with_steps(model, steps)
    after.export(tmp_path / "version")
    graph = OnnxModel(tmp_path / "version")
    model.export(tmp_path / "plain")
    assert graph.signature == OnnxModel(tmp_path / "plain").signature
    native = after.predict(data.features)
    tied = steps.tied(native, 1e-5)
    assert tied.sum() < 5
    check_parity(data.features, native, outputs_of(graph, data.features), 1e-5, tied)
    assert not np.allclose(native["probabilities"], p)


def test_columns_may_be_called_as_the_tensors_of_the_steps(tmp_path: Path) -> None:
    names = ["label", "probabilities", "decision_best", "calibration_log"]
    data, model, classes = trained(tmp_path, False, names=names)
    assert {"label_", "probabilities_"} == set(model.predict(data.features))
    outputs = model.predict(data.features)
    place = np.searchsorted(classes, data.labels)
    after = with_steps(model, Steps(classes, fit_scaled(outputs["probabilities_"], place)))
    after.export(tmp_path / "version")
    graph = OnnxModel(tmp_path / "version")
    check_parity(
        data.features, after.predict(data.features), outputs_of(graph, data.features), 1e-5
    )


def test_the_steps_of_a_winner_are_fitted_on_its_answers_to_validation_rows(
    tmp_path: Path,
) -> None:
    data, model, _ = trained(tmp_path, False)
    outputs = model.predict(data.features)
    spec = replace(SPEC, objective=Objective(**DEAR))
    found = fitted_steps(spec, TWO, data, outputs, Wanted())
    assert found is not None
    assert found.steps is not None
    assert found.measured["rows"] == data.rows
    assert found.measured["loss"]["after"] < found.measured["loss"]["before"]
    off = fitted_steps(spec, TWO, data, outputs, Wanted(calibrate=False, by_costs=False))
    assert off is not None
    assert off.steps is None


def uneven(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Answers, and labels whose errors are ten times as large at large values."""
    random = np.random.default_rng(seed)
    values = random.uniform(0, 10, rows)
    return values, values + random.normal(size=rows) * (0.1 + 0.1 * values)


@pytest.mark.parametrize("coverage", [0.8, 0.95])
def test_an_interval_covers_its_share_also_where_errors_are_large(coverage: float) -> None:
    found = fit_interval(*uneven(4_000, 1), coverage)
    assert found is not None
    values, labels = uneven(20_000, 2)
    ends = found.apply({"value": values.astype(np.float32)})
    inside = (ends["lower"] <= labels) & (labels <= ends["upper"])
    for part in (values < 11, values < 3, values > 7):
        assert inside[part].mean() == pytest.approx(coverage, abs=0.03)
    width = ends["upper"] - ends["lower"]
    assert width[values > 9].mean() > 4 * width[values < 1].mean()


def test_too_few_rows_give_no_interval() -> None:
    assert fit_interval(*uneven(150, 1), 0.9) is None
    assert fit_interval(*uneven(300, 1), 0.999) is None


def test_the_graph_has_the_ends_of_the_interval(tmp_path: Path) -> None:
    data = example("regression", rows=1_200)
    data = replace(data, features=data.features.rename_columns(["lower", "b", "c", "d"]))
    context = FitContext("regression", input_tensors(data.features), 0, tmp_path, rounds=10)
    model = GradientBoosting().fit(data, None, context)
    names = data.features.column_names
    steps = fit_interval(model.predict(data.features)["value"], data.labels, 0.9, names)
    after = with_steps(model, steps)
    native = after.predict(data.features)
    after.export(tmp_path / "version")
    graph = OnnxModel(tmp_path / "version")
    assert [t.name for t in graph.signature.outputs] == ["value", "lower_", "upper"]
    check_parity(data.features, native, outputs_of(graph, data.features), 1e-5)


@pytest.mark.parametrize("coverage", [0.8, 0.95])
def test_a_set_of_classes_covers_its_share_and_is_large_where_classes_are_near(
    coverage: float,
) -> None:
    """Also if the probabilities are far too sure."""
    outputs, labels = overconfident(4_000, classes=4)
    found = fit_prediction_set(outputs["probabilities"][:2_000], labels[:2_000], coverage)
    assert found is not None
    chosen = found.apply(outputs)["prediction_set"]
    inside = chosen[np.arange(len(labels)), labels]
    assert inside[2_000:].mean() == pytest.approx(coverage, abs=0.03)
    size, best = chosen.sum(axis=1), outputs["probabilities"].max(axis=1)
    assert size.min() >= 1
    assert size[best < 0.6].mean() > size[best > 0.99].mean() + 0.5


def test_too_few_rows_give_no_set() -> None:
    outputs, labels = overconfident(300)
    assert fit_prediction_set(outputs["probabilities"][:150], labels[:150], 0.9) is None
    assert fit_prediction_set(outputs["probabilities"], labels, 0.999) is None
    data = example("classification", rows=150)
    p = np.full((150, 3), 1 / 3, np.float32)
    answers: Outputs = {"label": np.zeros(150, np.int64), "probabilities": p}
    spec = replace(SPEC, classes=())
    with pytest.raises(Rejected, match="150 validation rows are too few for a set of classes"):
        fitted_steps(spec, np.arange(3), data, answers, Wanted(prediction_set=0.9))


@pytest.mark.parametrize("texts", [True, False])
def test_the_graph_has_the_set_behind_calibrated_probabilities(tmp_path: Path, texts: bool) -> None:
    data, model, classes = trained(tmp_path, texts, three=True, names=["prediction_set", *"abc"])
    columns, outputs = data.features.column_names, model.predict(data.features)
    place = np.searchsorted(classes, data.labels)
    steps = Steps(classes, fit_scaled(outputs["probabilities"], place))
    further = fit_prediction_set(
        steps.apply(outputs)["probabilities"], place, coverage=0.9, columns=columns
    )
    assert further is not None
    after = with_steps(with_steps(model, steps), further)
    native = after.predict(data.features)
    after.export(tmp_path / "version")
    graph = OnnxModel(tmp_path / "version")
    shown = [(t.name, t.datatype, t.shape) for t in graph.signature.outputs]
    assert shown[-1] == ("prediction_set_", "BOOL", (-1, 3))
    tied = further.tied(native, 1e-5)
    assert tied.mean() < 0.1
    check_parity(data.features, native, outputs_of(graph, data.features), 1e-5, tied)
    assert native["prediction_set_"][np.arange(data.rows), place].mean() >= 0.9


def trained(
    folder: Path, texts: bool, three: bool = False, names: list[str] | None = None
) -> tuple[Dataset, FittedModel, np.ndarray]:
    data = example("classification", rows=1_500)
    labels = data.labels if three else (data.labels == 2).astype(np.int64)
    if texts:
        labels = np.array(["low", "middle", "high"], dtype=object)[labels]
    features = data.features if names is None else data.features.rename_columns(names)
    data = dataset_of(features, labels, data.at, "example")
    classes = np.unique(labels)
    context = FitContext(
        "classification", input_tensors(pa.table(features)), 0, folder, classes=classes, rounds=15
    )
    return data, GradientBoosting().fit(data, None, context), classes
