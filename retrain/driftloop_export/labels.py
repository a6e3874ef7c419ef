"""The true labels of a sample's rows, in the type of the model's answers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from driftloop_contracts.errors import Rejected, listed
from driftloop_contracts.kind import Task
from driftloop_contracts.model import class_name
from driftloop_contracts.objective import Objective
from driftloop_evaluation.chosen_objective import chosen_objective
from driftloop_export.port import Outputs


def label_values(labels: Any, rows: int, answers: Outputs) -> list[Any]:
    """One for each row: str or int for classes, float for values. Raises Rejected."""
    found = np.asarray(labels).reshape(-1)
    if len(found) != rows:
        raise Rejected(f"there are {len(found):,} labels for {rows:,} rows of the sample")
    values = found.tolist()
    missing = [row for row, value in enumerate(values) if value is None or value != value]
    if missing:
        raise Rejected(
            f"row {missing[0]} of {len(missing):,} has no label: leave such rows out of the sample"
        )
    if "value" in answers:
        if found.dtype.kind not in "fiub":
            raise Rejected(f"the model predicts numbers, and the labels are {found.dtype}")
        return [float(value) for value in values]
    texts = answers["label"].dtype == object
    if texts != isinstance(values[0], str):
        kind = "texts" if texts else "whole numbers"
        raise Rejected(f"the model's classes are {kind}, and the first label is {values[0]!r}")
    return values if texts else [int(value) for value in values]


def labels_by_row(
    columns: Mapping[str, Any], rows: int, answers: Mapping[str, Outputs]
) -> list[dict[str, Any]]:
    """Of several labels: {label: value} for each row, None for none. columns: [rows], by
    label. answers: of the models, by label. Raises Rejected."""
    if unknown := [label for label in columns if label not in answers]:
        raise Rejected(
            f"there are labels {listed(unknown)}, and the model answers {listed(answers)}"
        )
    found: dict[str, list[Any]] = {}
    for label, values in columns.items():
        whole = np.asarray(values, dtype=object).reshape(-1)
        if len(whole) != rows:
            raise Rejected(f"label {label!r}: {len(whole):,} values for {rows:,} rows")
        known = np.array([value is not None and value == value for value in whole.tolist()])
        if not known.any():
            raise Rejected(f"label {label!r}: no row has one; leave it out of `labels`")
        part = np.array(whole[known].tolist())
        try:
            there = iter(label_values(part, len(part), answers[label]))
        except Rejected as error:
            raise Rejected(f"label {label!r}: {error}") from None
        found[label] = [next(there) if is_known else None for is_known in known.tolist()]
    return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]


def labelled_objective(
    label: str,
    task: Task,
    output: str,
    answers: Outputs,
    known: Sequence[Mapping[str, Any]] | None,
) -> tuple[Objective, str]:
    """What one of several outputs is judged by, and why. known: the labels of rows."""
    if task == "regression":
        return Objective(
            metric="squared", label=label, output=output
        ), "judged by its squared error"
    values = [row.get(label) for row in known or ()]
    names = [None if value is None else class_name(value) for value in values]
    chosen, why = chosen_objective(names)
    shape = answers["probabilities"].shape if "probabilities" in answers else ()
    classes = sorted({value for value in values if value is not None})
    return Objective(
        metric=chosen.metric if chosen else "error",
        label=label,
        output=output,
        classes=tuple(classes) if shape[1:] == (len(classes),) else (),
    ), why
