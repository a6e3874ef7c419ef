"""Several trained models as one graph: a weighted ensemble, or corrections on top of a model.

The members' graphs share the inputs; their other names get a prefix.
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
from driftloop_retrain.tabular.tuning.blending import TINY, Joining, combined

ENSEMBLE = "ensemble"
LAYERS = "driftloop.continued"
"""The key of `layers_of` in the graph's metadata."""
MEMBER = "driftloop_member"
"""What names of the merged graph begin with, but inputs and outputs."""


@dataclass(frozen=True)
class Ensemble:
    """See FittedModel."""

    members: tuple[FittedModel, ...]
    weights: tuple[float, ...]
    classes: Classes
    rounds: int = 1
    joining: Joining = "mean"

    def predict(self, features: pa.Table) -> dict[str, NDArray[np.generic]]:
        outputs = [member.predict(features) for member in self.members]
        return combined(outputs, self.weights, self.classes, self.joining)

    def export(self, folder: Path) -> None:
        import onnx

        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            graphs = []
            for number, member in enumerate(self.members):
                part = Path(scratch) / str(number)
                member.export(part)
                graphs.append(onnx.load(part / "model.onnx"))
            model = merged(graphs, self.weights, self.classes, self.joining)
            onnx.save(model, folder / "model.onnx")


def merged(
    models: Sequence[Any], weights: Sequence[float], classes: Classes, joining: Joining = "mean"
) -> Any:
    """One model of several with the same inputs and outputs; see `combined`. Raises Rejected if
    they differ in them, or are written for operators that do not go together."""
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
        _prefix(model.graph, f"{MEMBER}{number}_", inputs)
        nodes += model.graph.node
        constants += model.graph.initializer
    outputs = [each.name.removeprefix(f"{MEMBER}0_") for each in first.output]
    kinds = {
        n: each.type.tensor_type.elem_type for n, each in zip(outputs, first.output, strict=True)
    }
    for name in (each for each in outputs if kinds[each] == TensorProto.FLOAT):
        logs = joining == "product" and classes is not None
        parts = []
        for number, weight in enumerate(weights):
            factor, part = f"{MEMBER}weight{number}_{name}", f"{MEMBER}part{number}_{name}"
            value = f"{MEMBER}{number}_{name}"
            if logs:
                least = f"{MEMBER}least{number}_{name}"
                constants.append(numpy_helper.from_array(np.float32(TINY), least))
                nodes.append(helper.make_node("Max", [value, least], [f"{value}_least"]))
                nodes.append(helper.make_node("Log", [f"{value}_least"], [f"{value}_log"]))
                value = f"{value}_log"
            constants.append(numpy_helper.from_array(np.float32(weight), factor))
            nodes.append(helper.make_node("Mul", [value, factor], [part]))
            parts.append(part)
        total = f"{MEMBER}sum_{name}" if logs else name
        nodes.append(helper.make_node("Sum", parts, [total]))
        if logs:
            nodes.append(helper.make_node("Softmax", [total], [name], axis=1))
        sums[name] = parts
    for name in (each for each in outputs if each not in sums):
        (probabilities,) = sums
        kind = kinds[name]
        assert classes is not None
        values = [v.encode() for v in classes] if classes.dtype == object else classes
        constants.append(helper.make_tensor(f"{MEMBER}classes", kind, [len(classes)], values))
        nodes += [
            helper.make_node("ArgMax", [probabilities], [f"{MEMBER}best"], axis=1, keepdims=0),
            helper.make_node("Gather", [f"{MEMBER}classes", f"{MEMBER}best"], [name], axis=0),
        ]
    graph_outputs = []
    for name, each in zip(outputs, first.output, strict=True):
        copy = onnx.ValueInfoProto()
        copy.CopyFrom(each)
        copy.name = name
        graph_outputs.append(copy)
    graph = helper.make_graph(nodes, "driftloop", first.input, graph_outputs, constants)
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    layers = max(layers_of(model) for model in models) + (joining == "product")
    model = helper.make_model(
        graph, opset_imports=imports, ir_version=max(m.ir_version for m in models)
    )
    helper.set_model_props(model, {LAYERS: str(layers)})
    onnx.checker.check_model(model)
    return model


def layers_of(model: Any) -> int:
    """How often the model was continued in a row."""
    kept = {each.key: each.value for each in model.metadata_props}
    return int(kept.get(LAYERS, "0"))


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
        node.name = node.name and prefix + node.name
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = renamed(name)
        if any(attribute.HasField("g") for attribute in node.attribute):
            raise Rejected("a graph with branches or loops cannot be a member of an ensemble")
    for item in (*graph.initializer, *graph.output):
        item.name = renamed(item.name)
