"""Requests and answers of KServe's v1 protocol (`:predict`), which is also TensorFlow Serving's.

`instances` holds the rows: values if the model has one input, otherwise objects with a value for
each input. `inputs` holds the columns: an object with all rows of each input. An answer has no
field for the model's version, which is sent in a header.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from driftloop_contracts.errors import Rejected, listed, shown
from driftloop_contracts.input_rules import InputRule, check_all
from driftloop_contracts.signature import Signature
from driftloop_serving.inference.infer_call import InferRequest
from driftloop_serving.inference.json_tensors import array_of, document_of
from driftloop_serving.inference.plan import Plan, plan_of, rows_of
from driftloop_serving.inference.tensor_plan import InputPlan

MAX_RANK = 32
"""The deepest nesting of an input whose rank the graph does not specify."""


class V1Codec:
    """The Codec of the protocol. Payloads are HTTP bodies (bytes) without raw buffers."""

    def __reduce__(self) -> str:
        return "V1"

    def decode(
        self,
        payload: bytes,
        json_length: int | None,  # noqa: ARG002
        signature: Signature,
        rules: Mapping[str, InputRule],
    ) -> InferRequest:
        plan = plan_of(signature)
        document = document_of(payload)
        if ("instances" in document) == ("inputs" in document):
            raise Rejected("the body must have either `instances` or `inputs`")
        if "instances" in document:
            columns = _columns(document["instances"], plan)
        else:
            columns = _named(document["inputs"], plan)
        inputs = plan.ordered(
            {name: _array(data, plan.inputs[name]) for name, data in columns.items()}
        )
        check_all(rules, inputs)
        return InferRequest(None, inputs, plan.output_names, rows_of(inputs, plan))

    def encode(
        self,
        request: InferRequest,
        outputs: Mapping[str, np.ndarray],
        model: str,  # noqa: ARG002
        version: int,  # noqa: ARG002
        signature: Signature,  # noqa: ARG002
    ) -> tuple[bytes, None]:
        """Encode the answer. An output without rows is repeated in each row, as in the lake."""
        rows = [_rows(outputs[name], request.rows) for name in request.outputs]
        predictions = (
            rows[0]
            if len(rows) == 1
            else [dict(zip(request.outputs, row, strict=True)) for row in zip(*rows, strict=True)]
        )
        return orjson.dumps({"predictions": predictions}, None, orjson.OPT_SERIALIZE_NUMPY), None

    def encode_rows(self, *_: Any) -> None:
        """Not supported: encoding together would not be faster."""


V1 = V1Codec()


def _columns(instances: Any, plan: Plan) -> dict[str, Any]:
    """Convert instances to one column per input. Raises Rejected."""
    if type(instances) is not list or not instances:
        raise Rejected("`instances` must be a list of at least one row")
    names = plan.input_names
    for given in (plan.inputs[name] for name in names):
        if not given.counts_rows and given.shape is not None:
            raise given.refused(
                " is the same for all rows; send all inputs in `inputs` instead of `instances`"
            )
    objects = sum(type(instance) is dict for instance in instances)
    if objects == 0 and len(names) == 1:
        return dict.fromkeys(names, instances)
    if objects < len(instances):
        raise Rejected(f"each instance must be an object with {listed(names)}")
    wanted = set(names)
    for place, instance in enumerate(instances):
        if instance.keys() != wanted:
            _known(instance, plan)
            missing = wanted - instance.keys()
            if missing:
                raise Rejected(f"input {min(missing)!r} is missing in instance {place}")
            name = min(instance.keys() - wanted)
            raise Rejected(f"input {name!r} has one value for all rows; send it in `inputs`")
    return {name: [instance[name] for instance in instances] for name in names}


def _named(inputs: Any, plan: Plan) -> dict[str, Any]:
    """Return `inputs` as an object; a model with one input also accepts its tensor alone."""
    if type(inputs) is dict:
        _known(inputs, plan)
        return inputs
    if type(inputs) is list and len(plan.input_names) == 1:
        return dict.fromkeys(plan.input_names, inputs)
    raise Rejected(f"`inputs` must be an object with {listed(plan.inputs)}")


def _known(names: Mapping[str, Any], plan: Plan) -> None:
    for name in names:
        if name not in plan.inputs:
            raise Rejected(f"unknown input {shown(name)}; the model takes {listed(plan.inputs)}")


def _array(data: Any, given: InputPlan) -> np.ndarray:
    """Convert nested lists to the input's tensor, with the shape of the first elements at each
    level."""
    dimensions: list[int] = []
    level = data
    rank = MAX_RANK if given.shape is None else len(given.shape)
    while type(level) is list and len(dimensions) < rank:
        dimensions.append(len(level))
        level = level[0] if level else None
    shape, size = given.fitted(dimensions)
    return array_of(data if shape else [data], shape, size, given)


def _rows(array: np.ndarray, rows: int) -> Any:
    """Return `rows` values that orjson can write; it accepts contiguous numeric arrays as they
    are."""
    values: Any = array.tolist() if array.dtype.kind in "OU" else np.ascontiguousarray(array)
    if array.shape[:1] == (rows,):
        return values
    return [values if array.ndim else array[()]] * rows
