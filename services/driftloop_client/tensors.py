"""Columns as binary tensors of the Open Inference Protocol v2, and its answers as arrays."""

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop_client.columns import Columns
from driftloop_contracts.errors import Rejected, listed

HEADER = "inference-header-content-length"
_DTYPES: dict[str, Any] = {
    "BOOL": np.bool_, "UINT8": np.uint8, "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8",
    "INT8": np.int8, "INT16": "<i2", "INT32": "<i4", "INT64": "<i8",
    "FP16": "<f2", "FP32": "<f4", "FP64": "<f8", "BYTES": np.object_,
}  # fmt: skip
Arrays = dict[str, NDArray[Any]]


def arrays_of(columns: Columns | NDArray[Any], inputs: Sequence[Mapping[str, Any]]) -> Arrays:
    """One array for each of a model's inputs (its metadata: name, datatype, shape), in that type.
    Raises Rejected naming the column."""
    if isinstance(columns, np.ndarray):
        columns = _of_matrix(columns, inputs)
    known = {tensor["name"] for tensor in inputs}
    if unknown := [name for name in columns if name not in known]:
        raise Rejected(f"the model has no input {unknown[0]!r}; it has {listed(known)}")
    found = {}
    for tensor in inputs:
        name, optional = tensor["name"], (tensor.get("parameters") or {}).get("optional")
        if name in columns:
            found[name] = _array(name, columns[name], tensor["datatype"], tensor["shape"])
        elif not optional:
            raise Rejected(f"the rows lack the column {name!r}, an input of the model")
    lengths = {len(array) for array in found.values()}
    if len(lengths) != 1:
        raise Rejected(f"the columns differ in length: {sorted(lengths)}")
    if not lengths.pop():
        raise Rejected("there are no rows to predict")
    return found


def _of_matrix(array: NDArray[Any], inputs: Sequence[Mapping[str, Any]]) -> Columns:
    """An array [n, …] for the one input, or [n, k] for k inputs in their order."""
    needed = [t for t in inputs if not (t.get("parameters") or {}).get("optional")]
    if len(needed) == 1:
        return {needed[0]["name"]: array}
    if array.ndim != 2 or array.shape[1] != len(needed):
        raise Rejected(
            f"an array of the shape {list(array.shape)} for {len(needed)} inputs: give [rows, "
            f"{len(needed)}], in the order {listed(t['name'] for t in needed)}"
        )
    return {tensor["name"]: array[:, number] for number, tensor in enumerate(needed)}


def _array(name: str, values: Any, datatype: str, shape: Sequence[int]) -> NDArray[Any]:
    if datatype == "BYTES":
        given = np.asarray(values, dtype=object)
        array = np.array([_text(v) for v in given.reshape(-1)], dtype=object).reshape(given.shape)
    else:
        array = _numbers(name, values, datatype)
    row_shape = list(shape[1:])
    if array.ndim == 1 and len(row_shape) == 1 and row_shape[0] in (1, -1):
        array = array[:, np.newaxis]
    return array


def _text(value: Any) -> bytes:
    """A missing text is an empty one."""
    if isinstance(value, bytes):
        return value
    return b"" if value is None or value != value else str(value).encode()


def _numbers(name: str, values: Any, datatype: str) -> NDArray[Any]:
    dtype = np.dtype(_DTYPES[datatype])
    array = np.asarray(values)
    try:
        if array.dtype == object:  # None: missing
            array = array.astype(np.float64) if dtype.kind == "f" else array
        if dtype.kind in "iu" and array.dtype.kind in "fO":
            wanted = np.asarray(array, np.float64)
            if not (np.isfinite(wanted) & (wanted == np.floor(wanted))).all():
                raise Rejected(f"column {name!r} takes whole numbers ({datatype}), none missing")
        return np.ascontiguousarray(array.astype(dtype))
    except (TypeError, ValueError):
        raise Rejected(f"column {name!r} takes numbers ({datatype}), not all of these") from None


def encoded(arrays: Arrays, inputs: Sequence[Mapping[str, Any]]) -> tuple[bytes, int]:
    """A request's body and the length of its JSON part."""
    datatypes = {tensor["name"]: tensor["datatype"] for tensor in inputs}
    described, parts = [], []
    for name, array in arrays.items():
        data = _packed(array) if datatypes[name] == "BYTES" else array.tobytes()
        parts.append(data)
        described.append(
            {
                "name": name,
                "datatype": datatypes[name],
                "shape": list(array.shape),
                "parameters": {"binary_data_size": len(data)},
            }
        )
    head = json.dumps({"inputs": described, "parameters": {"binary_data_output": True}}).encode()
    return b"".join([head, *parts]), len(head)


def _packed(array: NDArray[Any]) -> bytes:
    return b"".join(struct.pack("<I", len(text)) + text for text in array.reshape(-1))


def decoded(content: bytes, head_length: int | None) -> tuple[dict[str, Any], Arrays]:
    """An answer's JSON part, and its outputs by name; texts are str."""
    head = json.loads(content[:head_length])
    at, found = head_length or 0, {}
    for tensor in head["outputs"]:
        datatype, shape = tensor["datatype"], tensor["shape"]
        size = (tensor.get("parameters") or {}).get("binary_data_size")
        if size is None:
            values = np.array(tensor["data"], dtype=_DTYPES[datatype])
        elif datatype == "BYTES":
            values = np.array(_unpacked(content[at : at + size]), dtype=object)
        else:
            values = np.frombuffer(content, _DTYPES[datatype], offset=at, count=_count(shape))
        at += size or 0
        found[tensor["name"]] = values.reshape(shape)
    return head, found


def _unpacked(data: bytes) -> list[str]:
    texts, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        texts.append(data[at + 4 : at + 4 + length].decode())
        at += 4 + length
    return texts


def _count(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=np.int64))
