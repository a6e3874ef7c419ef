"""The adapter for ONNX Runtime: reads a graph's signature, loads it with options, runs it."""

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
    """Import `warm_up` on first use: its logging takes longer to import than a graph to load."""
    if name not in ("Loaded", "load"):
        raise AttributeError(name)
    from driftloop_onnx import warm_up

    return getattr(warm_up, name)
