"""What a client's requests have in common: all but the values of one JSON tensor.

If a body begins and ends as an earlier one did, with a JSON value in between, that value is the
tensor's data and everything else is as in the earlier request: replacing a value by another changes
nothing else of a JSON document. So only the values are parsed.
"""

from dataclasses import dataclass
from typing import Any

import orjson

from driftloop_serving.inference.tensor_plan import InputPlan

KEPT = 4
"""Templates of a model: as many shapes and ways of writing are recognised at a time."""
LEARN_EVERY = 16
"""One of this many requests that fit no template becomes one."""


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
        """The value in the tensor's place; None if the body does not match."""
        if not (body.startswith(self.before) and body.endswith(self.after)):
            return None
        try:
            return orjson.loads(memoryview(body)[len(self.before) : len(body) - len(self.after)])
        except orjson.JSONDecodeError:
            return None


def parted(body: bytes, document: dict[str, Any]) -> tuple[bytes, bytes] | None:
    """What stands before and after the data of the body's only tensor, if that is a flat list."""
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
    # Whatever was found, it is the data's place if a null there is all that differs.
    wanted = {**document, "inputs": [{**tensor, "data": None}]}
    return (before, after) if emptied == wanted else None
