"""The options of running a model: `options.onnx` of its spec."""

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
"""ONNX Runtime's name for each provider, and the package that contains it."""


@dataclass(frozen=True)
class BackendOptions:
    """How a graph is run.

    providers: in order of preference; the CPU runs the operators that none of them supports.
    memory_limit_mb: for the tensors of a run, without the weights; None: no limit. batching: `auto`
    shares runs among requests if the rows of the graph were found to be independent; `on` asserts
    that they are; `off` never shares. placement: `own` gives the model dedicated replicas,
    `replicas` of them with `cpus` each. stays_loaded: its graphs never leave memory, although a
    replica may only have `serving.graph_memory_mb` of them.
    """

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
    stays_loaded: bool = False


_NAMES = tuple(f.name for f in fields(BackendOptions))


def parse_options(options: Mapping[str, Any]) -> BackendOptions:
    """Parse a spec's `options`. Raises Rejected, naming the option, if it is unknown or out of
    range."""
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
    """Return the class with validation of types and ranges."""
    from pydantic import ConfigDict  # takes half a second, which a graph's first load avoids
    from pydantic.dataclasses import dataclass

    return dataclass(BackendOptions, config=ConfigDict(extra="forbid", strict=True), frozen=True)


def require_providers(options: BackendOptions) -> None:
    """Raises Rejected for a provider that the installed onnxruntime lacks. (Whether the machine has
    the device is checked when a graph is loaded.)"""
    available = ort.get_available_providers()
    for provider in options.providers:
        name, package = PROVIDERS[provider]
        if name not in available:
            raise Rejected(
                f"option onnx.providers: this onnxruntime has no {provider}; "
                f"install the package {package} in place of onnxruntime"
            )
