"""Puts steps behind the outputs of a graph that any recipe has written."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from driftloop_contracts.errors import Rejected
from driftloop_contracts.graph_names import renamed
from driftloop_retrain.tabular.postprocessing.steps import RAW, Steps, output_names

GRAPH = "model.onnx"


def append_steps(folder: Path, steps: Steps) -> None:
    """Rewrite `model.onnx`: its former probabilities become a tensor inside, its former label goes.
    Files of weights beside it stay as they are. Raises Rejected if it has no such outputs."""
    import onnx

    model = onnx.load(str(folder / GRAPH), load_external_data=False)
    graph = model.graph
    ours = output_names([each.name for each in graph.input])
    outputs = {each.name: each for each in graph.output}
    if missing := sorted(set(ours.values()) - set(outputs)):
        raise Rejected(f"the graph has no output {missing[0]!r}; it has {sorted(outputs)}")
    taken = set(_tensors(graph)) | {each.name for each in graph.input}
    own = {name: _free(f"before_{name}", taken) for name in ours.values()}
    own_raw = own[ours["probabilities"]]
    _rename(graph, own)
    nodes, constants = steps.nodes(outputs[ours["label"]].type.tensor_type.elem_type)
    inside = {name: _free(name, taken) for node in nodes for name in (*node.input, *node.output)}
    renamed(nodes, constants, {**inside, RAW: own_raw, **ours})
    graph.node.extend(nodes)
    graph.initializer.extend(constants)
    onnx.checker.check_model(model, check_custom_domain=False)
    onnx.save(model, str(folder / GRAPH))


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
