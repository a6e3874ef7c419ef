"""How good predictions are: a loss for each row, and metrics from them."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_contracts.kind import Task

Outputs = Mapping[str, NDArray[np.generic]]
TINY = 1e-7
MAX_SLICE_VALUES = 20


def losses(
    task: Task, labels: NDArray[np.generic], predicted: NDArray[np.generic]
) -> NDArray[np.float64]:
    """One loss a row: 0/1 for classes, the squared error for values."""
    if task == "classification":
        if predicted.dtype == object:
            return np.array(
                [str(a) != str(b) for a, b in zip(labels, predicted, strict=True)], np.float64
            )
        return np.asarray(labels != predicted, np.float64)
    return (labels.astype(np.float64) - predicted.astype(np.float64)) ** 2


def metrics(
    task: Task,
    output: str,
    labels: NDArray[np.generic],
    outputs: Outputs,
    classes: NDArray[np.generic] | None = None,
) -> dict[str, float]:
    """accuracy, and log_loss where there are probabilities [n, classes]; or rmse and mae."""
    loss = losses(task, labels, outputs[output])
    if task == "regression":
        return {"rmse": float(np.sqrt(loss.mean())), "mae": float(np.sqrt(loss).mean())}
    found = {"accuracy": float(1.0 - loss.mean())}
    if classes is not None and "probabilities" in outputs:
        found["log_loss"] = _log_loss(labels, outputs["probabilities"], classes)
    return found


def _log_loss(
    labels: NDArray[np.generic], probabilities: NDArray[Any], classes: NDArray[np.generic]
) -> float:
    column = np.searchsorted(classes, labels)
    chosen = probabilities[np.arange(len(labels)), column]
    return float(-np.log(np.clip(chosen, TINY, 1.0)).mean())


@dataclass(frozen=True, slots=True)
class ColumnSlice:
    """Rows [n] bool where a column has one value."""

    name: str
    rows: NDArray[np.bool_]


def slices(features: pa.Table, columns: tuple[str, ...], min_rows: int) -> list[ColumnSlice]:
    """`column=value` for the values with at least `min_rows` rows; numbers with many values are cut
    at their quartiles."""
    found = []
    for column in columns:
        values = np.asarray(features[column].to_pandas())
        distinct, codes = np.unique(values.astype(str), return_inverse=True)
        names = [f"{column}={value}" for value in distinct]
        if len(distinct) > MAX_SLICE_VALUES and values.dtype.kind in "fiu":
            bounds = np.unique(np.nanquantile(values.astype(float), [0.25, 0.5, 0.75]))
            codes = np.searchsorted(bounds, values.astype(float))
            edges = ["-inf", *(f"{bound:g}" for bound in bounds), "inf"]
            names = [f"{column}∈({a}, {b}]" for a, b in pairwise(edges)]
        counted = np.bincount(codes, minlength=len(names))
        order = np.argsort(-counted)[:MAX_SLICE_VALUES]
        found += [ColumnSlice(names[i], codes == i) for i in order if counted[i] >= min_rows]
    return found
