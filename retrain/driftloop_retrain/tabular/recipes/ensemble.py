"""A weighted ensemble of trained models, exported as one graph.

The members' graphs share the inputs; their other names get a prefix. The mean of their
probabilities or values is the answer.
"""

import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected
from driftloop_retrain.tabular.recipes.graph import Classes
from driftloop_retrain.tabular.recipes.port import FittedModel
from driftloop_retrain.tabular.tuning.blending import combined

ENSEMBLE = "ensemble"


@dataclass(frozen=True)
class Ensemble:
    """See FittedModel."""

    members: tuple[FittedModel, ...]
    weights: tuple[float, ...]
    classes: Classes
    rounds: int = 1

    def predict(self, features: pa.Table) -> dict[str, NDArray[np.generic]]:
        outputs = [member.predict(features) for member in self.members]
        return combined(outputs, self.weights, self.classes)

    def export(self, folder: Path) -> None:
        import onnx

        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            graphs = []
            for number, member in enumerate(self.members):
                part = Path(scratch) / str(number)
                member.export(part)
                graphs.append(onnx.load(part / "model.onnx"))
            onnx.save(merged(graphs, self.weights, self.classes), folder / "model.onnx")


def merged(models: Sequence[Any], weights: Sequence[float], classes: Classes) -> Any:
    """One model of several with the same inputs and outputs. Raises Rejected if they differ in
    them, or are written for operators that do not go together."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    opsets = _opsets(models)
    if any(model.functions for model in models):
        raise Rejected("a graph with functions of its own cannot be a member of an ensemble")
    models = [_converted(model, opsets[""]) for model in models]
    first = models[0].graph
    inputs = {each.name for each in first.input}
    for model in models[1:]:
        if {each.name for each in model.graph.input} != inputs:
            raise Rejected("the members of an ensemble have other inputs")
    nodes, constants, sums = [], [], {}
    for number, model in enumerate(models):
        _prefix(model.graph, f"member{number}_", inputs)
        nodes += model.graph.node
        constants += model.graph.initializer
    outputs = [each.name.removeprefix("member0_") for each in first.output]
    kinds = {
        n: each.type.tensor_type.elem_type for n, each in zip(outputs, first.output, strict=True)
    }
    for name in (each for each in outputs if kinds[each] == TensorProto.FLOAT):
        parts = []
        for number, weight in enumerate(weights):
            factor, part = f"weight{number}_{name}", f"part{number}_{name}"
            constants.append(numpy_helper.from_array(np.float32(weight), factor))
            nodes.append(helper.make_node("Mul", [f"member{number}_{name}", factor], [part]))
            parts.append(part)
        nodes.append(helper.make_node("Sum", parts, [name]))
        sums[name] = parts
    for name in (each for each in outputs if each not in sums):
        (probabilities,) = sums
        kind = kinds[name]
        assert classes is not None
        values = [v.encode() for v in classes] if classes.dtype == object else classes
        constants.append(helper.make_tensor("ensemble_classes", kind, [len(classes)], values))
        nodes += [
            helper.make_node("ArgMax", [probabilities], ["ensemble_best"], axis=1, keepdims=0),
            helper.make_node("Gather", ["ensemble_classes", "ensemble_best"], [name], axis=0),
        ]
    graph_outputs = []
    for name, each in zip(outputs, first.output, strict=True):
        copy = onnx.ValueInfoProto()
        copy.CopyFrom(each)
        copy.name = name
        graph_outputs.append(copy)
    graph = helper.make_graph(nodes, "driftloop", first.input, graph_outputs, constants)
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    model = helper.make_model(
        graph, opset_imports=imports, ir_version=max(m.ir_version for m in models)
    )
    onnx.checker.check_model(model)
    return model


def _opsets(models: Sequence[Any]) -> dict[str, int]:
    found: dict[str, int] = {"": 0}
    for model in models:
        for opset in model.opset_import:
            domain = "" if opset.domain == "ai.onnx" else opset.domain
            found[domain] = max(found.get(domain, 0), opset.version)
    return found


def _converted(model: Any, version: int) -> Any:
    from onnx import version_converter

    mine = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    if mine == version:
        return model
    try:
        return version_converter.convert_version(model, version)
    except Exception as error:  # the converter's errors have no common base
        raise Rejected(f"the graphs of an ensemble do not go together: {error}") from None


def _prefix(graph: Any, prefix: str, kept: Collection[str]) -> None:
    def renamed(name: str) -> str:
        return name if not name or name in kept else prefix + name

    for node in graph.node:
        node.name = prefix + node.name
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = renamed(name)
        if any(attribute.HasField("g") for attribute in node.attribute):
            raise Rejected("a graph with branches or loops cannot be a member of an ensemble")
    for item in (*graph.initializer, *graph.output):
        item.name = renamed(item.name)
