"""Reads parts of an ONNX file without a library, as far as protobuf's wire format requires.

Parsing the whole file would need a second for imports, and memory for the weights. The command line
and the gateway only need the names of the files that a graph references.
"""

from collections.abc import Iterator

Message = memoryview

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}  # fmt: skip
"""The fields of onnx.proto that lead to a TensorProto, by message and number."""
_GRAPH, _INITIALIZER, _INPUT, _OUTPUT = 7, 5, 11, 12
_NAME, _TENSOR_NAME = 1, 8
_EXTERNAL_DATA, _DATA_LOCATION, _EXTERNAL = 13, 14, 1


def external_locations(model: bytes | memoryview) -> list[str]:
    """Return the files that a graph's tensors reference for their values, as written there, without
    duplicates. Raises ValueError if it is not an ONNX file."""
    found: dict[str, None] = {}
    pending = [("model", memoryview(model))]
    while pending:
        kind, message = pending.pop()
        if kind == "tensor":
            found |= dict.fromkeys(_locations(message))
            continue
        for number, value in _fields(message):
            child = _CHILDREN[kind].get(number)
            if child is not None and isinstance(value, memoryview):
                pending.append((child, value))
    return list(found)


def shapeless(model: bytes | memoryview) -> frozenset[str]:
    """Return the graph's inputs and outputs without any shape, not even a rank. Raises
    ValueError."""
    (graph,) = _values(memoryview(model), _GRAPH) or [memoryview(b"")]
    tensors = [*_values(graph, _INPUT), *_values(graph, _OUTPUT)]
    return frozenset(
        _text(_values(tensor, _NAME)) for tensor in tensors if not _values_at(tensor, (2, 1, 2))
    )


def width(model: bytes | memoryview) -> int:
    """How many inputs and outputs the graph has. An input for which the graph has a value is a
    weight, or optional, and not counted. Raises ValueError."""
    (graph,) = _values(memoryview(model), _GRAPH) or [memoryview(b"")]
    inputs = {_text(_values(tensor, _NAME)) for tensor in _values(graph, _INPUT)}
    weights = {_text(_values(tensor, _TENSOR_NAME)) for tensor in _values(graph, _INITIALIZER)}
    return len(inputs - weights) + len(_values(graph, _OUTPUT))


def _locations(tensor: Message) -> Iterator[str]:
    fields = list(_fields(tensor))
    if (_DATA_LOCATION, _EXTERNAL) not in fields:
        return
    for number, entry in fields:
        if number != _EXTERNAL_DATA or not isinstance(entry, memoryview):
            continue
        if _text(_values(entry, 1)) == "location":
            yield _text(_values(entry, 2))


def _values_at(message: Message, path: tuple[int, ...]) -> list[Message]:
    found = [message]
    for number in path:
        found = [value for each in found for value in _values(each, number)]
    return found


def _values(message: Message, wanted: int) -> list[Message]:
    return [v for number, v in _fields(message) if number == wanted and isinstance(v, memoryview)]


def _text(values: list[Message]) -> str:
    return bytes(values[-1]).decode() if values else ""


def _fields(message: Message) -> Iterator[tuple[int, int | Message]]:
    """Yield field numbers and values, without values that are neither integers nor bytes."""
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield number, value
        elif kind == _BYTES:
            length, at = _varint(message, at)
            if at + length > end:
                raise ValueError("not a protobuf message")
            yield number, message[at : at + length]
            at += length
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError("not a protobuf message")


def _varint(message: Message, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 70:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("not a protobuf message")
