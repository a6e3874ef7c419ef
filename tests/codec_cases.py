"""Requests for the codec that are right, wrong in one place, or noise; each follows from its
seed."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from driftloop_contracts.errors import Rejected
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_serving.inference.binary_tensors import buffer_of
from driftloop_serving.inference.datatypes import DTYPES
from driftloop_serving.inference.infer_call import Codec, InferRequest
from driftloop_serving.inference.v1_codec import V1
from driftloop_serving.inference.v2_codec import V2

OUTPUTS = (TensorSpec("label", "INT64", (-1,)), TensorSpec("name", "BYTES", (-1, 1)))
SIGNATURES = (
    Signature((TensorSpec("x", "FP32", (-1, 20)),), OUTPUTS),
    Signature((TensorSpec("x", "BYTES", (-1, 1)),), OUTPUTS),
    Signature((TensorSpec("x", "INT64", (-1, -1)), TensorSpec("mask", "BOOL", (-1, -1))), OUTPUTS),
    Signature(
        (
            TensorSpec("age", "FP32", (-1, 1)), TensorSpec("city", "BYTES", (-1,)),
            TensorSpec("scale", "FP64", ()), TensorSpec("size", "UINT64", (2,)),
        ),
        OUTPUTS,
    ),
    *(
        Signature((TensorSpec("x", datatype, (-1, 2)), TensorSpec("y", "FP16", (-1,))), OUTPUTS)  # type: ignore[arg-type]
        for datatype in DTYPES
    ),
)  # fmt: skip
TOKENS = (
    b"null", b"true", b"-1", b"0", b"1e400", b"NaN", b"Infinity", b"18446744073709551616",
    b"[", b"]",
    b"{", b"}", b'"', b",", b"\\ud800", b"\xff", b"\0", b"[" * 2000, b'"inputs":', b'"data":',
    b'"binary_data_size":', b'"shape":[9007199254740993]',
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 2**31, 2**53 + 1, 2**63, 2**64 - 1,
    0.5, 1e300, -1e-300, "", "x", "FP32",
    "BYTES", "x" * 300, [], [1], [[1]], [[[]]], {}, {"name": "x"}, {"binary_data_size": 1},
    {"binary_data": True}, {"shared_memory_region": "r"}, {"classification": 1},
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    form: Codec
    signature: Signature
    body: bytes
    json_length: int | None


def case(seed: int) -> Case:
    chance = random.Random(seed)
    whole = _right(chance)
    change = chance.choice(
        (_right, _other_value, _other_value, _other_bytes, _other_length, _noise)
    )
    if change is _right:
        return whole
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        whole = change(chance, whole)  # type: ignore[call-arg,arg-type]
    return whole


def outcome(case: Case) -> str:
    """ "accepted" or "rejected"; raises where the codec breaks its word."""
    try:
        request = case.form.decode(case.body, case.json_length, case.signature, {})
    except Rejected as refused:
        sentence = str(refused)
    else:
        _check_both_ways(case, request)
        return "accepted"
    assert 0 < len(sentence) < 500
    return "rejected"


def _check_both_ways(case: Case, request: InferRequest) -> None:
    _check(request, case.signature)
    outputs: dict[str, np.ndarray] = {
        "label": np.arange(request.rows),
        "name": np.full((request.rows, 1), "ä", object),
    }
    body, json_length = case.form.encode(request, outputs, "m", 1, case.signature)
    orjson.loads(body[:json_length])


def _check(request: InferRequest, signature: Signature) -> None:
    assert list(request.inputs) == [spec.name for spec in signature.inputs]
    for spec in signature.inputs:
        array = request.inputs[spec.name]
        assert array.dtype == DTYPES[spec.datatype]
        assert array.size > 0
        assert len(array.shape) == len(spec.shape)
        assert all(w in (-1, d) for d, w in zip(array.shape, spec.shape, strict=True))
        assert spec.shape[:1] != (-1,) or array.shape[0] == request.rows
        assert array.dtype != object or {*map(type, array.ravel().tolist())} == {str}
    assert request.rows > 0
    assert {*request.outputs} <= {spec.name for spec in signature.outputs}
    assert request.binary <= {*request.outputs}


def _right(chance: random.Random) -> Case:
    signature = chance.choice(SIGNATURES)
    rows = chance.choice((1, 1, 2, 5))
    arrays = {spec.name: _array(chance, spec, rows) for spec in signature.inputs}
    if chance.random() < 0.2:
        return Case(V1, signature, orjson.dumps(_v1(chance, arrays, signature)), None)
    if len(arrays) == 1 and chance.random() < 0.2:
        (array,) = arrays.values()
        return Case(V2, signature, buffer_of(array), 0)
    return _v2(chance, arrays, signature)


def _array(chance: random.Random, spec: TensorSpec, rows: int) -> np.ndarray:
    width = chance.choice((1, 3))
    shape = [width if d == -1 else d for d in spec.shape]
    if spec.shape[:1] == (-1,):
        shape[0] = rows
    size = int(np.prod(shape))
    if spec.datatype == "BYTES":
        texts = ["".join(chance.choices('aä€"\\\0 x', k=chance.randrange(6))) for _ in range(size)]
        return np.array(texts, object).reshape(shape)
    dtype = np.dtype(DTYPES[spec.datatype])
    if dtype.kind == "f":
        values = np.array([chance.uniform(-9, 9) for _ in range(size)])
        values[[chance.random() < 0.1 for _ in range(size)]] = np.nan
        return values.astype(dtype).reshape(shape)
    low = int(dtype.kind == "i") * -100
    return (
        np.array([chance.randint(low, 1 if dtype.kind == "b" else 100) for _ in range(size)])
        .astype(dtype)
        .reshape(shape)
    )


def _v1(chance: random.Random, arrays: dict[str, np.ndarray], signature: Signature) -> Any:
    columns = {name: _listed(array, nested=True) for name, array in arrays.items()}
    if chance.random() < 0.5 or any(spec.shape[:1] != (-1,) for spec in signature.inputs):
        return {"inputs": columns}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return {"instances": rows}


def _v2(chance: random.Random, arrays: dict[str, np.ndarray], signature: Signature) -> Case:
    tensors: list[dict[str, Any]] = []
    buffers: list[bytes] = []
    binary, nested = chance.choice((0, 0.7, 1)), chance.random() < 0.3
    for spec in signature.inputs:
        array = arrays[spec.name]
        tensor = {"name": spec.name, "datatype": spec.datatype, "shape": list(array.shape)}
        if chance.random() < binary:
            buffers.append(buffer_of(array))
            tensor["parameters"] = {"binary_data_size": len(buffers[-1])}
        else:
            tensor["data"] = _listed(array, nested and array.ndim > 0)
        tensors.append(tensor)
    document: dict[str, Any] = {"inputs": tensors}
    if chance.random() < 0.5:
        document["id"] = "7"
    if chance.random() < 0.5:
        document["parameters"] = {"binary_data_output": chance.random() < 0.5}
    if chance.random() < 0.5:
        document["outputs"] = [
            {"name": spec.name, "parameters": {"binary_data": chance.random() < 0.5}}
            for spec in chance.sample(signature.outputs, chance.choice((1, 2)))
        ]
    head = orjson.dumps(document)
    return Case(V2, signature, head + b"".join(buffers), len(head) if buffers else None)


def _listed(array: np.ndarray, nested: bool) -> Any:
    if array.dtype.kind == "f":
        array = np.where(np.isnan(array), None, array.astype(object))
    return (array if nested else array.ravel()).tolist()


def _other_value(chance: random.Random, whole: Case) -> Case:
    """Any one value of the JSON replaced, removed, doubled or put under another name."""
    length = len(whole.body) if whole.json_length is None else whole.json_length
    try:
        document = orjson.loads(whole.body[:length])
    except orjson.JSONDecodeError:
        return whole
    places = list(_places(document))
    if not places:
        return whole
    holder, key = chance.choice(places)
    what = chance.random()
    if what < 0.7:
        holder[key] = chance.choice(VALUES)
    elif what < 0.8:
        del holder[key]
    elif isinstance(holder, list):
        holder.append(holder[key])
    else:
        holder[chance.choice(("data", "name", "shape", "inputs", "parameters", "x"))] = holder[key]
    try:
        head = orjson.dumps(document)
    except TypeError:
        return whole
    json_length = None if whole.json_length is None else len(head)
    return Case(whole.form, whole.signature, head + whole.body[length:], json_length)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(items):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def _other_bytes(chance: random.Random, whole: Case) -> Case:
    body = bytearray(whole.body)
    at = chance.randrange(len(body) + 1)
    end = min(len(body), at + chance.choice((1, 4, 50)))
    what = chance.randrange(5)
    if what == 0 and at < len(body):
        body[at] ^= 1 << chance.randrange(8)
    elif what == 1:
        del body[at:]
    elif what == 2:
        del body[at:end]
    elif what == 3:
        body[at:at] = chance.choice(TOKENS)
    else:
        body[at:at] = body[at:end]
    return Case(whole.form, whole.signature, bytes(body), whole.json_length)


def _other_length(chance: random.Random, whole: Case) -> Case:
    size = len(whole.body)
    length = chance.choice(
        (None, 0, -1, 1, size, size - 1, size + 1, 2**40, chance.randrange(size + 1))
    )
    return Case(whole.form, whole.signature, whole.body, length)


def _noise(chance: random.Random, whole: Case) -> Case:
    body = chance.randbytes(chance.randrange(200))
    if chance.random() < 0.5:
        body = b"".join(chance.choices(TOKENS, k=chance.randrange(20)))
    return Case(whole.form, whole.signature, body, chance.choice((None, 0, len(body))))
