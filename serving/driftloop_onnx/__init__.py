"""ONNX Runtime behind one adapter: read a graph's signature, load it with options, run it."""

from typing import TYPE_CHECKING, Any

from driftloop_onnx.first_load import first_load
from driftloop_onnx.model import OnnxModel, signature_of
from driftloop_onnx.options import BackendOptions, parse_options, require_providers

if TYPE_CHECKING:
    from driftloop_onnx.warm_up import Loaded, load

__all__ = [
    "BackendOptions",
    "Loaded",
    "OnnxModel",
    "first_load",
    "load",
    "parse_options",
    "require_providers",
    "signature_of",
]


def __getattr__(name: str) -> Any:
    """`warm_up` logs, and what logging imports takes longer than a graph's first load."""
    if name not in ("Loaded", "load"):
        raise AttributeError(name)
    from driftloop_onnx import warm_up

    return getattr(warm_up, name)
