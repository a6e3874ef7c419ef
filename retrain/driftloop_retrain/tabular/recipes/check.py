"""What every recipe must do. Ours pass it; run it in your own tests:

def test_mine_keeps_to_the_contract(tmp_path: Path) -> None:
    check_recipe(Mine(), tmp_path)
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_contracts.errors import DriftloopError, Rejected
from driftloop_contracts.kind import Task
from driftloop_onnx import OnnxModel
from driftloop_retrain.tabular.dataset import Dataset, dataset_of, input_tensors
from driftloop_retrain.tabular.evaluate import metrics
from driftloop_retrain.tabular.inference import outputs_of
from driftloop_retrain.tabular.parity import check_parity
from driftloop_retrain.tabular.recipes.port import FitContext, Recipe

ROWS = 1_200
MIN_ROWS = 100


class RecipeBroken(DriftloopError):
    """The recipe violates the port; the message says where."""


def check_recipe(
    recipe: Recipe,
    folder: Path,
    tasks: tuple[Task, ...] = ("classification", "regression"),
    tolerance: float = 1e-4,
) -> None:
    """Train, export and run the recipe on small tables with floats, integers, booleans, texts and
    missing values. Raises RecipeBroken, ParityBroken, or the recipe's errors."""
    for task in tasks:
        _check(recipe, task, example(task), folder / task, tolerance)
    if "classification" in tasks:
        _check(
            recipe, "classification", _named(example("classification")), folder / "texts", tolerance
        )


def check_recipe_on(
    recipe: Recipe, task: Task, data: Dataset, folder: Path, tolerance: float = 1e-4
) -> None:
    """The same on rows of your own. Raises as `check_recipe`, and Rejected for too few rows."""
    if data.rows < MIN_ROWS:
        raise Rejected(f"{data.rows} rows are too few to check a recipe on; give {MIN_ROWS}")
    _check(recipe, task, data, folder, tolerance)


def example(task: Task, rows: int = ROWS, seed: int = 0) -> Dataset:
    """Return a table whose label depends on a number, a text and a boolean; a tenth of `size` is
    missing."""
    random = np.random.default_rng(seed)
    size = random.normal(size=rows).astype(np.float32)
    count, flag = random.integers(0, 9, rows), random.random(rows) < 0.5
    kind = random.choice(["a", "b", "", "é"], rows)
    score = 2 * size + 0.2 * count + 1.5 * flag + np.where(kind == "a", 2.0, -1.0) - 1.5
    missing = random.random(rows) < 0.1
    features = pa.table(
        {
            "size": pa.array(np.where(missing, np.float32("nan"), size), pa.float32()),
            "count": pa.array(count, pa.int64()),
            "flag": pa.array(flag),
            "kind": pa.array(kind.tolist(), pa.string()),
        }
    )
    at = np.arange(rows).astype("datetime64[us]")
    labels: NDArray[np.generic] = score
    if task == "classification":
        labels = np.digitize(score, [-2.0, 2.0]).astype(np.int64)
    return dataset_of(features, labels, at, "example")


def _named(data: Dataset) -> Dataset:
    names = np.array(["low", "middle", "high"], dtype=object)
    return dataset_of(data.features, names[data.labels.astype(int)], data.at, data.source)


def _check(recipe: Recipe, task: Task, data: Dataset, folder: Path, tolerance: float) -> None:
    cut = data.rows * 3 // 4
    train, held = data.slice(0, cut), data.slice(cut, data.rows)
    classes = np.unique(data.labels) if task == "classification" else None
    inputs = input_tensors(data.features)

    def context(name: str, rounds: int | None = None) -> FitContext:
        return FitContext(task, inputs, 7, folder / name, classes=classes, rounds=rounds)

    model = recipe.fit(train, held, context("one"))
    expect(
        all(hasattr(model, name) for name in ("rounds", "predict", "export")),
        f"fit returns a {type(model).__name__} without rounds, predict and export",
    )
    deterministic = getattr(recipe, "deterministic", True)
    again = recipe.fit(train, held, context("two")) if deterministic else model
    model.export(folder)
    graph = OnnxModel(folder)
    expect(
        {(t.name, t.datatype) for t in graph.signature.inputs}
        == {(t.name, t.datatype) for t in inputs},
        f"the graph's inputs {graph.signature.inputs} are not {inputs}",
    )
    for rows in asked_rows(held.features):
        native, exported = model.predict(rows), outputs_of(graph, rows)
        expect(
            set(native) == set(exported),
            f"the graph's outputs {set(exported)} are not {set(native)}",
        )
        check_parity(rows, native, exported, tolerance)
        check_parity(rows, native, again.predict(rows), 0.0)
    output = "label" if task == "classification" else "value"
    measured = metrics(task, output, held.labels, model.predict(held.features))
    loss = 1.0 - measured["accuracy"] if task == "classification" else measured["rmse"] ** 2
    naive = _naive(task, held.labels)
    expect(loss < naive, f"a loss of {loss:.3f} is not better than {naive:.3f} for a constant")
    refit = recipe.fit(data, None, context("refit", model.rounds))
    expect(refit.rounds >= 1, "a fit without a validation part must train too")


def _naive(task: Task, labels: NDArray[np.generic]) -> float:
    if task == "regression":
        return float(labels.astype(float).var())
    return float(1.0 - np.unique(labels, return_counts=True)[1].max() / len(labels))


def asked_rows(features: pa.Table) -> tuple[pa.Table, ...]:
    """The rows, the same with texts never seen, and the first alone."""
    unknown = pa.array(["never seen"] * features.num_rows)
    strange = {
        f.name: unknown if pa.types.is_string(f.type) else features[f.name] for f in features.schema
    }
    return features, pa.table(strange), features.slice(0, 1)


def expect(holds: bool, message: str) -> None:
    """Raises RecipeBroken."""
    if not holds:
        raise RecipeBroken(message)
