"""How wrong each row is: a loss in [0, 1], or NaN for a row that is not judged.

Whether a row is judged depends on its label and on the type of the output, never on what the model
answered: else a version could escape its hardest rows, and two versions would be compared on
different ones. docs/adr/0022-one-meaning-of-wrong.md has the table of all kinds of rows.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from driftloop_contracts.kind import Task
from driftloop_evaluation.labels import (
    Floats,
    Labels,
    class_names,
    floats,
    is_text,
)


def losses_of(task: Task, outputs: Any, labels: Labels, scale: float | None = None) -> Floats:
    """Losses [n] of a column of outputs against labels; `scale` as in `loss_rule.LossRule`."""
    if task == "classification":
        return class_losses(outputs, labels)
    if task == "regression":
        return value_losses(outputs, labels, scale)
    return rating_losses(labels.numbers)


def class_losses(outputs: Any, labels: Labels) -> Floats:
    """0 for the class that the label names, else 1. A text output compares by name, a number or a
    boolean by number; against those a label that is a text is of another kind, and not judged."""
    outputs = one_value(outputs)
    if is_text(outputs.type):
        wrong = pc.not_equal(class_names(outputs), labels.names())
        return floats(wrong)
    if not is_number(outputs.type):
        return np.full(len(outputs), np.nan)
    judged = _valid(outputs) & ~np.isnan(labels.numbers)
    return np.where(judged, (floats(outputs) != labels.numbers).astype(np.float64), np.nan)


def value_losses(outputs: Any, labels: Labels, scale: float | None) -> Floats:
    """min(1, (error/scale)²); an output that is not finite is as wrong as can be."""
    outputs = one_value(outputs)
    if scale is None or not is_number(outputs.type):
        return np.full(len(outputs), np.nan)
    judged = _valid(outputs) & ~np.isnan(labels.numbers)
    share = np.abs(floats(outputs) - labels.numbers) / scale
    loss = np.where(np.isnan(share), 1.0, np.minimum(share, 1.0) ** 2)
    return np.where(judged, loss, np.nan)


def rating_losses(ratings: Floats) -> Floats:
    """1 - rating; a number outside [0, 1] is not a rating, and not judged."""
    return np.where((ratings >= 0.0) & (ratings <= 1.0), 1.0 - ratings, np.nan)


def one_value(column: Any) -> Any:
    """A column [n] with one value a row: a list of one value is that value, any other list is null,
    for a label compares with one value."""
    while pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
        single = pc.equal(pc.list_value_length(column), 1)
        column = pc.list_element(pc.if_else(single, column, None), 0)
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def is_number(type_: pa.DataType) -> bool:
    """Of numbers or booleans."""
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
    return any(kind(type_) for kind in kinds)


def _valid(column: Any) -> NDArray[np.bool_]:
    valid: NDArray[np.bool_] = column.is_valid().to_numpy(zero_copy_only=False)
    return valid
