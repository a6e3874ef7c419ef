"""One column of a table: as numbers, and as an input of a graph."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from driftloop_contracts.events import ARROW_TYPES
from driftloop_contracts.signature import TensorSpec


def numbers(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """Convert a column of numbers, booleans, or lists of them to a flat array; NaN if missing."""
    if pa.types.is_list(column.type):
        column = pc.list_flatten(column)
    return np.asarray(
        pc.fill_null(column.cast(pa.float64(), safe=False), float("nan")).to_numpy(), np.float64
    )


_ELEMENTS = {
    "BYTES": "STRING", "FP16": "FLOAT16", "FP32": "FLOAT", "FP64": "DOUBLE",
}  # fmt: skip


def value_info(tensor: TensorSpec) -> Any:
    """The declaration of an input."""
    from onnx import TensorProto, helper

    assert tensor.datatype in ARROW_TYPES
    element = getattr(TensorProto, _ELEMENTS.get(tensor.datatype, tensor.datatype))
    return helper.make_tensor_value_info(tensor.name, element, ["n", *(tensor.row_shape or ())])
