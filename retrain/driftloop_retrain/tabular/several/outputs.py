"""The labelled outputs of a model, and what of each one's own graph the served graph has.

Each output is trained as a model of its own, whose graph has `label` and `probabilities`, or
`value`. The served graph has the outputs that the spec names (`approve`, `amount`), in the types
and shapes that clients know.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected, listed
from driftloop_contracts.graph_names import output_name, probabilities_of
from driftloop_contracts.kind import Task
from driftloop_contracts.model import ModelSpec, class_name
from driftloop_contracts.objective import Objective
from driftloop_contracts.signature import Datatype, Signature, TensorSpec
from driftloop_evaluation.class_answers import binary_classes
from driftloop_evaluation.served_objectives import served_objectives
from driftloop_export.joining import Taken
from driftloop_export.several import output_names
from driftloop_retrain.tabular.candidate import with_classes
from driftloop_retrain.tabular.evaluate import Outputs

Role = Literal["label", "probabilities", "positive", "value"]
"""`positive`: the probability of the positive class of two alone."""
Classes = NDArray[np.generic] | None
READS = ("class", "probability", "value")
KINDS: Mapping[str, type] = {
    "BOOL": np.bool_, "FP16": np.float16, "FP32": np.float32, "FP64": np.float64,
    "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64,
    "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64,
}  # fmt: skip


@dataclass(frozen=True)
class LabelledOutput:
    """spec: of a model with this output alone, by the names of its own graph. inputs: the names of
    the graph's inputs. tensors: what the served graph has of it, by what it is."""

    label: str
    spec: ModelSpec
    inputs: tuple[str, ...]
    tensors: tuple[tuple[Role, TensorSpec], ...]

    @property
    def task(self) -> Task:
        assert self.spec.task is not None
        return self.spec.task

    @property
    def datatype(self) -> Datatype:
        """Of its class or value."""
        return next((t.datatype for role, t in self.tensors if role in ("label", "value")), "INT64")

    def taken(self, classes: Classes) -> list[Taken]:
        """What the served graph takes of its own graph."""
        return [
            Taken(
                output_name("probabilities" if role == "positive" else role, self.inputs),
                tensor.name,
                self._positive(classes) if role == "positive" else None,
                tensor.datatype,
                tensor.row_shape,
            )
            for role, tensor in self.tensors
        ]

    def served(self, own: Outputs, classes: Classes) -> dict[str, NDArray[np.generic]]:
        """What the served graph answers, in numpy. own: what its own graph answers to n rows."""
        found = {}
        for taken in self.taken(classes):
            values = own[taken.source]
            if taken.column is not None:
                values = values[:, taken.column]
            if taken.datatype != "BYTES" and taken.datatype is not None:
                values = values.astype(KINDS[taken.datatype])
            row = taken.row_shape or ()
            found[taken.name] = values.reshape(-1) if row in ((), (1,)) else values
        return found

    def own(self, served: Outputs, classes: Classes) -> dict[str, NDArray[np.generic]]:
        """The other way: what its own graph would have answered."""
        found: dict[str, NDArray[np.generic]] = {}
        for role, tensor in self.tensors:
            values = served[tensor.name]
            if role == "positive":
                p, second = values.reshape(-1), self._positive(classes)
                pair = (p, 1 - p) if second == 0 else (1 - p, p)
                role, values = "probabilities", np.stack(pair, axis=1)
            found[output_name(role, self.inputs)] = values
        label = output_name("label", self.inputs)
        if self.task == "classification" and label not in found and classes is not None:
            found[label] = classes[probabilities_of(found).argmax(axis=1)]
        return found

    def _positive(self, classes: Classes) -> int:
        """The place of the positive class of two. Raises Rejected for more."""
        if classes is None or len(classes) != 2:
            raise Rejected(
                f"output {self.label!r} is one probability, and its labels have other than two "
                "classes"
            )
        named = [class_name(value) for value in classes.tolist()]
        said = self.spec.objective or Objective(metric="error")
        if "positive" not in said.kind.takes:
            said = Objective(metric="miss_rate", classes=said.classes)
        wanted = binary_classes(replace(self.spec, classes=tuple(named)), said)[1]
        return named.index(wanted) if wanted in named else 1


def tasks_of(spec: ModelSpec) -> dict[str, Task]:
    """Of each label. Raises Rejected for one that no metric of classes or values judges."""
    found: dict[str, Task] = {}
    for label in spec.labels:
        kind = _said(spec, label).kind.task
        assert kind is not None
        found[label] = kind
    return found


