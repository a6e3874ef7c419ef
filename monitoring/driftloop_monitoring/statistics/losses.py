"""From predictions and their labels to losses in [0, 1]."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from driftloop_contracts.events import OUTPUT_PREFIX
from driftloop_contracts.model import ModelSpec

SCALE_RMSE = 3.0
"""A value's error is judged as min(1, (error/scale)²) with this many times the reference's RMSE."""


@dataclass(frozen=True, slots=True)
class LossRule:
    """How a model's rows are judged. `scale`: see SCALE_RMSE; 1 for classes."""

    spec: ModelSpec
    scale: float = 1.0

    def losses(self, table: pa.Table) -> NDArray[np.float64]:
        """One loss a row (of a language model 1 - rating); NaN where there is no label, no output,
        or they do not compare."""
        if self.spec.task is None or self.spec.output is None:
            return np.full(table.num_rows, np.nan)
        if self.spec.task == "generation":
            rating = _numbers(table["label_number"])
            return np.where((rating >= 0.0) & (rating <= 1.0), 1.0 - rating, np.nan)
        output = table[OUTPUT_PREFIX + self.spec.output]
        if pa.types.is_list(output.type):
            return np.full(table.num_rows, np.nan)
        if self.spec.task == "regression":
            errors = _numbers(table["label_number"]) - _numbers(output)
            return np.minimum(1.0, (errors / self.scale) ** 2)
        if pa.types.is_string(output.type) or pa.types.is_large_string(output.type):
            return _class_errors(output.to_pylist(), table["label"].to_pylist())
        label, predicted = _numbers(table["label_number"]), _numbers(output)
        return np.where(
            np.isnan(label) | np.isnan(predicted), np.nan, (label != predicted).astype(float)
        )


def _numbers(array: Any) -> NDArray[np.float64]:
    cast = pc.cast(array, pa.float64(), safe=False)
    return np.asarray(cast.to_numpy(), dtype=np.float64)


def _class_errors(outputs: list[Any], labels: list[Any]) -> NDArray[np.float64]:
    def loss(output: str | None, label: str | None) -> float:
        truth = json.loads(label) if label is not None else None
        if output is None or truth is None:
            return float("nan")
        return float(output != (truth if isinstance(truth, str) else str(truth)))

    return np.array([loss(o, t) for o, t in zip(outputs, labels, strict=True)], dtype=np.float64)


def loss_rule(spec: ModelSpec, reference: pa.Table) -> LossRule:
    """The rule with the scale that the reference gives it."""
    rule = LossRule(spec)
    if spec.task != "regression" or f"{OUTPUT_PREFIX}{spec.output}" not in reference.column_names:
        return rule
    errors = _numbers(reference["label_number"]) - _numbers(
        reference[OUTPUT_PREFIX + str(spec.output)]
    )
    errors = errors[~np.isnan(errors)]
    rmse = float(np.sqrt(np.mean(errors**2))) if errors.size else 0.0
    return LossRule(spec, SCALE_RMSE * rmse if rmse > 0 else 1.0)
