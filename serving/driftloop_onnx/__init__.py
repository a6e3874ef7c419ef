"""ONNX Runtime behind one adapter: read a graph's signature, load it with options, run it."""

from driftloop_onnx.model import OnnxModel, signature_of
from driftloop_onnx.options import BackendOptions, parse_options, require_providers
from driftloop_onnx.warm_up import Loaded, load

__all__ = [
    "BackendOptions",
    "Loaded",
    "OnnxModel",
    "load",
    "parse_options",
    "require_providers",
    "signature_of",
]
