"""Answers retries with the same client-chosen id as one prediction.

A bounded number of answers is remembered. A retry that arrives while the first request is in
progress gets the answer to the first.
"""

from collections import OrderedDict

from driftloop_contracts.errors import DriftloopError
from driftloop_contracts.ids import PredictionId
from driftloop_serving.inference.infer_call import Codec, InferAnswer, InferCall

REMEMBERED_IDS = 4096
REMEMBERED_BYTES = 8 << 20

Key = tuple[Codec, str, str | None, PredictionId]
"""Protocol, model, pinned version or None, and the id chosen by the client."""


class Repeats:
    def __init__(self) -> None:
        self._answers: OrderedDict[Key, InferAnswer] = OrderedDict()
        self._bytes = 0
        self._under_way: dict[Key, tuple[InferCall, list[InferCall]]] = {}

    def known(self, call: InferCall) -> InferAnswer | None:
        return self._answers.get(_key(call))

    def joins(self, call: InferCall) -> bool:
        """Whether the call waits for the answer to an earlier call with the same key. If not, later
        calls may wait for this one."""
        first = self._under_way.setdefault(_key(call), (call, []))
        if first[0] is call:
            return False
        first[1].append(call)
        return True

    def awaited(self, call: InferCall) -> bool:
        """Whether other calls that are not cancelled wait for this call's answer."""
        if call.given_id is None:
            return False
        first = self._under_way.get(_key(call))
        return first is not None and first[0] is call and any(not c.cancelled for c in first[1])

    def settle(self, call: InferCall, answer: InferAnswer | DriftloopError) -> list[InferCall]:
        """Return the calls that waited for this one. Answers are remembered, errors are not."""
        key = _key(call)
        first = self._under_way.get(key)
        if first is None or first[0] is not call:
            return []
        del self._under_way[key]
        if isinstance(answer, InferAnswer):
            self._answers[key] = answer
            self._bytes += _size(answer)
            while len(self._answers) > REMEMBERED_IDS or self._bytes > REMEMBERED_BYTES:
                self._bytes -= _size(self._answers.popitem(last=False)[1])
        return first[1]


def _key(call: InferCall) -> Key:
    assert call.given_id is not None
    return call.codec, call.model, call.pinned, call.given_id


def _size(answer: InferAnswer) -> int:
    return len(answer.payload) if isinstance(answer.payload, bytes) else 1024
