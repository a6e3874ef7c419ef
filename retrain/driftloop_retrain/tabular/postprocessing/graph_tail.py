"""Puts steps behind the outputs of a graph that any recipe has written."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from driftloop_contracts.errors import Rejected
from driftloop_contracts.graph_names import output_name, renamed
from driftloop_retrain.tabular.postprocessing.interval import ENDS, Interval
from driftloop_retrain.tabular.postprocessing.steps import RAW, Steps

GRAPH = "model.onnx"


def append_steps(folder: Path, steps: Steps | Interval) -> None:
    """Rewrite `model.onnx`. Files of weights beside it stay as they are. Raises Rejected if it
    lacks the outputs that the steps are of."""
    import onnx

    model = onnx.load(str(folder / GRAPH), load_external_data=False)
    if isinstance(steps, Interval):
        _append_interval(model.graph, steps)
    else:
        _append_decision(model.graph, steps)
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


def _append_interval(graph: Any, steps: Interval) -> None:
    """Two more outputs."""
    from onnx import TensorProto, helper

    ours = _outputs(graph, ("value",))
    taken = _taken(graph)
    ends = dict(zip(ENDS, steps.names, strict=True))
    clash = {name: _free(f"before_{name}", taken) for name in ends.values() if name in taken}
    _rename(graph, clash)
    nodes, constants = steps.nodes("value")
    _extend(graph, nodes, constants, {**ours, **ends}, taken)
    graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ends.values()
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