def new_outputs(spec: ModelSpec, inputs: Sequence[str]) -> tuple[LabelledOutput, ...]:
    """Of a first version, with the names that `export` gives, too."""
    tasks = tasks_of(spec)
    names = output_names(tasks, inputs)
    widths = {label: len(_said(spec, label).classes) for label in tasks}
    found = []
    for label, task in tasks.items():
        tensors: list[tuple[Role, TensorSpec]] = []
        if task == "classification":
            texts = any(isinstance(name, str) for name in _said(spec, label).classes)
            kind: Datatype = "BYTES" if texts else "INT64"
            tensors.append(("label", TensorSpec(names[label]["label"], kind, (-1,))))
            shape = (-1, widths[label])
            p = TensorSpec(names[label]["probabilities"], "FP32", shape)
            tensors.append(("probabilities", p))
        else:
            tensors.append(("value", TensorSpec(names[label]["value"], "FP32", (-1,))))
        found.append(_output(spec, label, task, tuple(inputs), tuple(tensors)))
    return tuple(found)


def outputs_of_champion(spec: ModelSpec, signature: Signature) -> tuple[LabelledOutput, ...]:
    """Of a model that is served. Raises Rejected for an output that belongs to no label: a retrain
    could not make it."""
    spec, tasks = served_objectives(spec, signature), tasks_of(spec)
    tensors = {t.name: t for t in signature.outputs}
    roles: dict[str, dict[str, Role]] = {label: {} for label in tasks}
    for said in spec.judged_by:
        if said.label is None or said.kind.reads not in READS:
            continue
        name = said.output or said.label
        if name in tensors:
            role = _role(tasks[said.label], tensors[name], said)
            roles[said.label].setdefault(name, role)
    named = {name for each in roles.values() for name in each}
    for name, tensor in tensors.items():
        if name in named:
            continue
        owners = [label for label in tasks if label in name]
        if len(owners) != 1 or tasks[owners[0]] != "classification":
            raise Rejected(
                f"the model's output {name!r} belongs to none of its labels ({listed(tasks)}): a "
                "retrain cannot make it. Name the output after its label, or in a metric"
            )
        roles[owners[0]][name] = _role("classification", tensor, Objective(metric="brier"))
    inputs = tuple(t.name for t in signature.inputs)
    return tuple(
        _output(
            spec, label, task, inputs, tuple((role, tensors[n]) for n, role in roles[label].items())
        )
        for label, task in tasks.items()
    )


def _role(task: Task, tensor: TensorSpec, said: Objective) -> Role:
    """What a metric compares."""
    if task == "regression":
        return "value"
    if not tensor.datatype.startswith("FP"):
        return "label"
    if not tensor.scalar:
        return "probabilities"
    # A class may be written as a float; with a threshold it is a probability.
    is_class = said.kind.reads == "class" and said.threshold is None
    return "label" if is_class else "positive"


def _said(spec: ModelSpec, label: str) -> Objective:
    """The first metric that compares a label with a class, a probability or a value; decisive ones
    come first."""
    for said in spec.judged_by:
        if said.label == label and said.kind.reads in READS:
            return said
    raise Rejected(
        f"label {label!r}: no metric says whether it is a class or a value; name one as a "
        "guardrail, such as error or squared"
    )


def _output(
    spec: ModelSpec,
    label: str,
    task: Task,
    inputs: tuple[str, ...],
    tensors: tuple[tuple[Role, TensorSpec], ...],
) -> LabelledOutput:
    answer = output_name("label" if task == "classification" else "value", inputs)
    said = _said(spec, label)
    alone: dict[str, Any] = {"label": None, "output": None}
    one = replace(
        spec,
        task=task,
        output=answer,
        objective=said.model_copy(update=alone),
        further=(),
        guardrails=(),
        classes=tuple(class_name(name) for name in said.classes),
    )
    return LabelledOutput(label, one, inputs, tensors)


def with_label_classes(
    outputs: Sequence[LabelledOutput], classes: Mapping[str, Classes]
) -> tuple[LabelledOutput, ...]:
    """Each with the classes of its probabilities. Raises Rejected if they are not those that the
    spec names."""
    found = []
    for output in outputs:
        try:
            spec = with_classes(output.spec, classes[output.label])
        except Rejected as error:
            raise Rejected(f"label {output.label!r}: {error}") from None
        found.append(replace(output, spec=spec))
    return tuple(found)


def judged_spec(spec: ModelSpec, outputs: Sequence[LabelledOutput]) -> ModelSpec:
    """The spec of all, whose metrics name the classes of their label."""
    known = {output.label: output.spec.classes for output in outputs}

    def named(said: Objective) -> Objective:
        classes = said.classes or known.get(said.label or "", ())
        return said.model_copy(update={"classes": classes})

    return replace(
        spec,
        objective=spec.objective and named(spec.objective),
        further=tuple(map(named, spec.further)),
        guardrails=tuple(map(named, spec.guardrails)),
    )
