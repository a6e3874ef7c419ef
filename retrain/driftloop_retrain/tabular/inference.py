"""Runs an exported graph on a table of raw columns."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_onnx import OnnxModel
from driftloop_retrain.tabular.columns import numbers

BATCH_ROWS = 8_192
_DTYPES = {
    "BOOL": np.bool_, "FP16": np.float16, "FP32": np.float32, "FP64": np.float64,
    "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64,
    "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64,
}  # fmt: skip


def outputs_of(model: OnnxModel, features: pa.Table) -> dict[str, NDArray[np.generic]]:
    """Return the outputs by name for all n rows: [n] if a row is one value, else [n, …]."""
    parts: list[dict[str, NDArray[np.generic]]] = []
    for start in range(0, features.num_rows, BATCH_ROWS):
        rows = features.slice(start, BATCH_ROWS)
        parts.append(model.run(feeds_of(model.signature, rows)))
    found = {}
    for tensor in model.signature.outputs:
        whole = np.concatenate([part[tensor.name] for part in parts])
        found[tensor.name] = whole.reshape(-1) if tensor.scalar else whole
    return found


def feeds_of(signature: Signature, rows: pa.Table) -> dict[str, NDArray[np.generic]]:
    """The graph's inputs by name, of n rows."""
    return {t.name: _tensor(t, rows[t.name]) for t in signature.inputs}


def _tensor(tensor: TensorSpec, column: pa.ChunkedArray) -> NDArray[np.generic]:
    shape = (-1, *(tensor.row_shape or ()))
    if tensor.datatype == "BYTES":
        return np.array(pc.fill_null(column, "").to_pylist(), dtype=object).reshape(shape)
    dtype = np.dtype(_DTYPES[tensor.datatype])
    # Integers above 2^53 would lose digits as floats.
    if pa.types.is_integer(column.type) and not column.null_count:
        return np.asarray(column.to_numpy()).astype(dtype).reshape(shape)
    values = numbers(column)
    if dtype.kind != "f":
        values = np.nan_to_num(values, nan=0.0)
    return values.astype(dtype).reshape(shape)
