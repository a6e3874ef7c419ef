"""A model with several labelled outputs: one trained model for each, and one graph of all.

A model that answers several labels at once is taken apart: an estimator of scikit-learn into one
for each output, a torch module into one view of each. What they share is in the graph once
(`joining`).
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from driftloop_contracts.errors import Rejected, listed
from driftloop_contracts.graph_names import output_name
from driftloop_contracts.kind import Task
from driftloop_export.comparison import Agreement, compare
from driftloop_export.joining import Taken, joined
from driftloop_export.native import MODEL, Native, outputs_of
from driftloop_export.port import Outputs
from driftloop_export.sample import Sample, sample_of
from driftloop_export.taking_apart import parts_of

Said = Mapping[str, Any] | None
"""Something said of each label, or of none."""


class SeveralNative:
    """A trained model for each label. models: by label. tasks, classes: as those of Native, by
    label."""

    def __init__(self, models: Mapping[str, Any], tasks: Said = None, classes: Said = None) -> None:
        if not models:
            raise Rejected("there is no model in the dict: give one for each label")
        self.natives: dict[str, Native] = {}
        for label, model in models.items():
            with of_label(label):
                self.natives[label] = Native(
                    model, (tasks or {}).get(label), (classes or {}).get(label)
                )

    def sample(self, rows: Any) -> Sample:
        """The rows with the columns of all models. Raises Rejected if they do not fit."""
        columns = [native.columns for native in self.natives.values()]
        named = [names for names in columns if names is not None]
        known = dict.fromkeys(name for names in named for name in names)
        return sample_of(rows, list(known) if len(named) == len(columns) else None)

    def answers(self, sample: Sample) -> dict[str, Outputs]:
        """What each model answers, by label."""
        found = {}
        for label, native in self.natives.items():
            with of_label(label):
                found[label] = native.answers(native.part(sample))
        return found

    def write(
        self, sample: Sample, answers: Mapping[str, Outputs], folder: Path
    ) -> tuple[Agreement, dict[str, Any]]:
        """Write one graph that answers each row of the sample as the models do; return how well,
        and its outputs by name. Raises NotExportable."""
        folder.mkdir(parents=True, exist_ok=True)
        names = output_names(self.tasks_of(answers), sample.columns)
        parts = []
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            for number, (label, native) in enumerate(self.natives.items()):
                rows, part = native.part(sample), Path(scratch) / str(number)
                with of_label(label):
                    native.write(rows, answers[label], part)
                graph = onnx.load(part / MODEL)
                parts.append((graph, _taken(answers[label], names[label], rows.columns)))
            path = Path(scratch) / MODEL
            onnx.save(joined(parts), path)
            graph_outputs = outputs_of(path, sample)
            largest = 0.0
            for label, ours in answers.items():
                with of_label(label):
                    theirs = {own: graph_outputs[name] for own, name in names[label].items()}
                    found = compare(sample, {own: ours[own] for own in names[label]}, theirs)
                largest = max(largest, found.largest_difference)
            path.replace(folder / MODEL)
        return Agreement(sample.rows, largest), graph_outputs

    @staticmethod
    def tasks_of(answers: Mapping[str, Outputs]) -> dict[str, Task]:
        return {
            label: "classification" if "label" in found else "regression"
            for label, found in answers.items()
        }


def native_of_several(
    model: Any, labels: Sequence[str], sample: Any, tasks: Said = None, classes: Said = None
) -> SeveralNative:
    """Of a dict of models by label, or of one model that answers these labels in this order. Raises
    Rejected if it cannot be taken apart."""
    if isinstance(model, Mapping):
        models = {str(label): each for label, each in model.items()}
        if labels and set(labels) != set(models):
            raise Rejected(
                f"there are models of {listed(models)}, and labels {listed(labels)}: give a model "
                "for each label"
            )
        return SeveralNative(models, tasks, classes)
    return SeveralNative(parts_of(model, labels, sample_of(sample, None)), tasks, classes)


def output_names(tasks: Mapping[str, Task], columns: Sequence[str]) -> dict[str, dict[str, str]]:
    """By label, what its own outputs `label` and `probabilities`, or `value`, are called in the
    graph: `approve` and `approve_probabilities`, `amount`."""
    taken, found = set(columns), dict[str, dict[str, str]]()
    for label, task in tasks.items():
        name = output_name(label, taken)
        taken.add(name)
        found[label] = {"label" if task == "classification" else "value": name}
    for label, task in tasks.items():
        if task == "classification":
            name = output_name(f"{label}_probabilities", taken)
            taken.add(name)
            found[label]["probabilities"] = name
    return found


def _taken(answers: Outputs, names: dict[str, str], columns: Sequence[str]) -> list[Taken]:
    """Drops the name of an output that the model does not have."""
    for own in set(names) - set(answers):
        del names[own]
    return [Taken(output_name(own, columns), name) for own, name in names.items()]


@contextmanager
def of_label(label: str) -> Iterator[None]:
    """Errors inside name the label."""
    try:
        yield
    except Rejected as error:
        raise type(error)(f"output {label!r}: {error}") from None


def label_columns(labels: Any) -> dict[str, Any] | None:
    """The columns of labels that are several a row: a dict of arrays, a frame or table, or a list
    of dicts; None of other labels. Raises Rejected."""
    if isinstance(labels, Mapping):
        return {str(name): values for name, values in labels.items()}
    if hasattr(labels, "column_names"):
        return {name: labels[name].to_pylist() for name in labels.column_names}
    if hasattr(labels, "columns"):
        return {str(name): labels[name] for name in labels.columns}
    if isinstance(labels, np.ndarray) and labels.dtype.names:
        return {name: labels[name] for name in labels.dtype.names}
    if hasattr(labels, "tolist"):
        labels = labels.tolist()
    if not isinstance(labels, Sequence) or not any(isinstance(row, Mapping) for row in labels):
        return None
    wrong = next((row for row, value in enumerate(labels) if not isinstance(value, Mapping)), None)
    if wrong is not None:
        raise Rejected(
            f"the label of row {wrong} is {labels[wrong]!r}; others are dicts, such as "
            "{'approve': 1, 'amount': 310}"
        )
    names = dict.fromkeys(str(name) for row in labels for name in row)
    return {name: [row.get(name) for row in labels] for name in names}
