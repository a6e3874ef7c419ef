"""How a model is run: `options.onnx` of its spec."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Any, Literal

import onnxruntime as ort
from annotated_types import Ge, Gt, Le

from driftloop_contracts.errors import Rejected

Provider = Literal["cpu", "cuda", "tensorrt", "openvino"]

PROVIDERS: dict[Provider, tuple[str, str]] = {
    "cpu": ("CPUExecutionProvider", "onnxruntime"),
    "cuda": ("CUDAExecutionProvider", "onnxruntime-gpu"),
    "tensorrt": ("TensorrtExecutionProvider", "onnxruntime-gpu"),
    "openvino": ("OpenVINOExecutionProvider", "onnxruntime-openvino"),
}
"""ONNX Runtime's name of each, and the package that brings it."""


@dataclass(frozen=True)
class BackendOptions:
    """`providers`: in order of preference; what none of them can run, the CPU runs.
    `memory_limit_mb`: for the tensors of a run, not the weights; None: no limit.
    `batching`: auto shares a run among requests if the graph is seen to answer each row alone; on
    says that it does; off never shares.
    `placement`: own gives the model replicas apart from the other models', `replicas` of them with
    `cpus` each."""

    providers: tuple[Provider, ...] = field(default=("cpu",))
    threads: Annotated[int, Ge(1)] = 1
    inter_op_threads: Annotated[int, Ge(1)] = 1
    graph_optimization: Literal["disabled", "basic", "extended", "all"] = "all"
    warm_up: Annotated[int, Ge(0)] = 1
    memory_limit_mb: Annotated[int, Ge(1)] | None = None
    batching: Literal["auto", "on", "off"] = "auto"
    max_batch_rows: Annotated[int, Ge(1)] = 1024
    max_queue_delay_ms: Annotated[float, Ge(0), Le(1000)] = 0.0
    placement: Literal["shared", "own"] = "shared"
    replicas: Annotated[int, Ge(1)] = 1
    cpus: Annotated[float, Gt(0)] = 0.2


_NAMES = tuple(f.name for f in fields(BackendOptions))


def parse_options(options: Mapping[str, Any]) -> BackendOptions:
    """From a spec's `options`. Raises Rejected, naming the option, for one that does not exist or
    is out of its range."""
    given = options.get("onnx", {})
    if not isinstance(given, dict):
        raise Rejected("options.onnx must be a mapping")
    for name in given:
        if name not in _NAMES:
            nearest = get_close_matches(str(name), _NAMES, n=1, cutoff=0.0)[0]
            raise Rejected(f"there is no option onnx.{name}; did you mean onnx.{nearest}?")
    if isinstance(given.get("providers"), list):
        given = {**given, "providers": tuple(given["providers"])}
    from pydantic import ValidationError

    try:
        parsed = BackendOptions(**vars(_checked()(**given)))
    except ValidationError as error:
        first = error.errors()[0]
        raise Rejected(f"option onnx.{first['loc'][0]}: {first['msg']}") from None
    if not parsed.providers:
        raise Rejected("option onnx.providers: name at least one")
    return parsed


@cache
def _checked() -> Any:
    """The same class with types and ranges checked."""
    from pydantic import ConfigDict  # half a second, which a graph's first load does without
    from pydantic.dataclasses import dataclass

    return dataclass(BackendOptions, config=ConfigDict(extra="forbid", strict=True), frozen=True)


def require_providers(options: BackendOptions) -> None:
    """Raises Rejected for a provider that the installed onnxruntime lacks. (Whether a machine has
    the device shows when it loads a graph.)"""
    available = ort.get_available_providers()
    for provider in options.providers:
        name, package = PROVIDERS[provider]
        if name not in available:
            raise Rejected(
                f"option onnx.providers: this onnxruntime has no {provider}; "
                f"install the package {package} in place of onnxruntime"
            )
