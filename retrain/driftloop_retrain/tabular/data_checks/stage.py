"""Checks a data set and leaves out rows that nothing should be learned from.

Values are checked against the rules of the model's spec, columns for leaks of the label, labels for
their number and balance. Rows are left out for one reason each and counted by it; a data set that
fails raises DataUnfit, with the reason and the first rows.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected
from driftloop_contracts.kind import Task
from driftloop_contracts.model import class_name
from driftloop_contracts.training_rules import TrainingRule
from driftloop_retrain.tabular.data_checks.leaks import future_columns, leaking_column
from driftloop_retrain.tabular.data_checks.values import breaches
from driftloop_retrain.tabular.dataset import Dataset
from driftloop_settings import RetrainSettings

MAX_CLASSES = 1_000
SHOWN_ROWS, SHOWN_CLASSES = 5, 50
REPEATED_SHARE = 0.1
"""Above this share of rows that repeat an earlier one, the record warns."""


class DataUnfit(Rejected):
    """The data set must not be trained on. The message names the reason and the first rows, by
    their number in time order."""


@dataclass(frozen=True)
class DataReport:
    """rows: before any was left out. left_out: rows by reason. repeated: rows whose features and
    label equal an earlier row's; they are kept. classes: rows by label, the largest first.
    labelled: rows that have each of several labels."""

    rows: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    repeated: int = 0
    classes: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    suspected_labels: Mapping[str, Any] | None = None
    labelled: Mapping[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "left_out": dict(self.left_out),
            "repeated": self.repeated,
            "classes": dict(self.classes),
            "warnings": list(self.warnings),
            "suspected_labels": self.suspected_labels,
            **({"labelled": dict(self.labelled)} if self.labelled else {}),
        }


def checked(
    data: Dataset, task: Task | None, rules: Mapping[str, TrainingRule], settings: RetrainSettings
) -> tuple[Dataset, DataReport]:
    """The rows to learn from, and what was found. Raises DataUnfit."""
    kept, left_out = np.ones(data.rows, dtype=bool), dict[str, int]()
    for reason, wrong in breaches(data.features, rules):
        fresh = wrong & kept
        if fresh.any():
            left_out[reason] = int(fresh.sum())
            kept &= ~fresh
    if (~kept).mean() > settings.max_left_out:
        reasons = ", ".join(f"{reason}: {rows:,}" for reason, rows in left_out.items())
        raise DataUnfit(
            f"{(~kept).sum():,} of {data.rows:,} rows have values that must not be learned from "
            f"({reasons}; {shown_rows(~kept)}), more than retrain.max_left_out allows "
            f"({settings.max_left_out:g})"
        )
    rows = data.where(kept) if left_out else data
    warnings, classes = list[str](), dict[str, int]()
    if rows.labels.dtype.names is None:  # several labels are checked one by one
        warnings, classes = check_labels(rows, task, settings)
    repeated = _repeated(rows)
    if repeated > REPEATED_SHARE * rows.rows:
        warnings.append(
            f"{repeated:,} of {rows.rows:,} rows repeat an earlier one with the same label: the "
            "hold-out contains rows that were trained on"
        )
    return rows, DataReport(data.rows, left_out, repeated, classes, tuple(warnings))


def check_labels(
    data: Dataset, task: Task | None, settings: RetrainSettings
) -> tuple[list[str], dict[str, int]]:
    """Warnings on columns that know the label, and rows by class. Raises DataUnfit."""
    return _check_leaks(data, settings), _check_labels(data, task)


def shown_rows(wrong: NDArray[np.bool_]) -> str:
    """`rows 3, 8, …`"""
    found = np.flatnonzero(wrong)
    more = ", …" if len(found) > SHOWN_ROWS else ""
    return "rows " + ", ".join(str(row) for row in found[:SHOWN_ROWS]) + more


def _check_leaks(data: Dataset, settings: RetrainSettings) -> list[str]:
    leak = leaking_column(data.features, data.labels)
    if leak is not None and settings.leaks == "fail":
        raise DataUnfit(
            f"{leak}: the model would only repeat it. Leave the column out, or allow it with "
            "retrain.leaks = warn"
        )
    return [*filter(None, [leak]), *future_columns(data.features, data.at)]


def _check_labels(data: Dataset, task: Task | None) -> dict[str, int]:
    if task == "regression":
        if data.rows and (data.labels == data.labels[0]).all():
            raise DataUnfit(f"all {data.rows:,} labels are {data.labels[0]!r}: nothing to learn")
        return {}
    counts = Counter(data.labels.tolist())
    if len(counts) > MAX_CLASSES or (len(counts) > 2 and len(counts) > data.rows / 2):
        raise DataUnfit(
            f"the labels have {len(counts):,} classes in {data.rows:,} rows, and at most "
            f"{MAX_CLASSES:,} and half the rows can be learned: is the task a regression?"
        )
    return {class_name(name): rows for name, rows in counts.most_common(SHOWN_CLASSES)}


def _repeated(data: Dataset) -> int:
    if any(pa.types.is_nested(each.type) for each in data.features.schema):
        return 0  # lists cannot be grouped by
    values = data.label_values
    if data.labels.dtype.names is not None:
        values = [json.dumps(value) for value in values]
    table = data.features.append_column("driftloop label", pa.array(values))
    table = table.rename_columns([str(n) for n in range(table.num_columns)])  # a name is a path
    return data.rows - int(table.group_by(table.column_names).aggregate([]).num_rows)
