"""Requests and answers of the Open Inference Protocol v2: JSON, optionally followed by raw
buffers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from driftloop_contracts.errors import Rejected, listed, shown
from driftloop_contracts.input_rules import InputRule, check_all
from driftloop_contracts.signature import Signature
from driftloop_serving.inference.binary_tensors import array_at, buffer_of, raw_array
from driftloop_serving.inference.infer_call import InferRequest
from driftloop_serving.inference.json_tensors import array_of, document_of, json_of, json_of_rows
from driftloop_serving.inference.plan import Plan, plan_of, remember, rows_of
from driftloop_serving.inference.template import KEPT, LEARN_EVERY, Template, parted
from driftloop_serving.inference.tensor_plan import InputPlan, OutputPlan

_NONE: frozenset[str] = frozenset()


class V2Codec:
    """The Codec of the protocol. Payloads are HTTP bodies (bytes)."""

    def __reduce__(self) -> str:
        return "V2"

    def decode(
        self,
        payload: bytes,
        json_length: int | None,
        signature: Signature,
        rules: Mapping[str, InputRule],
    ) -> InferRequest:
        plan = plan_of(signature)
        if json_length == 0:
            request = _raw_request(payload, plan)
        elif json_length is None and (known := _like_another(payload, plan)) is not None:
            request = known
        else:
            document = document_of(
                payload if json_length is None else _json_part(payload, json_length)
            )
            given_id = document.get("id")
            if given_id is not None and type(given_id) is not str:
                raise Rejected("`id` must be a string")
            inputs = _inputs(document.get("inputs"), payload, json_length, plan)
            outputs, binary = _outputs(document, plan)
            request = InferRequest(given_id, inputs, outputs, rows_of(inputs, plan), binary)
            if json_length is None and len(plan.inputs) == 1:
                _learn(payload, document, request, plan)
        check_all(rules, request.inputs)
        return request

    def encode(
        self,
        request: InferRequest,
        outputs: Mapping[str, np.ndarray],
        model: str,
        version: int,
        signature: Signature,
    ) -> tuple[bytes, int | None]:
        plan = plan_of(signature)
        parts = [plan.starts.get((model, version)) or _start(model, version, plan)]
        if request.id is not None:
            parts += (b',"id":', orjson.dumps(request.id))
        buffers = []
        before = b',"outputs":['
        for name in request.outputs:
            array, output = outputs[name], plan.outputs[name]
            head = output.heads.get(array.shape) or _head(output, array.shape)
            if name in request.binary:
                buffers.append(buffer_of(array))
                parts += (before, head, b',"parameters":{"binary_data_size":%d}' % len(buffers[-1]))
            else:
                parts += (before, head, b',"data":', json_of(array))
            before = b"},"
        parts.append(b"}]}")
        if not buffers:
            return b"".join(parts), None
        return b"".join([*parts, *buffers]), sum(map(len, parts))

    def encode_rows(
        self,
        requests: Sequence[InferRequest],
        outputs: Mapping[str, np.ndarray],
        model: str,
        version: int,
        signature: Signature,
    ) -> list[tuple[bytes, None]] | None:
        plan = plan_of(signature)
        names = plan.output_names
        if any(r.outputs is not names or r.binary or r.id is not None for r in requests):
            return None
        columns: list[Sequence[bytes]] = []
        before = (
            plan.starts.get((model, version)) or _start(model, version, plan)
        ) + b',"outputs":['
        for name in names:
            array, output = outputs[name], plan.outputs[name]
            rows = json_of_rows(array)
            if rows is None:
                return None
            shape = (1, *array.shape[1:])
            before += (output.heads.get(shape) or _head(output, shape)) + b',"data":['
            columns += ([before] * len(rows), rows)
            before = b"]},"
        columns.append([b"]}]}"] * len(requests))
        return [(b"".join(parts), None) for parts in zip(*columns, strict=True)]


V2 = V2Codec()


def _like_another(payload: bytes, plan: Plan) -> InferRequest | None:
    """Decode a request that differs from an earlier one only in its tensor's values; None if it
    does not match."""
    for t in plan.templates:
        data = t.value_of(payload)
        if data is not None:
            inputs = {t.given.name: array_of(data, t.shape, t.size, t.given)}
            return InferRequest(t.id, inputs, t.outputs, t.rows, t.binary)
    return None


def _learn(payload: bytes, document: dict[str, Any], request: InferRequest, plan: Plan) -> None:
    plan.unlike += 1
    if plan.unlike % LEARN_EVERY != 1:
        return
    found = parted(payload, document)
    if found is not None:
        (given,) = plan.inputs.values()
        array = request.inputs[given.name]
        learnt = Template(
            *found,
            given,
            [*array.shape],
            array.size,
            request.id,
            request.outputs,
            request.binary,
            request.rows,
        )
        plan.templates = (learnt, *plan.templates[: KEPT - 1])


def _json_part(payload: bytes, json_length: int) -> bytes:
    if not 0 < json_length <= len(payload):
        raise Rejected(
            f"Inference-Header-Content-Length is {json_length}, the body has {len(payload)} bytes"
        )
    return payload[:json_length]


def _raw_request(payload: bytes, plan: Plan) -> InferRequest:
    """Decode a body without JSON: the buffer of the only input. All outputs are returned as
    buffers."""
    if len(plan.input_names) != 1:
        raise Rejected(
            "Inference-Header-Content-Length 0 is for models with one input;"
            f" this one takes {listed(plan.inputs)}"
        )
    given = plan.inputs[plan.input_names[0]]
    inputs = {given.name: raw_array(payload, given)}
    return InferRequest(
        None, inputs, plan.output_names, rows_of(inputs, plan), frozenset(plan.output_names)
    )


def _inputs(
    tensors: Any, payload: bytes, json_length: int | None, plan: Plan
) -> dict[str, np.ndarray]:
    if type(tensors) is not list:
        raise Rejected("`inputs` must be a list of tensors")
    found: dict[str, np.ndarray] = {}
    offset = json_length
    for tensor in tensors:
        name = tensor.get("name") if type(tensor) is dict else None
        given = plan.inputs.get(name) if type(name) is str else None
        if given is None:
            raise Rejected(f"unknown input {shown(name)}; the model takes {listed(plan.inputs)}")
        if name in found:
            raise given.refused(" is given twice")
        if tensor.get("datatype") != given.datatype:
            datatype = shown(tensor.get("datatype"))
            raise given.refused(f" has the datatype {datatype}; it must be {given.datatype}")
        shape, size = given.fitted(tensor.get("shape"))
        nbytes = _buffer_size(tensor, given) if "parameters" in tensor else None
        if nbytes is None:
            found[given.name] = array_of(tensor.get("data"), shape, size, given)
        elif offset is None:
            raise given.refused(
                ": `binary_data_size` needs the header Inference-Header-Content-Length"
            )
        else:
            found[given.name] = array_at(payload, offset, nbytes, shape, size, given)
            offset += nbytes
    if offset is not None and offset != len(payload):
        raise Rejected(f"{len(payload) - offset} bytes are left in the body after the last tensor")
    return plan.ordered(found)


def _buffer_size(tensor: dict[str, Any], given: InputPlan) -> int | None:
    """Return the number of bytes of the tensor in the body; None if its data is in the JSON."""
    parameters = _parameters(tensor)
    nbytes = parameters.get("binary_data_size")
    if nbytes is None:
        return None
    if type(nbytes) is not int or nbytes < 0:
        raise given.refused(": `binary_data_size` must be a whole number from 0")
    if "data" in tensor:
        raise given.refused(" has both `data` and `binary_data_size`")
    return nbytes


def _outputs(document: dict[str, Any], plan: Plan) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the requested outputs, in order, and the set of those to be returned as buffers."""
    wanted = document.get("outputs")
    all_binary = "parameters" in document and _flag(
        _parameters(document), "binary_data_output", False
    )
    if wanted is None or wanted == []:
        return plan.output_names, frozenset(plan.output_names) if all_binary else _NONE
    if type(wanted) is not list:
        raise Rejected("`outputs` must be a list of tensors")
    binary: dict[str, bool] = {}
    for output in wanted:
        name = output.get("name") if type(output) is dict else None
        if type(name) is not str or name not in plan.outputs:
            raise Rejected(
                f"unknown output {shown(name)}; the model returns {listed(plan.outputs)}"
            )
        parameters = _parameters(output)
        if parameters.get("classification"):
            raise Rejected(f"output {name!r}: `classification` is not supported")
        binary[name] = _flag(parameters, "binary_data", all_binary)
    return tuple(binary), frozenset(name for name, flag in binary.items() if flag)


