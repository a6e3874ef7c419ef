"""Whether a model's outputs can serve what its spec judges it by: asked when it is deployed."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from driftloop_contracts.errors import Rejected, listed
from driftloop_contracts.model import ModelSpec, class_name
from driftloop_contracts.objective import Objective
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_evaluation.class_answers import (
    binary_classes,
    classes_of,
    probability_tensor,
    set_output,
)
from driftloop_evaluation.plugins import load_plugin


def served_objectives(spec: ModelSpec, signature: Signature) -> ModelSpec:
    """The spec with the outputs of its objectives and guardrails found. Raises Rejected, naming the
    metric, if an output is missing or of another kind, or a class is unknown; and if the scorer or
    judge of a language model cannot be imported."""
    for name in spec.kind.functions:
        named = spec.options.get(name)
        if named is not None and not callable(load_plugin(str(named), f"options.{name}")):
            raise Rejected(f"options.{name} {named!r} is not a function")
    said = spec.objective
    return replace(
        spec,
        objective=said and _served(spec, said, signature),
        further=tuple(_served(spec, one, signature) for one in spec.further),
        guardrails=tuple(_served(spec, guard, signature) for guard in spec.guardrails),
    )


def _served(spec: ModelSpec, objective: Objective, signature: Signature) -> Objective:
    what = f"metric {objective.metric!r}"
    reads, outputs = objective.kind.reads, {t.name: t for t in signature.outputs}
    if reads == "outputs":
        if not callable(load_plugin(objective.metric, "metric")):
            raise Rejected(f"{what} is not a function")
        return objective
    if reads == "answer" and spec.options.get("scorer") is None:
        raise Rejected(f"{what}: name the function as options.scorer, `module:function`")
    if reads in ("rating", "answer"):
        return objective
    if reads == "probability":
        name = probability_tensor(spec, objective, signature)
        _check_probabilities(spec, objective, _tensor(name, outputs, what))
        return objective.model_copy(update={"output": name})
    if reads == "set":
        name = set_output(objective)
        _check_set(spec, objective, _tensor(name, outputs, what))
        return objective.model_copy(update={"output": name})
    if objective.label is not None and reads != "interval":
        objective = objective.model_copy(update={"output": _labelled(spec, objective, outputs)})
    names = [objective.output or spec.output]
    if reads == "interval":
        names = [objective.lower, objective.upper]
    for wanted in names:
        tensor = _tensor(wanted, outputs, what)
        if reads != "class" and tensor.datatype in ("BYTES", "BOOL"):
            raise Rejected(f"{what} needs numbers, and output {wanted!r} is {tensor.datatype}")
        if reads == "class":
            _check_classes(spec, objective, tensor)
    return objective


def _labelled(
    spec: ModelSpec, objective: Objective, outputs: Mapping[str, TensorSpec]
) -> str | None:
    """The output that a label belongs to: as said, of the same name, or the model's `output` if no
    other label belongs to it."""
    label = objective.label
    if objective.output or label in outputs:
        return objective.output or label
    others = {o.label for o in spec.judged_by if o.output in (None, spec.output)} - {*outputs}
    if others - {label} or spec.output in spec.labels:
        raise Rejected(
            f"metric {objective.metric!r}: say which `output` the label {label!r} compares with; "
            f"the graph has {_all(outputs)}"
        )
    return spec.output


def _tensor(name: str | None, outputs: dict[str, TensorSpec], what: str) -> TensorSpec:
    if name not in outputs:
        raise Rejected(f"{what}: the output {name!r} is not in the graph; it has {_all(outputs)}")
    return outputs[name]


def _width(tensor: TensorSpec) -> int | None:
    """Values a row; None: not said."""
    row = tensor.row_shape
    if row is None or len(row) > 1 or -1 in row:
        return None
    return row[0] if row else 1


def _check_classes(spec: ModelSpec, objective: Objective, tensor: TensorSpec) -> None:
    if "positive" in objective.kind.takes and objective.costs is None:
        _check_positive(spec, objective, tensor.datatype == "BYTES")
    for label in objective.costs or ():
        _known(spec, objective, label, "costs")
    if objective.threshold is not None and not tensor.datatype.startswith("FP"):
        raise Rejected(
            f"metric {objective.metric!r}: `threshold` is of a probability, and output "
            f"{tensor.name!r} is {tensor.datatype}"
        )


def _check_probabilities(spec: ModelSpec, objective: Objective, tensor: TensorSpec) -> None:
    what, width = f"metric {objective.metric!r}", _width(tensor)
    if not tensor.datatype.startswith("FP"):
        raise Rejected(f"{what} needs probabilities, and output {tensor.name!r} has no floats")
    classes = classes_of(spec, objective)
    if width not in (None, 1) and classes and len(classes) != width:
        raise Rejected(
            f"{what}: output {tensor.name!r} has {width} probabilities a row, and `classes` names "
            f"{len(classes)}"
        )
    if objective.metric == "top_k_error" and width is not None and (objective.k or 1) >= width:
        raise Rejected(f"{what}: with {width} classes the best {objective.k} are all there are")
    if width == 1 or objective.metric == "ranking":
        _check_positive(spec, objective, texts=False)


def _check_set(spec: ModelSpec, objective: Objective, tensor: TensorSpec) -> None:
    classes, width = classes_of(spec, objective), _width(tensor)
    if tensor.datatype != "BOOL":
        raise Rejected(
            f"metric {objective.metric!r} needs a boolean for each class, and output "
            f"{tensor.name!r} is {tensor.datatype}"
        )
    if width is not None and classes and len(classes) != width:
        raise Rejected(
            f"metric {objective.metric!r}: output {tensor.name!r} has {width} classes, and "
            f"`classes` names {len(classes)}"
        )


def _check_positive(spec: ModelSpec, objective: Objective, texts: bool) -> None:
    what, classes = f"metric {objective.metric!r}", classes_of(spec, objective)
    if objective.positive is None and texts and len(classes) != 2:
        raise Rejected(f"{what}: say which class is `positive`; the output names classes by text")
    positive = binary_classes(spec, objective)[1]
    _known(spec, objective, positive, "positive")
    if not texts and not classes and isinstance(objective.positive, str):
        try:
            float(class_name(objective.positive))
        except ValueError:
            raise Rejected(
                f"{what}: no output names classes by text: list the model's `classes`, of which "
                f"{positive!r} is one"
            ) from None


def _known(spec: ModelSpec, objective: Objective, name: str, key: str) -> None:
    classes = classes_of(spec, objective)
    if classes and name not in classes:
        raise Rejected(
            f"metric {objective.metric!r}: `{key}` names the class {name!r}; the classes are "
            f"{_all(classes)}"
        )


def _all(names: Iterable[str]) -> str:
    return listed(sorted(names))
