"""One infer request from body to answer: decode, choose, run, keep in the spool, encode."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import structlog

from driftloop_contracts.errors import DriftloopError, Rejected
from driftloop_contracts.ids import MAX_ID_CHARS, new_prediction_id
from driftloop_serving.codec import InferRequest, decode, encode
from driftloop_serving.model_table import Chosen, ModelTable
from driftloop_serving.spool import SpoolWriter

log = structlog.get_logger()

INLINE_ROWS = 256
"""Up to so many rows a run takes less than handing it to a thread and back is worth."""
REMEMBERED_IDS = 4096
REMEMBERED_BYTES = 8 << 20


class ModelFailed(DriftloopError):
    """The graph raised on an input that fits its signature (HTTP 500)."""


@dataclass(frozen=True, slots=True)
class Answer:
    body: bytes
    prediction_id: str
    version: int


Request = tuple[str, str | None, str]
"""Model, pinned version if any, and the id that the client chose."""


class RecentAnswers:
    """Answers to requests whose ids clients chose, so that a retry is the same prediction. Bounded."""

    def __init__(self) -> None:
        self._answers: OrderedDict[Request, Answer] = OrderedDict()
        self._bytes = 0

    def get(self, request: Request) -> Answer | None:
        return self._answers.get(request)

    def put(self, request: Request, answer: Answer) -> None:
        self._answers[request] = answer
        self._bytes += len(answer.body)
        while len(self._answers) > REMEMBERED_IDS or self._bytes > REMEMBERED_BYTES:
            self._bytes -= len(self._answers.popitem(last=False)[1].body)


class Inference:
    """`table` is replaced as a whole when the deployments change."""

    def __init__(self, spool: SpoolWriter) -> None:
        self.table = ModelTable()
        self._spool = spool
        self._recent = RecentAnswers()
        self._under_way: dict[Request, asyncio.Future[Answer]] = {}

    async def infer(
        self, model: str, pinned: str | None, body: bytes, headers: Mapping[bytes, bytes],
        received_at: float,
    ) -> Answer:  # fmt: skip
        """`received_at`: time.perf_counter() at the request's last byte. Raises DriftloopError."""
        given = chosen_id(headers)
        if given is None:
            return await self._answer(
                model, pinned, body, headers, new_prediction_id(), received_at
            )
        key = (model, pinned, given)
        known = self._recent.get(key)
        if known is not None:
            return known
        if key in self._under_way:
            return await asyncio.shield(self._under_way[key])
        future = self._under_way[key] = asyncio.get_running_loop().create_future()
        try:
            answer = await self._answer(model, pinned, body, headers, given, received_at)
        except BaseException as error:
            future.set_exception(error)
            future.exception()  # looked at: nobody else may be waiting
            raise
        finally:
            del self._under_way[key]
        self._recent.put(key, answer)
        future.set_result(answer)
        return answer

    async def _answer(
        self, model: str, pinned: str | None, body: bytes, headers: Mapping[bytes, bytes],
        prediction_id: str, received_at: float,
    ) -> Answer:  # fmt: skip
        routing_key = headers.get(b"x-routing-key") or prediction_id.encode()
        chosen = self.table.choose(model, pinned, routing_key)
        request = decode(body, chosen.model.signature, chosen.rules)
        outputs: dict[str, np.ndarray] | None = None
        error: str | None = None
        try:
            if request.rows <= INLINE_ROWS:
                outputs = chosen.model.run(request.inputs)
            else:
                outputs = await asyncio.to_thread(chosen.model.run, request.inputs)
        except Exception as failure:  # onnxruntime's own errors share no public base
            log.warning("inference.failed", model=model, version=chosen.version, error=str(failure))
            error = type(failure).__name__
        self._keep(model, chosen, prediction_id, request, outputs, error, received_at)
        if outputs is None:
            raise ModelFailed(f"version {chosen.version} of model {model!r} failed on this request")
        encoded = encode(request, outputs, model, chosen.version, chosen.model.signature)
        return Answer(encoded, prediction_id, chosen.version)

    def _keep(
        self, model: str, chosen: Chosen, prediction_id: str, request: InferRequest,
        outputs: Mapping[str, np.ndarray] | None, error: str | None, received_at: float,
    ) -> None:  # fmt: skip
        self._spool.append_prediction(
            model=model, version=chosen.version, arm=chosen.arm, prediction_id=prediction_id,
            latency_s=time.perf_counter() - received_at, rows=request.rows,
            signature=chosen.model.signature, inputs=request.inputs, outputs=outputs, error=error,
        )  # fmt: skip


def chosen_id(headers: Mapping[bytes, bytes]) -> str | None:
    """The client's `x-prediction-id`; raises Rejected if it cannot be one."""
    given = headers.get(b"x-prediction-id")
    if given is None:
        return None
    if not 0 < len(given) <= MAX_ID_CHARS or not all(0x21 <= byte <= 0x7E for byte in given):
        raise Rejected(f"x-prediction-id must be 1 to {MAX_ID_CHARS} visible ASCII characters")
    return given.decode()
