"""ONNX Runtime behind one adapter: read a graph's signature, run it."""

from driftloop_onnx.model import OnnxModel, signature_of

__all__ = ["OnnxModel", "signature_of"]
