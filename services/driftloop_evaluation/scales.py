"""The scale of a regression's errors: a multiple of the champion's usual error."""

from typing import Any

import numpy as np
import pyarrow as pa

from driftloop_contracts.events import OUTPUT_PREFIX
from driftloop_contracts.model import ModelSpec
from driftloop_evaluation.labels import LABEL_NUMBER, Floats, Labels, floats
from driftloop_evaluation.losses import is_number, one_value

SCALE_RMSE = 3.0
"""An error of this multiple of the champion's root mean squared error has the loss 1."""
UNIT_SCALE = 1.0
"""Used if no error is known, because the champion's rows are never wrong."""


def errors(outputs: Any, labels: Labels) -> Floats:
    """Return output - label for the rows with a finite value; at most [n]."""
    outputs = one_value(outputs)
    if not is_number(outputs.type):
        return np.empty(0)
    found = floats(outputs) - labels.numbers
    finite: Floats = found[np.isfinite(found)]
    return finite


def rmse(errors: Floats) -> float | None:
    """Return the root mean squared error; None without errors."""
    return float(np.sqrt(np.mean(errors**2))) if errors.size else None


def error_scale(outputs: Any, labels: Labels, min_rows: int = 1) -> float | None:
    """Return SCALE_RMSE times the RMSE of outputs [n]; None if fewer than `min_rows` have a label,
    or none of them is wrong."""
    found = errors(outputs, labels)
    error = rmse(found) if found.size >= min_rows else None
    return SCALE_RMSE * error if error else None


def scale_of(spec: ModelSpec, past: pa.Table, min_rows: int = 1) -> float | None:
    """Return the `error_scale` of labelled rows; None also for a model that is not a regression, or
    if the rows lack its output or labels."""
    column = f"{OUTPUT_PREFIX}{spec.output}"
    if spec.task != "regression" or not {column, LABEL_NUMBER} <= set(past.column_names):
        return None
    return error_scale(past[column], Labels.of_rows(past), min_rows)
