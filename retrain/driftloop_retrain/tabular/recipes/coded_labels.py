"""A native model that was trained on the numbers of the classes, and answers with the classes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_contracts.graph_names import output_name
from driftloop_retrain.tabular.recipes.graph import Classes
from driftloop_retrain.tabular.recipes.own_recipe import FittedNative

CODE = "driftloop_class_code"


@dataclass(frozen=True)
class CodedLabels(FittedNative):
    """See FittedModel. classes: those that the numbers stand for; None: values, not classes."""

    classes: Classes = None

    def predict(self, features: pa.Table) -> dict[str, NDArray[np.generic]]:
        found = super().predict(features)
        if self.classes is not None:
            label = output_name("label", features.column_names)
            found[label] = self.classes[found[label].astype(np.int64)]
        return found

    def export(self, folder: Path) -> None:
        super().export(folder)
        if self.classes is not None:
            label = output_name("label", self.train.features.column_names)
            _name_classes(folder / "model.onnx", label, self.classes)


def _name_classes(path: Path, label: str, classes: NDArray[np.generic]) -> None:
    """Put the classes behind the graph's output `label`."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load(path)
    graph = model.graph
    for node in graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = CODE if name == label else name
    kind = TensorProto.STRING if classes.dtype == object else TensorProto.INT64
    values = [v.encode() for v in classes] if classes.dtype == object else classes
    graph.initializer.append(helper.make_tensor(f"{CODE}s", kind, [len(classes)], values))
    graph.node.append(helper.make_node("Gather", [f"{CODE}s", CODE], [label], axis=0))
    (output,) = (each for each in graph.output if each.name == label)
    output.type.tensor_type.elem_type = kind
    onnx.checker.check_model(model)
    onnx.save(model, path)
