"""Several labels of a row: a structured array [n] with a field for each, float64 for values (NaN:
there is none), objects for classes (None: there is none).

A row is kept if it has one of them. Each output learns from the rows that have its own label.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected
from driftloop_contracts.kind import Task
from driftloop_contracts.signature import Datatype
from driftloop_evaluation.labels import Labels
from driftloop_retrain.tabular.dataset import Dataset, Split, file_labels

Bools = NDArray[np.bool_]


def structured(
    columns: Mapping[str, NDArray[np.generic]], tasks: Mapping[str, Task]
) -> NDArray[np.generic]:
    """One array of columns [n] by label, with NaN or None for what is missing."""
    kinds = [(label, object if tasks[label] == "classification" else np.float64) for label in tasks]
    rows = len(next(iter(columns.values())))
    found = np.empty(rows, dtype=kinds)
    for label in tasks:
        found[label] = columns[label]
    return found


def has_label(data: Dataset, label: str) -> Bools:
    """Which of n rows have it."""
    values = data.label(label)
    if values.dtype.kind == "f":
        return np.asarray(np.isfinite(values))
    return np.array([value is not None for value in values], dtype=bool)


def part_of(data: Dataset, label: str) -> Dataset:
    """The rows that have a label, with it alone, as a data set of one output has it."""
    part = data.where(has_label(data, label))
    values = part.label(label)
    if values.dtype.kind != "f":
        texts = bool(len(values)) and isinstance(values[0], str)
        values = values.astype(object if texts else np.int64)
    return replace(part, labels=values)


def split_of(parts: Split, label: str) -> Split:
    """The parts of a split with one label. Raises Rejected if none of a part's rows has it."""
    found = {name: part_of(getattr(parts, name), label) for name in ("train", "validation")}
    found |= {name: part_of(getattr(parts, name), label) for name in ("holdout", "fit")}
    for name, part in found.items():
        if not part.rows:
            raise Rejected(
                f"label {label!r}: none of the {getattr(parts, name).rows:,} rows of the part "
                f"{name!r} has one; give more labelled rows, or leave the label out"
            )
    fresh = parts.fresh_from
    if fresh is not None:
        fresh = int(has_label(parts.fit, label)[:fresh].sum())
    return Split(fresh_from=fresh, **found)


def labels_in_file(table: pa.Table, tasks: Mapping[str, Task]) -> NDArray[np.generic]:
    """Of the columns of a file. Raises Rejected, naming the label, for one of another type or that
    no row has."""
    columns = {}
    for label, task in tasks.items():
        known = np.asarray(pc.is_valid(table[label]).to_numpy())
        if not known.any():
            raise Rejected(f"label {label!r}: no row has one")
        try:
            values = file_labels(table[label].filter(pa.array(known)), task)
        except Rejected as error:
            raise Rejected(f"label {label!r}: {error}") from None
        columns[label] = _spread(values, known)
    return structured(columns, tasks)


def labels_in_lake(
    table: pa.Table, tasks: Mapping[str, tuple[Task, Datatype]]
) -> tuple[NDArray[np.generic], Bools]:
    """Of rows of the lake, and which rows have one of them. tasks: and the datatype of the output
    with the class or value, by label."""
    columns, any_known = {}, np.zeros(table.num_rows, dtype=bool)
    for label, (task, datatype) in tasks.items():
        labels = Labels.of_rows(table, label)
        if task == "classification" and datatype == "BYTES":
            names = labels.names()
            known = np.asarray(names.is_valid().to_numpy(zero_copy_only=False), dtype=bool)
            values: NDArray[np.generic] = np.array(
                names.filter(pa.array(known)).to_pylist(), object
            )
        else:
            numbers = labels.numbers
            known = np.isfinite(numbers)
            if task == "classification":
                known &= numbers == np.floor(numbers)
                values = numbers[known].astype(np.int64)
            else:
                values = numbers[known]
        columns[label] = _spread(values, known)
        any_known |= known
    return structured(columns, {label: task for label, (task, _) in tasks.items()}), any_known


def _spread(values: NDArray[np.generic], known: Bools) -> NDArray[np.generic]:
    """The values of known rows among all."""
    if values.dtype.kind == "f":
        found: NDArray[np.generic] = np.full(len(known), np.nan)
    else:
        found = np.full(len(known), None, dtype=object)
        values = np.array(values.tolist(), dtype=object)
    found[known] = values
    return found
