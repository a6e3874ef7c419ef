"""The metrics that people ask for, of labelled rows of the lake, for each output with labels.

They are shown beside what decides (`shown_metrics`), and decide nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected
from driftloop_contracts.events import OUTPUT_PREFIX
from driftloop_contracts.model import ModelSpec
from driftloop_contracts.objective import Objective
from driftloop_evaluation.class_answers import (
    binary_classes,
    classes_of,
    column_of,
    named,
    probabilities,
    probability_output,
)
from driftloop_evaluation.labels import Floats, Labels, floats
from driftloop_evaluation.losses import is_number, one_value
from driftloop_evaluation.metric_values import confusion
from driftloop_evaluation.shown_metrics import Estimate, class_metrics, value_metrics

READS = ("class", "value")
MOST_CLASSES = 20
"""With more of them there is no confusion matrix."""
SUM_OFF = 1e-3
"""Outputs whose sum is further from 1 are scores, not probabilities."""


@dataclass(frozen=True, slots=True)
class OutputMetrics:
    """Of one output. label: the key, if labels are mappings. rows: those that have a label.
    confusion: counts by label (rows) and answer (columns), in the order of `classes`; empty for
    values, for one class and for more than MOST_CLASSES."""

    output: str
    label: str | None
    rows: int
    metrics: Mapping[str, Estimate]
    classes: tuple[str, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        metrics = {name: _numbers(e) for name, e in self.metrics.items() if not np.isnan(e.value)}
        return {
            "output": self.output,
            "label": self.label,
            "rows": self.rows,
            "metrics": metrics,
            "classes": list(self.classes),
            "confusion": [list(row) for row in self.confusion],
        }


def labelled_metrics(spec: ModelSpec, rows: pa.Table) -> list[OutputMetrics]:
    """rows: oldest first, with `out_<output>`, `label` and `label_number`. Outputs that labels
    cannot be compared with, and language models, have none."""
    found = []
    for objective in _of_outputs(spec, rows):
        try:
            found.append(_measured(spec, objective, rows))
        except Rejected:  # windows and verdicts say so
            continue
    return found


def confidence(spec: ModelSpec, rows: pa.Table) -> Floats | None:
    """Of each of n rows, how sure the model is of the class that decides: the probability of the
    positive class of two, or of the likeliest of more; None without probabilities."""
    label = spec.objective.label if spec.objective else None
    for asked in _of_outputs(spec, rows):
        if asked.metric == "error" and label in (None, asked.label):
            p, classes = _p(spec, asked, rows, Labels.of_rows(rows, asked.label))
            if p is None:
                return None
            found: Floats = p[:, 1] if len(classes) == 2 else p.max(axis=1)
            return found
    return None


def metric_columns(spec: ModelSpec, rows: pa.Table) -> list[str]:
    """The columns of rows that `labelled_metrics` reads."""
    names = {"label", "label_number"}
    for objective in _of_outputs(spec, rows):
        names.add(f"{OUTPUT_PREFIX}{objective.output or spec.output}")
        if objective.kind.task == "classification":
            names.add(f"{OUTPUT_PREFIX}{_probabilities(spec, objective, rows)}")
    return [name for name in rows.column_names if name in names]


def _of_outputs(spec: ModelSpec, rows: pa.Table) -> list[Objective]:
    """For each output with labels a metric that compares its class or value."""
    if spec.task not in ("classification", "regression"):
        return []
    found = []
    for label in spec.labels or (None,):
        own = [o for o in spec.judged_by if o.label == label]
        task = next((o.kind.task for o in own if label and o.kind.task), spec.task)
        said = next((o for o in own if o.kind.task == task and o.kind.reads in READS), None)
        output = said.output if said else None
        if output is None and f"{OUTPUT_PREFIX}{label}" in rows.column_names:
            output = label
        found.append(
            Objective(
                metric="error" if task == "classification" else "squared",
                label=label,
                output=output,
                classes=said.classes if said else (),
                threshold=said.threshold if said else None,
            )
        )
    return found


def _measured(spec: ModelSpec, objective: Objective, rows: pa.Table) -> OutputMetrics:
    labels = Labels.of_rows(rows, objective.label)
    output = objective.output or str(spec.output)
    if objective.metric == "squared":
        return _values(objective, output, rows, labels)
    classes = named(spec, objective, rows, labels)
    judged = classes.judged
    truth = classes.label.filter(pa.array(judged)).to_pylist()
    said = classes.answer.filter(pa.array(judged)).to_pylist()
    p, known = _p(spec, objective, rows, labels)
    order = list(known or _order(spec, objective))
    order += sorted({*truth, *said} - {*order})
    place = {name: number for number, name in enumerate(order)}
    y, answers = (np.array([place[name] for name in part], np.int64) for part in (truth, said))
    usable = p[judged] if p is not None and len(order) == len(known) else None
    found = class_metrics(y, answers, usable, len(order)) if len(y) else {}
    counts: NDArray[np.int64] = np.empty((0, 0), np.int64)
    if len(y) and 1 < len(order) <= MOST_CLASSES:
        counts = confusion(y, answers, len(order))
    return OutputMetrics(
        output,
        objective.label,
        len(y),
        found,
        tuple(order) if counts.size else (),
        tuple(tuple(row) for row in counts.tolist()),
    )


def _values(objective: Objective, output: str, rows: pa.Table, labels: Labels) -> OutputMetrics:
    column = one_value(column_of(rows, output))
    if not is_number(column.type):
        raise Rejected(f"output {output!r} is not of numbers")
    answers = floats(column)
    known = np.isfinite(answers) & np.isfinite(labels.numbers)
    n = int(known.sum())
    found = value_metrics(labels.numbers[known], answers[known]) if n else {}
    return OutputMetrics(output, objective.label, n, found)


def _order(spec: ModelSpec, objective: Objective) -> tuple[str, ...]:
    """Of two classes the second is the positive one."""
    own = (o for o in spec.judged_by if o.label == objective.label)
    positive = next((o.positive for o in own if o.positive is not None), None)
    if positive is None:
        return classes_of(spec, objective)
    said = Objective(metric="miss_rate", positive=positive, classes=objective.classes)
    pair = binary_classes(spec, said)
    return pair if len(classes_of(spec, objective)) <= 2 and pair[0] else ()


def _p(
    spec: ModelSpec, objective: Objective, rows: pa.Table, labels: Labels
) -> tuple[Floats | None, tuple[str, ...]]:
    """Probabilities [n, k] and their classes, if the model has them."""
    name = _probabilities(spec, objective, rows)
    if name is None:
        return None, ()
    try:
        found = probabilities(spec, objective, column_of(rows, name), labels)
    except Rejected:
        return None, ()
    p = np.where(np.isfinite(found.p), found.p, 1.0 / len(found.classes))
    scores = (p < -SUM_OFF).any() or (np.abs(p.sum(axis=1) - 1.0) > SUM_OFF).any()
    return (None, ()) if scores else (p, found.classes)


def _probabilities(spec: ModelSpec, objective: Objective, rows: pa.Table) -> str | None:
    own = (o for o in spec.judged_by if o.label == objective.label)
    said = next((o.output for o in own if o.kind.reads == "probability" and o.output), None)
    if said is not None:
        return said
    asked = Objective(metric="brier", label=objective.label)
    try:
        found = probability_output(spec, asked, rows)
    except Rejected:
        return None
    return found if objective.label is None or objective.label in found else None


def _numbers(e: Estimate) -> list[float | None]:
    return [None if np.isnan(number) else float(number) for number in (e.value, e.low, e.high)]
