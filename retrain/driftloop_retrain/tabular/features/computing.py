"""Runs the nodes of features on training rows: they are what the graph computes in serving."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_contracts.signature import TensorSpec
from driftloop_onnx import OnnxModel
from driftloop_retrain.tabular.columns import value_info
from driftloop_retrain.tabular.features.feature import Feature
from driftloop_retrain.tabular.features.nodes import Nodes
from driftloop_retrain.tabular.inference import outputs_of

OUTPUT, INPUT = "features", "feature_input_"


def feature_nodes(
    features: Sequence[Feature], raw: Mapping[str, str]
) -> tuple[list[Any], list[str]]:
    """Nodes, and the name of each feature's columns. raw: the names of tensors by input."""
    nodes = Nodes("feature_")
    columns = [feature.nodes(raw, nodes) for feature in features]
    return nodes.nodes, columns


def computed(
    features: Sequence[Feature], inputs: Sequence[TensorSpec], rows: pa.Table
) -> NDArray[np.float32]:
    """[n, width] of n rows."""
    import onnx
    from onnx import TensorProto, helper

    used = {name for feature in features for name in feature.inputs}
    tensors = [tensor for tensor in inputs if tensor.name in used]
    raw = {tensor.name: f"{INPUT}{number}" for number, tensor in enumerate(tensors)}
    nodes, columns = feature_nodes(features, raw)
    copies = [helper.make_node("Identity", [name], [copy]) for name, copy in raw.items()]
    nodes = [*copies, *nodes, helper.make_node("Concat", columns, [OUTPUT], axis=1)]
    width = sum(feature.width for feature in features)
    output = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", width])
    graph = helper.make_graph(nodes, OUTPUT, [value_info(t) for t in tensors], [output])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        found = outputs_of(OnnxModel(path), rows.select([t.name for t in tensors]))
    return np.asarray(found[OUTPUT], np.float32).reshape(rows.num_rows, width)
