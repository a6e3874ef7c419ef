"""Infer requests and answers of the Open Inference Protocol v2, in JSON.

`decode` turns a body into arrays that fit the signature, or raises Rejected with a sentence that
names the input. Binary tensors (a later part) get their place beside `_values`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import orjson

from driftloop_contracts.errors import Rejected
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_serving.rules import InputRule

DTYPES: dict[str, Any] = {
    "BOOL": np.bool_, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32,
    "UINT64": np.uint64, "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64,
    "FP16": np.float16, "FP32": np.float32, "FP64": np.float64, "BYTES": np.object_,
}  # fmt: skip

_JSON_TYPES: dict[str, tuple[frozenset[type], str]] = {
    "BOOL": (frozenset({bool}), "true or false"),
    "BYTES": (frozenset({str}), "texts"),
    "FP": (frozenset({int, float, type(None)}), "numbers or null"),
    "INT": (frozenset({int}), "whole numbers"),
}


@dataclass(frozen=True, slots=True)
class InferRequest:
    """`inputs`: an array for each tensor of the signature, in its dtype and rank; `outputs`: the
    names asked for, in order; `rows`: the common first dimension."""

    id: str | None
    inputs: dict[str, np.ndarray]
    outputs: tuple[str, ...]
    rows: int


def decode(
    body: bytes, signature: Signature, rules: Mapping[str, InputRule] | None = None
) -> InferRequest:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Rejected(f"the body is no valid JSON: {error}") from None
    if not isinstance(document, dict):
        raise Rejected("the body must be a JSON object with `inputs`")
    identifier = document.get("id")
    if identifier is not None and not isinstance(identifier, str):
        raise Rejected("`id` must be a text")
    inputs = _inputs(document.get("inputs"), signature)
    for name, rule in (rules or {}).items():
        rule.check(name, inputs[name])
    rows = _rows(inputs, signature)
    return InferRequest(identifier, inputs, _outputs(document.get("outputs"), signature), rows)


def _inputs(tensors: Any, signature: Signature) -> dict[str, np.ndarray]:
    if not isinstance(tensors, list):
        raise Rejected("`inputs` must be a list of tensors")
    specs = {spec.name: spec for spec in signature.inputs}
    found: dict[str, np.ndarray] = {}
    for tensor in tensors:
        name = tensor.get("name") if isinstance(tensor, dict) else None
        spec = specs.get(name) if isinstance(name, str) else None
        if spec is None:
            raise Rejected(f"unknown input {name!r}; the model takes {', '.join(specs)}")
        if name in found:
            raise Rejected(f"input {name!r} is given twice")
        found[spec.name] = _tensor(tensor, spec)
    missing = specs.keys() - found.keys()
    if missing:
        raise Rejected(f"input {min(missing)!r} is missing")
    return found


def _tensor(tensor: dict[str, Any], spec: TensorSpec) -> np.ndarray:
    name = spec.name
    if tensor.get("datatype") != spec.datatype:
        raise Rejected(
            f"input {name!r} has the datatype {tensor.get('datatype')!r}; it must be {spec.datatype}"
        )
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not all(type(d) is int and d >= 0 for d in shape):
        raise Rejected(f"input {name!r}: `shape` must be a list of whole numbers from 0")
    if not _fits(shape, spec.shape):
        if spec.shape[1:] == (1,) and len(shape) == 1:
            shape = [*shape, 1]
        else:
            raise Rejected(f"input {name!r} has the shape {shape}; it must be {list(spec.shape)}")
    if spec.shape and shape[0] == 0:
        raise Rejected(f"input {name!r} has no rows")
    data = tensor.get("data")
    if not isinstance(data, list):
        raise Rejected(f"input {name!r}: `data` must be a list")
    return _values(_flat(data), spec, prod(shape)).reshape(shape)


def _fits(shape: list[int], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        w in (-1, d) for d, w in zip(shape, wanted, strict=True)
    )


def _flat(data: list[Any]) -> list[Any]:
    """Nested lists in row-major order; orjson bounds the depth."""
    while data and isinstance(data[0], list):
        if not all(isinstance(item, list) for item in data):
            break
        data = [value for item in data for value in item]
    return data


def _values(data: list[Any], spec: TensorSpec, size: int) -> np.ndarray:
    name, datatype = spec.name, spec.datatype
    if len(data) != size:
        raise Rejected(f"input {name!r}: its shape asks for {size} values, `data` has {len(data)}")
    allowed, words = _JSON_TYPES[datatype.rstrip("0123456789").removeprefix("U")]
    if not allowed.issuperset(map(type, data)):
        raise Rejected(f"input {name!r}: {datatype} data must be {words}")
    try:
        with np.errstate(over="raise"):
            if datatype in ("FP16", "FP32"):
                return np.array(data, np.float64).astype(DTYPES[datatype])
            return np.array(data, DTYPES[datatype])
    except (OverflowError, FloatingPointError):
        raise Rejected(f"input {name!r}: a value is out of the range of {datatype}") from None


def _rows(inputs: Mapping[str, np.ndarray], signature: Signature) -> int:
    rows = {
        inputs[spec.name].shape[0]
        for spec in signature.inputs
        if spec.shape and spec.shape[0] == -1
    }
    if len(rows) > 1:
        sizes = ", ".join(f"{name}: {array.shape[0]}" for name, array in inputs.items())
        raise Rejected(f"the inputs have different numbers of rows ({sizes})")
    return rows.pop() if rows else 1


def _outputs(wanted: Any, signature: Signature) -> tuple[str, ...]:
    known = [spec.name for spec in signature.outputs]
    if wanted is None or wanted == []:
        return tuple(known)
    if not isinstance(wanted, list):
        raise Rejected("`outputs` must be a list of tensors")
    names = []
    for output in wanted:
        name = output.get("name") if isinstance(output, dict) else None
        if name not in known:
            raise Rejected(f"unknown output {name!r}; the model gives {', '.join(known)}")
        if name not in names:
            names.append(name)
    return tuple(names)


def encode(
    request: InferRequest, outputs: Mapping[str, np.ndarray], model: str, version: int,
    signature: Signature,
) -> bytes:  # fmt: skip
    """The answer's body: the outputs asked for; a number that is not finite becomes null."""
    datatypes = {spec.name: spec.datatype for spec in signature.outputs}
    document: dict[str, Any] = {"model_name": model, "model_version": str(version)}
    if request.id is not None:
        document["id"] = request.id
    document["outputs"] = [
        {
            "name": name,
            "datatype": datatypes[name],
            "shape": list(outputs[name].shape),
            "data": _listed(outputs[name]),
        }
        for name in request.outputs
    ]
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _listed(array: np.ndarray) -> Any:
    flat = array.ravel()
    return flat.tolist() if flat.dtype.kind in "OUS" else np.ascontiguousarray(flat)
