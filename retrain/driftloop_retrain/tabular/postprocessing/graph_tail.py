"""Puts steps behind the outputs of a graph that any recipe has written."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from driftloop_contracts.errors import Rejected
from driftloop_contracts.graph_names import PREDICTION_SET, output_name, renamed
from driftloop_retrain.tabular.postprocessing.interval import ENDS, Interval
from driftloop_retrain.tabular.postprocessing.prediction_set import PredictionSet
from driftloop_retrain.tabular.postprocessing.steps import RAW, Steps

GRAPH = "model.onnx"


def append_steps(folder: Path, steps: Steps | Interval | PredictionSet) -> None:
    """Rewrite `model.onnx`. Files of weights beside it stay as they are. Raises Rejected if it
    lacks the outputs that the steps are of."""
    import onnx

    model = onnx.load(str(folder / GRAPH), load_external_data=False)
    if isinstance(steps, Steps):
        _append_decision(model.graph, steps)
    else:
        _append_outputs(model.graph, steps)
    onnx.checker.check_model(model, check_custom_domain=False)
    onnx.save(model, str(folder / GRAPH))


def _append_decision(graph: Any, steps: Steps) -> None:
    """The former probabilities become a tensor inside, and the former label goes."""
    ours = _outputs(graph, ("label", "probabilities"))
    kind = next(o for o in graph.output if o.name == ours["label"]).type.tensor_type.elem_type
    taken = _taken(graph)
    own = {name: _free(f"before_{name}", taken) for name in ours.values()}
    _rename(graph, own)
    nodes, constants = steps.nodes(kind)
    _extend(graph, nodes, constants, {RAW: own[ours["probabilities"]], **ours}, taken)


def _append_outputs(graph: Any, steps: Interval | PredictionSet) -> None:
    """Further outputs."""
    from onnx import TensorProto, helper

    if isinstance(steps, Interval):
        source, kind, further = (
            "value",
            TensorProto.FLOAT,
            dict(zip(ENDS, steps.names, strict=True)),
        )
    else:
        source, kind, further = "probabilities", TensorProto.BOOL, {PREDICTION_SET: steps.name}
    ours = _outputs(graph, (source,))
    (given,) = (each for each in graph.output if each.name == ours[source])
    width = [each.dim_value or "classes" for each in given.type.tensor_type.shape.dim[1:]]
    shape = ["n"] if isinstance(steps, Interval) else ["n", *width]
    taken = _taken(graph)
    clash = {name: _free(f"before_{name}", taken) for name in further.values() if name in taken}
    _rename(graph, clash)
    nodes, constants = steps.nodes(source)
    _extend(graph, nodes, constants, {**ours, **further}, taken)
    graph.output.extend(
        helper.make_tensor_value_info(name, kind, shape) for name in further.values()
    )


def _outputs(graph: Any, wanted: tuple[str, ...]) -> dict[str, str]:
    inputs = [each.name for each in graph.input]
    ours = {name: output_name(name, inputs) for name in wanted}
    outputs = {each.name for each in graph.output}
    if missing := sorted(set(ours.values()) - outputs):
        raise Rejected(f"the graph has no output {missing[0]!r}; it has {sorted(outputs)}")
    return ours


def _taken(graph: Any) -> set[str]:
    return set(_tensors(graph)) | {each.name for each in graph.input}


def _extend(
    graph: Any, nodes: list[Any], constants: list[Any], own: dict[str, str], taken: set[str]
) -> None:
    used = {name for node in nodes for name in (*node.input, *node.output)}
    renamed(nodes, constants, {**{name: _free(name, taken) for name in sorted(used)}, **own})
    graph.node.extend(nodes)
    graph.initializer.extend(constants)


def _tensors(graph: Any) -> Iterable[str]:
    for node in graph.node:
        yield from node.output
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _tensors(attribute.g)
    yield from (each.name for each in graph.initializer)


def _rename(graph: Any, names: Mapping[str, str]) -> None:
    """In nodes and in the graphs inside them, but not the graph's own outputs."""
    for node in graph.node:
        for side in (node.input, node.output):
            side[:] = [names.get(name, name) for name in side]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, names)


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name
