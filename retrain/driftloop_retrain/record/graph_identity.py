"""Compares exported graphs by what they compute, ignoring metadata."""

import hashlib
from pathlib import Path


def graph_hash(folder: Path) -> str:
    """Return the SHA-256 of `model.onnx` and its external data, without producers, versions, doc
    strings and metadata. Raises OSError if there is none."""
    import onnx

    model = onnx.load(folder / "model.onnx")
    for name in ("producer_name", "producer_version", "domain", "model_version", "doc_string"):
        model.ClearField(name)
    del model.metadata_props[:]
    _strip(model.graph)
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()


def _strip(graph: object) -> None:
    from onnx import GraphProto

    assert isinstance(graph, GraphProto)
    graph.doc_string = ""
    del graph.metadata_props[:]
    for items in (graph.node, graph.initializer, graph.input, graph.output, graph.value_info):
        for item in items:
            item.doc_string = ""
            del item.metadata_props[:]
    for node in graph.node:
        for attribute in node.attribute:
            attribute.doc_string = ""
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _strip(inner)
