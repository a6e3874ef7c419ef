"""The parts of an exported graph that all built-in families share.

raw inputs → encoding → `matrix` [n, width] → the family's body → `scores` → head → outputs. The
scores are [n, classes] logits for classes, or [n, 1] values.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop_contracts.graph_names import OUTPUTS, output_name, renamed
from driftloop_retrain.tabular.columns import value_info
from driftloop_retrain.tabular.features.feature import needs_new_operators
from driftloop_retrain.tabular.recipes.encoding import RAW, Encoding

MATRIX, SCORES = "matrix", "scores"
Classes = NDArray[np.generic] | None


def head(
    scores: NDArray[np.floating[Any]], classes: Classes, inputs: Collection[str] = ()
) -> dict[str, NDArray[np.generic]]:
    """Compute the graph's head in numpy: outputs from scores [n, classes] or [n, 1]. inputs: the
    names of the graph's inputs."""
    if classes is None:
        return {output_name("value", inputs): scores[:, 0].astype(np.float32)}
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities = (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)
    return {
        output_name("label", inputs): classes[probabilities.argmax(axis=1)],
        output_name("probabilities", inputs): probabilities,
    }


def write_graph(
    folder: Path,
    encoding: Encoding,
    body: Sequence[Any],
    initializers: Sequence[Any],
    classes: Classes,
) -> None:
    """Write `model.onnx`. `body`: the nodes from MATRIX to SCORES."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    inputs = [value_info(item.tensor) for item in encoding.inputs]
    own = {name: output_name(name, encoding.names) for name in OUTPUTS}
    constants = list(initializers)
    if classes is None:
        constants.append(numpy_helper.from_array(np.array([-1], np.int64), "flat"))
        tail = [helper.make_node("Reshape", [SCORES, "flat"], ["value"])]
        outputs = [helper.make_tensor_value_info(own["value"], TensorProto.FLOAT, ["n"])]
    else:
        kind = TensorProto.STRING if classes.dtype == object else TensorProto.INT64
        values = [v.encode() for v in classes] if classes.dtype == object else classes
        constants.append(helper.make_tensor("classes", kind, [len(classes)], values))
        tail = [
            helper.make_node("Softmax", [SCORES], ["probabilities"], axis=1),
            helper.make_node("ArgMax", ["probabilities"], ["best"], axis=1, keepdims=0),
            helper.make_node("Gather", ["classes", "best"], ["label"], axis=0),
        ]
        outputs = [
            helper.make_tensor_value_info(own["label"], kind, ["n"]),
            helper.make_tensor_value_info(
                own["probabilities"], TensorProto.FLOAT, ["n", len(classes)]
            ),
        ]
    nodes = [*encoding.nodes(MATRIX), *body, *tail]
    own |= {f"{RAW}{number}": name for number, name in enumerate(encoding.names)}
    renamed(nodes, constants, own)
    graph = helper.make_graph(nodes, "driftloop", inputs, outputs, constants)
    opset = 20 if needs_new_operators(encoding.features) else 18
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    # An older IR version than onnx's newest, which more runtimes support.
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    onnx.checker.check_model(model)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "model.onnx")
