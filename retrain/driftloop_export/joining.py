"""Graphs over the same columns become one, whose outputs have the names that are asked for.

Nodes and constants that several of them have, such as the steps before the models or the first
layers of a network with several outputs, are in the joined graph once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, version_converter

from driftloop_contracts.errors import Rejected
from driftloop_contracts.signature import Datatype
from driftloop_export.graph import IR_VERSION, constant, element_of, free_prefix

RANDOM = ("Random", "Multinomial", "Bernoulli")
"""Beginnings of operators of which two that look alike give other numbers."""
TOKENIZER = "driftloop.tokenizer"


@dataclass(frozen=True, slots=True)
class Taken:
    """An output of the joined graph. source: the output of a part. column: the one that is taken of
    a source [n, k]. datatype, row_shape: what it is made; None: it stays as it is."""

    source: str
    name: str
    column: int | None = None
    datatype: Datatype | None = None
    row_shape: tuple[int, ...] | None = None


def joined(parts: Sequence[tuple[Any, Sequence[Taken]]]) -> Any:
    """One ONNX model of several, each with what is taken of it. Raises Rejected if they do not go
    together."""
    opset = max(_opset(model) for model, _ in parts)
    names = {each.name for model, _ in parts for each in model.graph.input}
    prefix = free_prefix(names | {each.name for _, taken in parts for each in taken})
    inputs: dict[str, Any] = {}
    domains: dict[str, int] = {}
    whole, outputs, functions = _Merged(), [], []
    for number, (model, wanted) in enumerate(parts):
        if any(each.key == TOKENIZER for each in model.metadata_props):
            raise Rejected("a model with a tokenizer beside its graph cannot be one of several")
        for each in model.graph.input:
            known = inputs.setdefault(each.name, each).type.tensor_type
            if known.elem_type != each.type.tensor_type.elem_type:
                raise Rejected(f"the models take the column {each.name!r} as different types")
        own = f"{prefix}{number}_"
        part = compose.add_prefix(_converted(model, opset), own, rename_inputs=False)
        for item in part.opset_import:
            domain = "" if item.domain == "ai.onnx" else item.domain
            domains[domain] = max(domains.get(domain, 0), item.version)
        functions += part.functions
        whole.add(part.graph)
        infos = {each.name: each for each in model.graph.output}
        outputs += [_output(whole, own, infos, place, t) for place, t in enumerate(wanted)]
    graph = helper.make_graph(
        whole.nodes, "driftloop", list(inputs.values()), outputs, whole.constants
    )
    found = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid(*item) for item in domains.items()],
        functions=functions,
        ir_version=min(IR_VERSION, max(model.ir_version for model, _ in parts)),
    )
    onnx.checker.check_model(found)
    return found


class _Merged:
    """Nodes and constants of all parts, equal ones once."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._known: dict[Any, list[str]] = {}
        self._names: dict[str, str] = {}

    def name_of(self, name: str) -> str:
        """What a tensor of a part is called in the whole."""
        return self._names.get(name, name)

    def add(self, graph: Any) -> None:
        for item in graph.initializer:
            if not self._is_known(_value(item), [item.name]):
                self.constants.append(item)
        for node in graph.node:
            _rename(node, self._names)
            if not self._is_known(_computation(node), list(node.output)):
                self.nodes.append(node)

    def _is_known(self, key: Any, outputs: list[str]) -> bool:
        if key is None:
            return False
        if key not in self._known:
            self._known[key] = outputs
            return False
        self._names |= dict(zip(outputs, self._known[key], strict=True))
        return True


def _value(item: Any) -> Any:
    copy = onnx.TensorProto()
    copy.CopyFrom(item)
    copy.name = ""
    return "constant", copy.SerializeToString(deterministic=True)


def _computation(node: Any) -> Any:
    """What two nodes that give the same have in common; None for one that is like no other."""
    if node.op_type.startswith(RANDOM) or any(a.HasField("g") for a in node.attribute):
        return None
    attributes = sorted(a.SerializeToString(deterministic=True) for a in node.attribute)
    return (
        node.domain, node.op_type, tuple(node.input), tuple(attributes),
        tuple(bool(name) for name in node.output),
    )  # fmt: skip


def _rename(node: Any, names: Mapping[str, str]) -> None:
    """Its inputs, and those of the graphs inside it."""
    node.input[:] = [names.get(name, name) for name in node.input]
    for attribute in node.attribute:
        for inner in attribute.g.node if attribute.HasField("g") else ():
            _rename(inner, names)


def _output(whole: _Merged, own: str, infos: Mapping[str, Any], place: int, taken: Taken) -> Any:
    """Add the nodes from a part's output to one of the whole; return how a graph lists it."""
    if taken.source not in infos:
        raise Rejected(f"the graph has no output {taken.source!r}; it has {sorted(infos)}")
    given = infos[taken.source].type.tensor_type
    kind, row = given.elem_type, [_size(dim) for dim in given.shape.dim[1:]]
    name = whole.name_of(own + taken.source)

    def then(operator: str, *constants: Any, **attributes: Any) -> None:
        nonlocal name
        target = f"{own}taken{place}_{operator}"
        whole.constants.extend(constants)
        sources = [name, *(each.name for each in constants)]
        whole.nodes.append(helper.make_node(operator, sources, [target], **attributes))
        name = target

    if taken.column is not None:
        then("Gather", constant(f"{own}column{place}", np.int64(taken.column)), axis=1)
        row = []
    wanted = kind if taken.datatype is None else element_of(taken.datatype)
    if wanted != kind:
        if TensorProto.STRING in (wanted, kind):
            raise Rejected(f"output {taken.name!r} is of texts in one graph, not in the other")
        then("Cast", to=wanted)
    if taken.row_shape is not None and list(taken.row_shape) != row:
        shape = np.array([-1, *taken.row_shape], np.int64)
        then("Reshape", constant(f"{own}shape{place}", shape))
        row = list(taken.row_shape)
    whole.nodes.append(helper.make_node("Identity", [name], [taken.name]))
    return helper.make_tensor_value_info(taken.name, wanted, ["n", *row])


def _size(dim: Any) -> int | str:
    return int(dim.dim_value) if dim.HasField("dim_value") else str(dim.dim_param or "free")


def _opset(model: Any) -> int:
    return next(int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx"))


def _converted(model: Any, version: int) -> Any:
    if _opset(model) == version:
        return model
    try:
        return version_converter.convert_version(model, version)
    except Exception as error:  # the converter's errors have no common base
        raise Rejected(f"the graphs of several outputs do not go together: {error}") from None