def _parameters(holder: dict[str, Any]) -> dict[str, Any]:
    """Return the checked `parameters` of a tensor or of the request. Raises Rejected."""
    parameters = holder.get("parameters")
    if parameters is None:
        return {}
    if type(parameters) is not dict:
        raise Rejected(f"the `parameters` of {_called(holder)} must be an object")
    if "shared_memory_region" in parameters:
        raise Rejected(
            f"{_called(holder)}: shared memory is not supported; send the data in the body"
        )
    return parameters


def _called(holder: dict[str, Any]) -> str:
    return shown(holder["name"]) if "name" in holder else "the request"


def _flag(parameters: dict[str, Any], name: str, default: bool) -> bool:
    flag = parameters.get(name, default)
    if type(flag) is not bool:
        raise Rejected(f"the parameter `{name}` must be true or false")
    return flag


def _start(model: str, version: int, plan: Plan) -> bytes:
    """Return an answer's JSON up to its id or outputs."""
    document = {"model_name": model, "model_version": str(version)}
    return remember(plan.starts, (model, version), orjson.dumps(document)[:-1])


def _head(output: OutputPlan, shape: tuple[int, ...]) -> bytes:
    """Return a tensor's JSON up to its data."""
    tensor = {"name": output.name, "datatype": output.datatype, "shape": shape}
    return remember(output.heads, shape, orjson.dumps(tensor)[:-1])
