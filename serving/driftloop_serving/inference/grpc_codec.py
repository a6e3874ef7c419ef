"""Converts the tensors of ModelInfer messages, typed or raw, to arrays and back.

A request with `raw_input_contents` gets raw outputs, any other request typed ones. FP16 has no
typed form, so an answer that contains it is raw.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from driftloop_contracts.errors import Rejected, listed, shown
from driftloop_contracts.input_rules import InputRule, check_all
from driftloop_contracts.signature import Signature
from driftloop_serving.inference.binary_tensors import array_at, buffer_of, text_of
from driftloop_serving.inference.grpc_protocol import open_inference_pb2 as pb
from driftloop_serving.inference.infer_call import InferRequest
from driftloop_serving.inference.json_tensors import array_of
from driftloop_serving.inference.plan import Plan, plan_of, rows_of
from driftloop_serving.inference.tensor_plan import InputPlan

CONTENTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents",
    "INT32": "int_contents", "INT64": "int64_contents", "UINT8": "uint_contents",
    "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
"""The field of InferTensorContents that holds the values of each datatype."""

Tensor = pb.ModelInferRequest.InferInputTensor


class GrpcCodec:
    """The Codec of ModelInfer. Payloads are ModelInferRequest and ModelInferResponse."""

    def __reduce__(self) -> str:
        return "GRPC"

    def decode(
        self,
        payload: Any,
        json_length: int | None,  # noqa: ARG002
        signature: Signature,
        rules: Mapping[str, InputRule],
    ) -> InferRequest:
        request: pb.ModelInferRequest = payload
        plan = plan_of(signature)
        inputs = _inputs(request, plan)
        check_all(rules, inputs)
        outputs = _outputs(request, plan)
        raw = bool(request.raw_input_contents) or any(
            plan.outputs[name].datatype not in CONTENTS for name in outputs
        )
        return InferRequest(
            request.id or None,
            inputs,
            outputs,
            rows_of(inputs, plan),
            frozenset(outputs if raw else ()),
        )

    def encode(
        self,
        request: InferRequest,
        outputs: Mapping[str, np.ndarray],
        model: str,
        version: int,
        signature: Signature,
    ) -> tuple[pb.ModelInferResponse, None]:
        plan = plan_of(signature)
        answer = pb.ModelInferResponse(
            model_name=model, model_version=str(version), id=request.id or ""
        )
        for name in request.outputs:
            array, datatype = outputs[name], plan.outputs[name].datatype
            tensor = answer.outputs.add(name=name, datatype=datatype, shape=array.shape)
            if request.binary:
                answer.raw_output_contents.append(buffer_of(array))
            else:
                values = array.ravel().tolist()
                if datatype == "BYTES":
                    values = [text.encode() for text in values]
                getattr(tensor.contents, CONTENTS[datatype]).extend(values)
        return answer, None

    def encode_rows(self, *_: Any) -> None:
        """Not supported: encoding together would not be faster."""


GRPC = GrpcCodec()


def _inputs(request: pb.ModelInferRequest, plan: Plan) -> dict[str, np.ndarray]:
    """Return the input arrays in the signature's order. Raises Rejected."""
    buffers = request.raw_input_contents
    if buffers and len(buffers) != len(request.inputs):
        raise Rejected(
            f"raw_input_contents has {len(buffers)} buffers for {len(request.inputs)} inputs"
        )
    found: dict[str, np.ndarray] = {}
    for place, tensor in enumerate(request.inputs):
        wanted = plan.inputs.get(tensor.name)
        if wanted is None:
            known = listed(plan.inputs)
            raise Rejected(f"unknown input {shown(tensor.name)}; the model takes {known}")
        if tensor.name in found:
            raise wanted.refused(" is given twice")
        found[tensor.name] = _array(tensor, buffers[place] if buffers else None, wanted)
    return plan.ordered(found)


def _array(tensor: Tensor, raw: bytes | None, plan: InputPlan) -> np.ndarray:
    if tensor.datatype != plan.datatype:
        raise plan.refused(
            f" has the datatype {shown(tensor.datatype)}; it must be {plan.datatype}"
        )
    if any(name.startswith("shared_memory_") for name in tensor.parameters):
        raise plan.refused(": shared memory is not supported")
    shape, size = plan.fitted(list(tensor.shape))
    if raw is not None:
        return array_at(raw, 0, len(raw), shape, size, plan)
    field = CONTENTS.get(plan.datatype)
    if field is None:
        raise plan.refused(f": {plan.datatype} data must be in raw_input_contents")
    values = list(getattr(tensor.contents, field))
    if plan.datatype == "BYTES":
        values = [text_of(element, plan) for element in values]
    return array_of(values, shape, size, plan)


def _outputs(request: pb.ModelInferRequest, plan: Plan) -> tuple[str, ...]:
    """Return the requested output names without duplicates; all outputs if none is named."""
    names = tuple(dict.fromkeys(output.name for output in request.outputs))
    for name in names:
        if name not in plan.outputs:
            known = listed(plan.outputs)
            raise Rejected(f"unknown output {shown(name)}; the model returns {known}")
    return names or plan.output_names
