"""Whether a model's outputs can serve what its spec judges it by: asked when it is deployed."""

from collections.abc import Iterable
from dataclasses import replace

from driftloop_contracts.errors import Rejected, listed
from driftloop_contracts.model import ModelSpec, class_name
from driftloop_contracts.objective import Objective
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_evaluation.class_answers import binary_classes, probability_tensor
from driftloop_evaluation.plugins import load_plugin


def served_objectives(spec: ModelSpec, signature: Signature) -> ModelSpec:
    """The spec with the outputs of its objective and guardrails found. Raises Rejected, naming the
    metric, if an output is missing or of another kind, or a class is unknown."""
    said = spec.objective
    return replace(
        spec,
        objective=said and _served(spec, said, signature),
        guardrails=tuple(_served(spec, guard, signature) for guard in spec.guardrails),
    )


def _served(spec: ModelSpec, objective: Objective, signature: Signature) -> Objective:
    what = f"metric {objective.metric!r}"
    reads, outputs = objective.kind.reads, {t.name: t for t in signature.outputs}
    if reads == "outputs":
        if not callable(load_plugin(objective.metric, "metric")):
            raise Rejected(f"{what} is not a function")
        return objective
    if reads == "rating":
        return objective
    if reads == "probability":
        name = probability_tensor(spec, objective, signature)
        _check_probabilities(spec, objective, _tensor(name, outputs, what))
        return objective.model_copy(update={"output": name})
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
        _known(spec, label, f"metric {objective.metric!r}: `costs`")
    if objective.threshold is not None and not tensor.datatype.startswith("FP"):
        raise Rejected(
            f"metric {objective.metric!r}: `threshold` is of a probability, and output "
            f"{tensor.name!r} is {tensor.datatype}"
        )


def _check_probabilities(spec: ModelSpec, objective: Objective, tensor: TensorSpec) -> None:
    what, width = f"metric {objective.metric!r}", _width(tensor)
    if not tensor.datatype.startswith("FP"):
        raise Rejected(f"{what} needs probabilities, and output {tensor.name!r} has no floats")
    if width not in (None, 1) and spec.classes and len(spec.classes) != width:
        raise Rejected(
            f"{what}: output {tensor.name!r} has {width} probabilities a row, and `classes` names "
            f"{len(spec.classes)}"
        )
    if objective.metric == "top_k_error" and width is not None and (objective.k or 1) >= width:
        raise Rejected(f"{what}: with {width} classes the best {objective.k} are all there are")
    if width == 1 or objective.metric == "ranking":
        _check_positive(spec, objective, texts=False)


def _check_positive(spec: ModelSpec, objective: Objective, texts: bool) -> None:
    what = f"metric {objective.metric!r}"
    if objective.positive is None and texts and len(spec.classes) != 2:
        raise Rejected(f"{what}: say which class is `positive`; the output names classes by text")
    positive = binary_classes(spec, objective)[1]
    _known(spec, positive, f"{what}: `positive`")
    if not texts and not spec.classes and isinstance(objective.positive, str):
        try:
            float(class_name(objective.positive))
        except ValueError:
            raise Rejected(
                f"{what}: no output names classes by text: list the model's `classes`, of which "
                f"{positive!r} is one"
            ) from None


def _known(spec: ModelSpec, name: str, where: str) -> None:
    if spec.classes and name not in spec.classes:
        raise Rejected(f"{where} names the class {name!r}; the classes are {_all(spec.classes)}")


def _all(names: Iterable[str]) -> str:
    return listed(sorted(names))
