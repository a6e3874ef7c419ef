"""Which error of a regression is as wrong as can be: a multiple of the champion's usual error."""

from typing import Any

import numpy as np

from driftloop_evaluation.labels import Floats, Labels, floats
from driftloop_evaluation.losses import is_number, one_value

SCALE_RMSE = 3.0
"""An error of this many times the champion's root mean squared error has the loss 1."""


def errors(outputs: Any, labels: Labels) -> Floats:
    """output - label, of the rows for which that is a finite number; at most [n]."""
    outputs = one_value(outputs)
    if not is_number(outputs.type):
        return np.empty(0)
    found = floats(outputs) - labels.numbers
    finite: Floats = found[np.isfinite(found)]
    return finite


def rmse(errors: Floats) -> float | None:
    """The root mean squared error; None without an error to take it from."""
    return float(np.sqrt(np.mean(errors**2))) if errors.size else None


def error_scale(outputs: Any, labels: Labels, min_rows: int = 1) -> float | None:
    """SCALE_RMSE times the RMSE of outputs [n]; None where fewer than `min_rows` have a label, or
    none of them is wrong."""
    found = errors(outputs, labels)
    error = rmse(found) if found.size >= min_rows else None
    return SCALE_RMSE * error if error else None
