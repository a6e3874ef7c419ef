"""Tensors as JSON values: row-major, nested or flat."""

from functools import lru_cache
from itertools import chain
from math import nan
from struct import Struct
from struct import error as StructError
from typing import Any

import numpy as np
import orjson

from driftloop_contracts.errors import Rejected
from driftloop_serving.inference.tensor_plan import InputPlan

_OUT_OF_INT64 = 2.0**63


def document_of(body: bytes) -> dict[str, Any]:
    """Parse a JSON object. Raises Rejected for anything else."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Rejected(f"the body is not valid JSON: {error}") from None
    if type(document) is not dict:
        raise Rejected("the body must be a JSON object")
    return document


def array_of(data: Any, shape: list[int], size: int, plan: InputPlan) -> np.ndarray:
    """Return `data` as an array of the plan's dtype. `shape` and `size` as returned by
    `InputPlan.fitted`.

    Raises Rejected if the number, nesting, type or range of the values is wrong.
    """
    kind = plan.kind
    if not (
        type(data) is list and len(data) == size and kind.json_types.issuperset(map(type, data))
    ):
        data = _completed(data, shape, size, plan)
    if kind.text:
        return np.array(data, kind.dtype).reshape(shape)
    # `struct` is faster than numpy and, unlike numpy, checks the range.
    try:
        return np.ndarray(shape, kind.dtype, _packer(kind.code, size)(*data))
    except (OverflowError, StructError):
        raise plan.refused(f": a value is out of the range of {plan.datatype}") from None


@lru_cache(maxsize=4096)
def _packer(code: str, size: int) -> Any:
    return Struct(f"={size}{code}").pack


def _completed(given: Any, shape: list[int], size: int, plan: InputPlan) -> list[Any]:
    """Flatten nested lists and replace null by NaN. Raises Rejected for anything else."""
    if type(given) is not list:
        raise plan.refused(": `data` must be a list")
    data: list[Any] = given
    if data and type(data[0]) is list:
        data = _flat(data, shape, plan)
    if len(data) != size:
        raise plan.refused(f": its shape needs {size} values, `data` has {len(data)}")
    kind, types = plan.kind, {*map(type, data)}
    if types <= kind.json_types:
        return data
    if kind.nullable and types <= kind.json_types | {type(None)}:
        return [nan if value is None else value for value in data]
    if kind.words == "whole numbers" and _too_large(data):
        raise plan.refused(f": a value is out of the range of {plan.datatype}")
    raise plan.refused(f": {plan.datatype} data must be {kind.words}")


def _flat(data: list[Any], shape: list[int], plan: InputPlan) -> list[Any]:
    """Flatten lists that are nested according to `shape`. Raises Rejected if they are not."""
    fits = shape[:1] == [len(data)]
    for length in shape[1:]:
        fits = fits and {*map(type, data)} == {list} and {*map(len, data)} == {length}
        if fits:
            data = list(chain.from_iterable(data))
    if not fits:
        raise plan.refused(f": `data` is neither flat nor nested as its shape {shape}")
    return data


def _too_large(data: list[Any]) -> bool:
    """Whether the data are whole numbers of which some exceed 64 bits, which orjson reads as
    floats."""
    return {int, float}.issuperset(map(type, data)) and all(
        abs(value) >= _OUT_OF_INT64 for value in data if type(value) is float
    )


def json_of(array: np.ndarray) -> bytes:
    """Encode the values as a flat JSON list. Numbers are as short as their dtype allows; null for
    numbers that are not finite."""
    flat = array.ravel()
    try:
        return orjson.dumps(flat, None, orjson.OPT_SERIALIZE_NUMPY)
    except orjson.JSONEncodeError:  # texts
        return orjson.dumps(flat.tolist())


def json_of_rows(array: np.ndarray) -> list[bytes] | None:
    """Encode each row as in `json_of`, without brackets; None for texts."""
    try:
        rows = orjson.dumps(array.reshape(array.shape[0], -1), None, orjson.OPT_SERIALIZE_NUMPY)
    except orjson.JSONEncodeError:
        return None
    return rows[2:-2].split(b"],[")
