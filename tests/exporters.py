"""Graphs with their weights where exporters put them."""

from pathlib import Path

import numpy as np
import onnx.external_data_helper as external
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

REAL_LAYOUTS = [
    (),
    ("net.onnx.data",) * 2,  # torch.onnx.export(dynamo=True)
    ("net.onnx_data",) * 2,  # transformers' optimum
    ("model.onnx.data",) * 2,
    ("blocks.0.weight", "blocks.0.bias"),  # torch.onnx.export: a file for each tensor
    ("./weights/part-0.bin", "weights/part-1.bin"),
    ("w", None),  # only large tensors are put outside
    ("location", "gewichte ü/w 1.bin"),
]


def write_layout(folder: Path, layout: tuple[str | None, ...], name: str = "net.onnx") -> Path:
    """A graph y = x · w₀ + w₁ + …, whose tensor i lies in the file `layout[i]` (None: in the
    graph); one of its constants is in a node."""
    folder.mkdir(parents=True, exist_ok=True)
    dice = np.random.default_rng(0)
    places: tuple[str | None, ...] = layout or (None,)
    tensors = [
        numpy_helper.from_array(dice.normal(size=(1, 4)).astype(np.float32), f"w{i}")
        for i in range(len(places))
    ]
    for tensor, place in zip(tensors, places, strict=True):
        if place is not None:
            _put_outside(folder, tensor, place)
    path = folder / name
    path.write_bytes(_sum_of(tensors).SerializeToString())
    return path


def _put_outside(folder: Path, tensor: TensorProto, place: str) -> None:
    path = folder / place
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        offset, data = file.tell(), tensor.raw_data
        file.write(data)
    external.set_external_data(tensor, location=place, offset=offset, length=len(data))
    tensor.ClearField("raw_data")


def _sum_of(tensors: list[TensorProto]) -> ModelProto:
    *initializers, last = tensors
    nodes = [helper.make_node("Constant", [], [last.name], value=last)]
    total = "x"
    for number, tensor in enumerate(tensors):
        after = "y" if number == len(tensors) - 1 else f"sum{number}"
        nodes.append(helper.make_node("Add", [total, tensor.name], [after]))
        total = after
    graph = helper.make_graph(
        nodes,
        "sum",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 4])],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


_part = st.text("abcÄ -_.0", min_size=1, max_size=8).filter(
    lambda text: text.strip(". ") and text == text.strip()
)
_file = st.lists(_part, min_size=1, max_size=3).map(
    lambda parts: "/".join(["x" + parts[0], *parts[1:]])
)


def layouts() -> st.SearchStrategy[tuple[str | None, ...]]:
    """Tensors in any files; no file is another's folder."""
    return st.lists(st.none() | _file, min_size=1, max_size=5).filter(_is_possible).map(tuple)


def _is_possible(places: list[str | None]) -> bool:
    files = {Path(place) for place in places if place is not None}
    return not any(parent in files for file in files for parent in file.parents)
