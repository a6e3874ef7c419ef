"""Rows of the lake as a graph's inputs, and its outputs as rows of the lake."""

from collections.abc import Container, Mapping
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from driftloop_contracts.capture import parse_capture
from driftloop_contracts.events import INPUT_PREFIX, OUTPUT_PREFIX, column_type
from driftloop_contracts.model import ModelSpec
from driftloop_contracts.signature import Signature, TensorSpec

FAILED = "failed"
"""Whether the graph raised an exception on the row's request."""
_DTYPES = {
    "BOOL": np.bool_, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32,
    "UINT64": np.uint64, "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64,
    "FP16": np.float16, "FP32": np.float32, "FP64": np.float64,
}  # fmt: skip


def unanswerable(spec: ModelSpec, signature: Signature, columns: list[str]) -> str:
    """Why the lake's rows cannot be given to a candidate; empty if they can. columns: of the
    lake's table of the model."""
    changed = parse_capture(spec.options).columns
    for tensor in signature.inputs:
        name = tensor.name
        if name in changed:
            return f"input {name!r} is not captured as it was asked (options.capture)"
        if INPUT_PREFIX + name not in columns:
            return f"the lake has no column for input {name!r}"
        shape = tensor.row_shape
        if not tensor.free_rows or shape is None or -1 in shape:
            return f"input {name!r} has no fixed shape of a row"
    return ""


def inputs_of(rows: pa.Table, signature: Signature) -> dict[str, np.ndarray]:
    """The arrays of a run; optional inputs keep the graph's default."""
    return {t.name: _array(rows[INPUT_PREFIX + t.name], t) for t in signature.inputs}


def askable(rows: pa.Table, signature: Signature) -> pa.Table:
    """Only rows with a value for each input, and with none for an optional one, which `inputs_of`
    leaves out."""
    keep = pa.array(np.ones(rows.num_rows, bool))
    for tensor in signature.inputs:
        keep = pc.and_(keep, rows[INPUT_PREFIX + tensor.name].is_valid())
    for tensor in signature.optional:
        if INPUT_PREFIX + tensor.name in rows.column_names:
            keep = pc.and_(keep, rows[INPUT_PREFIX + tensor.name].is_null())
    return rows.filter(keep)


def answers_of(
    outputs: Mapping[str, np.ndarray] | None, signature: Signature, rows: int
) -> pa.Table:
    """The columns `out_…` of a run; nulls if it failed. An output without a row for each row of the
    inputs is repeated in each."""
    names = [OUTPUT_PREFIX + tensor.name for tensor in signature.outputs]
    if outputs is None:
        columns = [pa.nulls(rows, column_type(tensor)) for tensor in signature.outputs]
    else:
        columns = [_column(outputs[tensor.name], tensor, rows) for tensor in signature.outputs]
    return pa.table(columns, names=names)


def _array(column: pa.ChunkedArray, tensor: TensorSpec) -> np.ndarray:
    if pa.types.is_list(column.type):
        column = pc.list_flatten(column)
    if tensor.datatype == "BYTES":
        flat: Any = np.array(column.to_pylist(), dtype=object)
    elif pa.types.is_decimal(column.type):
        flat = np.array([int(value) for value in column.to_pylist()], np.uint64)
    else:
        flat = column.to_numpy()
    dtype = _DTYPES.get(tensor.datatype, np.object_)
    return np.ascontiguousarray(flat, dtype).reshape(-1, *(tensor.row_shape or ()))


def _column(array: np.ndarray, tensor: TensorSpec, rows: int) -> pa.Array:
    if array.shape[:1] != (rows,):
        array = np.broadcast_to(array, (rows, *array.shape))
    flat, kind = array.reshape(rows, -1), column_type(tensor)
    value_kind = kind if tensor.scalar else kind.value_type
    if pa.types.is_decimal(value_kind):
        values = pa.array([Decimal(int(v)) for v in flat.ravel()], value_kind)
    elif flat.dtype == object:
        values = pa.array([str(v) for v in flat.ravel()], value_kind)
    else:
        values = pa.array(flat.ravel()).cast(value_kind)
    if tensor.scalar:
        return values
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * flat.shape[1])
    return pa.ListArray.from_arrays(offsets, values)


def archived(rows: pa.Table, answers: pa.Table, version: int, changed: Container[str]) -> pa.Table:
    """The answers to `rows` as the lake keeps them. changed: outputs that may not be kept as they
    were answered."""
    found = rows.select(["prediction_id", "row", "predicted_at"])
    found = found.append_column("version", pa.array([version] * rows.num_rows, pa.int32()))
    errors = ["ModelFailed" if each else None for each in answers[FAILED].to_pylist()]
    found = found.append_column("error", pa.array(errors, pa.string()))
    for name in answers.column_names:
        if name != FAILED and name.removeprefix(OUTPUT_PREFIX) not in changed:
            found = found.append_column(name, answers[name])
    return found
