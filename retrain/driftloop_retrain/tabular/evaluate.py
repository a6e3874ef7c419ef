"""Evaluates predictions: losses of arrays, and metrics."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected
from driftloop_contracts.graph_names import probabilities_of
from driftloop_contracts.kind import Task
from driftloop_evaluation import shown_metrics as shown
from driftloop_evaluation.labels import Labels, class_names
from driftloop_evaluation.losses import losses_of
from driftloop_evaluation.metric_values import confusion
from driftloop_evaluation.scales import UNIT_SCALE, error_scale

Outputs = Mapping[str, NDArray[np.generic]]
TINY = 1e-7


def losses(
    task: Task,
    labels: NDArray[np.generic],
    predicted: NDArray[np.generic],
    scale: float | None = None,
) -> NDArray[np.float64]:
    """Return the losses [n] of outputs [n] or [n, 1], as used by the monitor and the canary.
    `scale`: see `loss_scale`. Raises Rejected if a label cannot be compared with its output."""
    found = losses_of(task, _column(predicted), Labels.of_values(labels), scale)
    if unjudged := int(np.isnan(found).sum()):
        raise Rejected(f"{unjudged} of {len(found)} labels do not compare with the output")
    return found


def loss_scale(
    task: Task, labels: NDArray[np.generic], predicted: NDArray[np.generic]
) -> float | None:
    """Return the scale of errors, given the predictions of the model to beat; None for classes."""
    if task != "regression":
        return None
    return error_scale(_column(predicted), Labels.of_values(labels)) or UNIT_SCALE


def _column(predicted: NDArray[np.generic]) -> pa.Array:
    flat = pa.array(predicted.reshape(-1))
    width = predicted.size // len(predicted) if len(predicted) else 1
    return flat if width == 1 else pa.FixedSizeListArray.from_arrays(flat, width)


def metrics(
    task: Task,
    output: str,
    labels: NDArray[np.generic],
    outputs: Outputs,
    classes: NDArray[np.generic] | None = None,
) -> dict[str, float]:
    """Return accuracy, and log_loss if there are probabilities [n, classes]; or rmse and mae."""
    if task == "regression":
        error = outputs[output].reshape(-1).astype(np.float64) - labels.astype(np.float64)
        return {"rmse": float(np.sqrt((error**2).mean())), "mae": float(np.abs(error).mean())}
    found = {"accuracy": float(1.0 - losses(task, labels, outputs[output]).mean())}
    probabilities = probabilities_of(outputs)
    if classes is not None and probabilities is not None:
        found["log_loss"] = _log_loss(labels, probabilities, classes)
    return found


def shown_metrics(
    task: Task,
    output: str,
    labels: NDArray[np.generic],
    outputs: Outputs,
    classes: NDArray[np.generic] | None = None,
) -> dict[str, float]:
    """Return `metrics` and what else people ask for, with intervals (`shown_metrics.flat`); of two
    classes also the confusion matrix. Rows are oldest first."""
    found = metrics(task, output, labels, outputs, classes)
    if task == "regression":
        answers = outputs[output].reshape(-1).astype(np.float64)
        return {**shown.flat(shown.value_metrics(labels.astype(np.float64), answers)), **found}
    answered = outputs[output].reshape(len(labels), -1)
    if answered.shape[1] != 1:
        return found
    names = [class_names(pa.array(v)).to_pylist() for v in (labels, answered[:, 0])]
    order = [] if classes is None else class_names(pa.array(classes)).to_pylist()
    order += sorted({*names[0], *names[1]} - {*order})
    place = {name: number for number, name in enumerate(order)}
    truth, said = (np.array([place[name] for name in part], np.int64) for part in names)
    p = None if classes is None or len(order) != len(classes) else probabilities_of(outputs)
    probabilities = None if p is None else np.asarray(p, np.float64)
    more = shown.flat(shown.class_metrics(truth, said, probabilities, len(order)))
    if len(order) == 2:
        counts = confusion(truth, said, 2).ravel().tolist()
        kinds = ("true_negatives", "false_positives", "false_negatives", "true_positives")
        more |= dict(zip(kinds, map(float, counts), strict=True))
    return {**more, **found}


def _log_loss(
    labels: NDArray[np.generic], probabilities: NDArray[Any], classes: NDArray[np.generic]
) -> float:
    column = np.searchsorted(classes, labels)
    chosen = probabilities[np.arange(len(labels)), column]
    return float(-np.log(np.clip(chosen, TINY, 1.0)).mean())


@dataclass(frozen=True, slots=True)
class ColumnSlice:
    """The rows (bool [n]) in which a column has one value."""

    name: str
    rows: NDArray[np.bool_]
