"""The labelled rows of a model with several labels: read, checked, and with what each label has."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected, listed
from driftloop_contracts.kind import Task
from driftloop_contracts.model import class_name
from driftloop_contracts.training_rules import TrainingRule
from driftloop_retrain.tabular.csv_file import FOUND, CsvForm
from driftloop_retrain.tabular.data_checks import DataReport, DataUnfit, check_labels, checked
from driftloop_retrain.tabular.dataset import Dataset, file_rows
from driftloop_retrain.tabular.several.labels import has_label, labels_in_file, part_of
from driftloop_retrain.tabular.several.outputs import Classes
from driftloop_settings import RetrainSettings


def from_file_together(
    path: Path,
    tasks: Mapping[str, Task],
    time_column: str | None,
    drop: Sequence[str] = (),
    form: CsvForm = FOUND,
    say: Callable[[str], None] = lambda _: None,
) -> Dataset:
    """The rows of a file that have at least one of the labels, as `from_file`. Raises Rejected."""
    rows, columns = file_rows(path, tuple(tasks), time_column, drop, form, say)
    return replace(rows, labels=labels_in_file(columns, tasks))


def checked_together(
    data: Dataset,
    tasks: Mapping[str, Task],
    rules: Mapping[str, TrainingRule],
    settings: RetrainSettings,
) -> tuple[Dataset, DataReport]:
    """As `checked`: values by the rules for all rows, labels each by itself. Raises DataUnfit,
    naming the label."""
    rows, found = checked(data, None, rules, settings)
    warnings, classes = list(found.warnings), dict[str, int]()
    for label, task in tasks.items():
        part = part_of(rows, label)
        if not part.rows:
            raise DataUnfit(f"label {label!r}: none of the {rows.rows:,} rows has one")
        try:
            said, counts = check_labels(part, task, settings)
        except DataUnfit as error:
            raise DataUnfit(f"label {label!r}: {error}") from None
        warnings += [f"label {label!r}: {warning}" for warning in said]
        classes |= {f"{label} {name}": count for name, count in counts.items()}
    return rows, replace(
        found, classes=classes, warnings=tuple(warnings), labelled=labelled(rows, tasks)
    )


def labelled(data: Dataset, labels: Sequence[str] | Mapping[str, Any]) -> dict[str, int]:
    """The number of rows that have each label."""
    return {label: int(has_label(data, label).sum()) for label in labels}


def partly(data: Dataset, labels: Sequence[str] | Mapping[str, Any]) -> str:
    """A sentence on the labels that not all rows have; "" if all have all."""
    counts = labelled(data, labels)
    some = [f"{n:,} of {data.rows:,} rows have {label!r}" for label, n in counts.items()]
    if all(n == data.rows for n in counts.values()):
        return ""
    return f"{listed(some)}; each output learns from the rows that have its label"


def classes_together(data: Dataset, tasks: Mapping[str, Task]) -> dict[str, Classes]:
    """By label, its values, ascending; None for values. Raises Rejected for fewer than two."""
    found: dict[str, Classes] = {}
    for label, task in tasks.items():
        if task == "regression":
            found[label] = None
            continue
        values: NDArray[np.generic] = np.unique(part_of(data, label).labels)
        if len(values) < 2:
            raise Rejected(
                f"label {label!r}: all are {class_name(values.tolist()[0])}, there is nothing to "
                "learn; leave it out"
            )
        found[label] = values
    return found
