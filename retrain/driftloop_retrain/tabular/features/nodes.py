"""Collects ONNX nodes with names of their own."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Nodes:
    """prefix: of all names."""

    def __init__(self, prefix: str) -> None:
        self.nodes: list[Any] = []
        self._prefix = prefix

    def constant(self, value: NDArray[Any] | np.generic) -> str:
        from onnx import TensorProto, helper, numpy_helper

        values = np.asarray(value)
        if values.dtype == object:
            texts = [text.encode() for text in values.tolist()]
            tensor = helper.make_tensor("", TensorProto.STRING, values.shape, texts)
        else:
            tensor = numpy_helper.from_array(values)
        return self.add("Constant", value=tensor)

    def add(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        (output,) = self.several(kind, 1, *inputs, domain=domain, **attributes)
        return output

    def several(
        self, kind: str, count: int, *inputs: str, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Add a node with as many outputs; return their names."""
        from onnx import helper

        names = [f"{self._prefix}{len(self.nodes)}_{number}" for number in range(count)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, domain=domain, **attributes))
        return names

    def flat(self, value: str) -> str:
        return self.add("Reshape", value, self.constant(np.array([-1], np.int64)))
