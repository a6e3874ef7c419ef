"""Recognises requests that differ from an earlier one only in the values of their JSON tensor.

If a body starts and ends like an earlier one, with a JSON value in between, then that value is the
tensor's data and everything else equals the earlier request, since replacing one JSON value changes
nothing else in a document. Only the values need to be parsed.
"""

from dataclasses import dataclass
from typing import Any

import orjson

from driftloop_serving.inference.tensor_plan import InputPlan

KEPT = 4
"""The number of templates kept for each model."""
LEARN_EVERY = 16
"""One in this many requests that match no template becomes a template."""


@dataclass(frozen=True, slots=True)
class Template:
    before: bytes
    after: bytes
    given: InputPlan
    shape: list[int]
    size: int
    id: str | None
    outputs: tuple[str, ...]
    binary: frozenset[str]
    rows: int

    def value_of(self, body: bytes) -> Any:
        """Parse the value at the tensor's place; None if the body does not match."""
        if not (body.startswith(self.before) and body.endswith(self.after)):
            return None
        try:
            return orjson.loads(memoryview(body)[len(self.before) : len(body) - len(self.after)])
        except orjson.JSONDecodeError:
            return None


def parted(body: bytes, document: dict[str, Any]) -> tuple[bytes, bytes] | None:
    """Split the body into the text before and after the data of its only tensor; None unless the
    data is a flat list."""
    tensor = document["inputs"][0]
    start = body.find(b"[", body.find(b'"data"'))
    end = body.find(b"]", start) + 1
    if start < 0 or end <= start:
        return None
    before, after = body[:start], body[end:]
    try:
        emptied = orjson.loads(before + b"null" + after)
    except orjson.JSONDecodeError:
        return None
    # Verify the split: with null in that place, the document must differ in nothing else.
    wanted = {**document, "inputs": [{**tensor, "data": None}]}
    return (before, after) if emptied == wanted else None
