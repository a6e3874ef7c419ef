"""A model in the format of Triton's model configuration extension."""

from typing import Any

from driftloop_contracts.signature import Datatype, TensorSpec
from driftloop_onnx import BackendOptions
from driftloop_serving.batching.model_table import Served

_DEVICES = {"cuda": "KIND_GPU", "tensorrt": "KIND_GPU"}


def configuration(served: Served, version: int, options: BackendOptions) -> dict[str, Any]:
    """Return the configuration. `max_batch_size` is 0 if requests do not share runs; `dims` then
    include the row dimension."""
    wanted = served.deployment.version(version)
    assert wanted is not None
    loaded = served.versions.get(version)
    batched = loaded is not None and loaded.why_not_batched is None
    name = served.deployment.model.name
    config = {
        "name": name,
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "version_policy": {
            "specific": {"versions": [v.version for v in served.deployment.versions]}
        },
        "max_batch_size": options.max_batch_rows if batched else 0,
        "input": [
            *(_tensor(tensor, batched) for tensor in wanted.signature.inputs),
            # Not batched: requests that give an optional input run alone.
            *(_tensor(tensor, False) | {"optional": True} for tensor in wanted.signature.optional),
        ],
        "output": [_tensor(tensor, batched) for tensor in wanted.signature.outputs],
        "instance_group": [
            {"name": name, "kind": _DEVICES.get(options.providers[0], "KIND_CPU"), "count": 1}
        ],
        "parameters": _parameters(options, loaded.why_not_batched if loaded else None),
    }
    if batched:
        delay_us = int(options.max_queue_delay_ms * 1e3)
        config["dynamic_batching"] = {"max_queue_delay_microseconds": delay_us}
    return config


def _parameters(options: BackendOptions, why_not_batched: str | None) -> dict[str, Any]:
    values = {
        "providers": ",".join(options.providers),
        "intra_op_thread_count": options.threads,
        "inter_op_thread_count": options.inter_op_threads,
        "graph_optimization": options.graph_optimization,
        "memory_limit_mb": options.memory_limit_mb,
        "placement": options.placement,
        "why_not_batched": why_not_batched,
    }
    return {
        name: {"string_value": str(value)} for name, value in values.items() if value is not None
    }


def _tensor(tensor: TensorSpec, batched: bool) -> dict[str, Any]:
    dims = tensor.row_shape if batched else tensor.shape
    if dims is None:
        dims = (-1,)
    return {
        "name": tensor.name,
        "data_type": f"TYPE_{_type(tensor.datatype)}",
        # Triton has no scalars: a single value per row is written as [1].
        "dims": list(dims) or [1],
    }


def _type(datatype: Datatype) -> str:
    return "STRING" if datatype == "BYTES" else datatype
