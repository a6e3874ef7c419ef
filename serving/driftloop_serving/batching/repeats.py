"""A client's retry under the id that it chose is the same prediction.

Answers to such requests are remembered (bounded), and a retry that arrives while the first try is
under way gets the first one's answer.
"""

from collections import OrderedDict

from driftloop_contracts.errors import DriftloopError
from driftloop_contracts.ids import PredictionId
from driftloop_serving.inference.infer_call import Codec, InferAnswer, InferCall

REMEMBERED_IDS = 4096
REMEMBERED_BYTES = 8 << 20

Key = tuple[Codec, str, str | None, PredictionId]
"""Protocol, model, pinned version if any, and the id that the client chose."""


class Repeats:
    def __init__(self) -> None:
        self._answers: OrderedDict[Key, InferAnswer] = OrderedDict()
        self._bytes = 0
        self._under_way: dict[Key, tuple[InferCall, list[InferCall]]] = {}

    def known(self, call: InferCall) -> InferAnswer | None:
        return self._answers.get(_key(call))

    def joins(self, call: InferCall) -> bool:
        """Whether the call waits for another's answer; if not, others may now wait for its own."""
        first = self._under_way.setdefault(_key(call), (call, []))
        if first[0] is call:
            return False
        first[1].append(call)
        return True

    def awaited(self, call: InferCall) -> bool:
        """Whether others wait for this call's answer, too."""
        if call.given_id is None:
            return False
        first = self._under_way.get(_key(call))
        return first is not None and first[0] is call and any(not c.cancelled for c in first[1])

    def settle(self, call: InferCall, answer: InferAnswer | DriftloopError) -> list[InferCall]:
        """The calls that waited for this one. An answer is remembered; an error is not."""
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
