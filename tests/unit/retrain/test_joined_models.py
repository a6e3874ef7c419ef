"""Several models as one graph: ensembles, and the champion continued."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from driftloop_contracts.errors import Rejected
from driftloop_contracts.kind import Task
from driftloop_onnx import OnnxModel
from driftloop_retrain.tabular.dataset import Dataset, input_tensors
from driftloop_retrain.tabular.evaluate import loss_scale, losses
from driftloop_retrain.tabular.inference import outputs_of
from driftloop_retrain.tabular.parity import check_parity
from driftloop_retrain.tabular.postprocessing.interval import Interval
from driftloop_retrain.tabular.postprocessing.model import with_steps
from driftloop_retrain.tabular.postprocessing.prediction_set import PredictionSet
from driftloop_retrain.tabular.recipes import FitContext
from driftloop_retrain.tabular.recipes.check import example
from driftloop_retrain.tabular.recipes.continued import MOST_LAYERS, Continued
from driftloop_retrain.tabular.recipes.ensemble import Ensemble
from driftloop_retrain.tabular.recipes.gradient_boosting import GradientBoosting
from driftloop_retrain.tabular.recipes.linear import Linear
from driftloop_retrain.tabular.tuning.blending import blended

TASKS: tuple[Task, ...] = ("classification", "regression")


def context_of(task: Task, data: Dataset, folder: Path) -> FitContext:
    classes = np.unique(data.labels) if task == "classification" else None
    return FitContext(task, input_tensors(data.features), 0, folder, classes=classes, rounds=8)


@pytest.mark.parametrize("task", TASKS)
def test_an_ensemble_of_different_frameworks_is_one_graph(task: Task, tmp_path: Path) -> None:
    data = example(task, rows=300)
    context = context_of(task, data, tmp_path / "work")
    trees = GradientBoosting().fit(data, None, context)
    linear = Linear().fit(data, None, replace(context, rounds=1))
    model = Ensemble((trees, linear), (0.75, 0.25), context.classes)
    model.export(tmp_path)
    rows = data.features
    check_parity(rows, model.predict(rows), outputs_of(OnnxModel(tmp_path), rows), 1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_a_champion_continued_on_new_rows_is_better_on_newer_ones(
    task: Task, tmp_path: Path
) -> None:
    data = example(task)
    context = context_of(task, data, tmp_path / "work")
    GradientBoosting().fit(data.slice(0, 300), None, context).export(tmp_path / "champion")
    held, output = data.slice(1_000, 1_200), "label" if task == "classification" else "value"
    champion = replace(
        context, champion=tmp_path / "champion", champion_until=data.at[299], rounds=None
    )
    folder = tmp_path / "champion"
    scale = loss_scale(task, held.labels, outputs_of(OnnxModel(folder), held.features)[output])
    lost = []
    for layer in range(MOST_LAYERS):
        answers = outputs_of(OnnxModel(folder), held.features)[output]
        lost.append(float(losses(task, held.labels, answers, scale).mean()))
        model = Continued().fit(data.slice(0, 1_000), held, replace(champion, champion=folder))
        folder = tmp_path / f"layer-{layer}"
        model.export(folder)
        rows = data.features
        check_parity(rows, model.predict(rows), outputs_of(OnnxModel(folder), rows), 1e-5)
    assert lost[1] < 0.7 * lost[0]
    with pytest.raises(Rejected, match="trained anew"):
        Continued().fit(data.slice(0, 1_000), held, replace(champion, champion=folder))


@pytest.mark.parametrize("task", TASKS)
def test_a_champion_with_an_interval_or_a_set_is_continued_without_it(
    task: Task, tmp_path: Path
) -> None:
    data, folder = example(task), tmp_path / "champion"
    context = context_of(task, data, tmp_path / "work")
    first = GradientBoosting().fit(data.slice(0, 300), None, context)
    further = (
        PredictionSet(0.9, 0.2)
        if task == "classification"
        else Interval(0.9, (0.0, 1.0), (1.0, 1.0))
    )
    with_steps(first, further).export(folder)
    champion = replace(context, champion=folder, champion_until=data.at[299], rounds=None)
    model = Continued().fit(data.slice(0, 1_000), data.slice(1_000, 1_200), champion)
    model.export(tmp_path / "next")
    rows, graph = data.features, OnnxModel(tmp_path / "next")
    assert {t.name for t in graph.signature.outputs} == set(first.predict(rows))
    check_parity(rows, model.predict(rows), outputs_of(graph, rows), 1e-5)


@pytest.mark.parametrize(
    ("until", "reason"),
    [(None, "no champion"), (799, "are newer than the champion"), (400, "compared on")],
)
def test_a_champion_is_only_continued_on_rows_it_was_not_trained_on(
    until: int | None, reason: str, tmp_path: Path
) -> None:
    data = example("regression", rows=1_200)
    context = replace(
        context_of("regression", data, tmp_path),
        champion=tmp_path,
        champion_until=None if until is None else data.at[until],
    )
    with pytest.raises(Rejected, match=reason):
        Continued().fit(data.slice(0, 1_000), data.slice(300, 500), context)


def test_weights_go_to_those_that_answer_best_together() -> None:
    """The second and the third err on different sides; the fourth is all wrong."""
    truth = np.zeros(4, np.float32)
    outputs = {
        number: {"value": np.full(4, value, np.float32)}
        for number, value in enumerate((1.0, 2.0, -2.0, 50.0))
    }

    def loss(answers: object) -> float:
        return float(np.abs(answers["value"] - truth).mean())  # type: ignore[index]

    weights = blended(outputs, loss, None, 3)
    assert 3 not in weights
    assert sum(weights.values()) == 1
    assert abs(sum(w * float(outputs[n]["value"][0]) for n, w in weights.items())) < 0.5
    assert len(blended(outputs, loss, None, 2)) <= 2
