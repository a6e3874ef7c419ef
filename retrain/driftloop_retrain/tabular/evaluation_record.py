"""How a candidate behaves on the held-out rows, for its report: confusion, calibration, residuals,
and how much worse it becomes if a column is shuffled."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_contracts.graph_names import probabilities_of
from driftloop_contracts.model import ModelSpec, class_name
from driftloop_onnx import OnnxModel
from driftloop_retrain.tabular.candidate import Candidate
from driftloop_retrain.tabular.dataset import Dataset
from driftloop_retrain.tabular.evaluate import loss_scale, losses
from driftloop_retrain.tabular.inference import outputs_of
from driftloop_retrain.tabular.search import answer_tensor

MAX_CLASSES = 20
BINS = 10
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
SHUFFLED_ROWS, SHUFFLED_COLUMNS = 1_000, 40
"""The number of the newest rows, and of columns at most, that importance is measured on."""


def evaluation_of(spec: ModelSpec, held: Dataset, candidate: Candidate) -> dict[str, Any]:
    """As JSON. confusion: rows by label, columns by answer. calibration: of the answered class, by
    its probability. residuals: quantiles of answer − label. importance: by column, the largest
    first, in the unit of the loss (classes: the share of wrong answers)."""
    answers = candidate.outputs[answer_tensor(spec)].reshape(-1)
    found: dict[str, Any] = {"importance": _importance(spec, held, candidate)}
    if spec.task == "regression":
        residuals = answers.astype(np.float64) - held.labels.astype(np.float64)
        found["residuals"] = {
            f"{share:.0%}": float(np.quantile(residuals, share)) for share in QUANTILES
        }
        return found
    classes = np.unique(np.concatenate([held.labels, answers]))
    if len(classes) <= MAX_CLASSES:
        found["confusion"] = _confusion(classes, held.labels, answers)
    probabilities = probabilities_of(candidate.outputs)
    if probabilities is not None:
        found["calibration"] = _calibration(
            probabilities.max(axis=1).astype(np.float64), answers == held.labels
        )
    return found


def _confusion(
    classes: NDArray[Any], labels: NDArray[np.generic], answers: NDArray[np.generic]
) -> dict[str, Any]:
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(counts, (np.searchsorted(classes, labels), np.searchsorted(classes, answers)), 1)
    return {"classes": [class_name(c) for c in classes.tolist()], "rows": counts.tolist()}


def _calibration(said: NDArray[np.float64], right: NDArray[np.bool_]) -> list[dict[str, Any]]:
    places = np.minimum((said * BINS).astype(int), BINS - 1)
    return [
        {
            "low": number / BINS,
            "high": (number + 1) / BINS,
            "rows": int(inside.sum()),
            "said": float(said[inside].mean()),
            "true": float(right[inside].mean()),
        }
        for number in range(BINS)
        if (inside := places == number).any()
    ]


def _importance(spec: ModelSpec, held: Dataset, candidate: Candidate) -> list[dict[str, Any]]:
    assert spec.task is not None
    rows = held.slice(max(0, held.rows - SHUFFLED_ROWS), held.rows)
    graph, name = OnnxModel(candidate.folder), answer_tensor(spec)
    plain = outputs_of(graph, rows.features)[name]
    scale = loss_scale(spec.task, rows.labels, plain)
    before = float(losses(spec.task, rows.labels, plain, scale).mean())
    order = pa.array(np.random.default_rng(0).permutation(rows.rows))
    found = []
    for number, column in enumerate(rows.features.column_names[:SHUFFLED_COLUMNS]):
        shuffled = rows.features.set_column(number, column, rows.features[column].take(order))
        answers = outputs_of(graph, shuffled)[name]
        after = float(losses(spec.task, rows.labels, answers, scale).mean())
        found.append({"column": column, "rise": after - before})
    return sorted(found, key=lambda each: -each["rise"])
