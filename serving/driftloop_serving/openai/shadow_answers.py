"""The engine's private API for the rollout: an answer of a candidate that nobody gets. It has no
time for one while clients' calls are in progress, and gives one up when they come."""

import asyncio
from collections.abc import Callable, MutableMapping
from dataclasses import asdict
from typing import Any

import orjson
import structlog
from starlette.responses import Response

from driftloop_contracts.errors import RetryLater
from driftloop_contracts.ids import new_prediction_id
from driftloop_contracts.shadow_call import ShadowCall
from driftloop_http.request_body import read_body
from driftloop_serving.openai.openai_exchange import (
    Message,
    Receive,
    RunningEngine,
    Send,
    engine_scope,
)
from driftloop_serving.openai.openai_rows import row_of, tool_calls_of
from driftloop_vllm.generation import CURRENT, Generation

log = structlog.get_logger()

LOOK_S = 0.02
LEAVE_S = 5.0
"""The most seconds that an answer which was given up may take to end."""


class ShadowAnswers:
    """One answer at a time. in_flight: the clients' calls in progress; busy_above: how many of them
    leave no time for it, unless a call says so; held: see `Likelihoods`."""

    def __init__(
        self,
        in_flight: Callable[[], int],
        busy_above: int,
        held: Callable[[str, int], tuple[RunningEngine, str]],
    ) -> None:
        self._in_flight = in_flight
        self._busy_above = busy_above
        self._held = held
        self._one = asyncio.Lock()

    async def answer(
        self, scope: MutableMapping[str, Any], receive: Receive, send: Send, body_limit_bytes: int
    ) -> None:
        """Answer a call of the rollout: the outputs of SIGNATURE as JSON, or `failed`, the reason.
        Raises Rejected for other calls, RetryLater if there is no time for it or if the version is
        not held."""
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        call = ShadowCall.read(headers, await read_body(receive, body_limit_bytes))
        if self._one.locked() or self._is_busy(call):
            raise RetryLater("the engine is busy")
        async with self._one:
            engine, name = self._held(call.model, call.version)
            found = await self._generated(engine, name, call)
        content = Response(orjson.dumps(found), media_type="application/json")
        await content(scope, receive, send)

    def _is_busy(self, call: ShadowCall) -> bool:
        above = self._busy_above if call.busy_above is None else call.busy_above
        return self._in_flight() > above

    async def _generated(
        self, engine: RunningEngine, name: str, call: ShadowCall
    ) -> dict[str, Any]:
        content = orjson.dumps(call.request(name))
        pending: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]
        left, parts, status = asyncio.Event(), list[bytes](), 0

        async def receive_here() -> Message:
            if pending:
                return pending.pop()
            await left.wait()
            return {"type": "http.disconnect"}

        async def send_here(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                parts.append(message.get("body", b""))

        generation = Generation()
        token = CURRENT.set(generation)
        try:
            scope = engine_scope(call.path, len(content), f"shadow-{new_prediction_id()}")
            answering = asyncio.ensure_future(engine.app(scope, receive_here, send_here))
        finally:
            CURRENT.reset(token)
        loop = asyncio.get_running_loop()
        until = loop.time() + call.limit_s
        while not answering.done():
            await asyncio.wait({answering}, timeout=LOOK_S)
            if not answering.done() and (self._is_busy(call) or loop.time() > until):
                left.set()  # vLLM frees an answer whose client has disconnected
                await asyncio.wait({answering}, timeout=LEAVE_S)
                answering.cancel()
                await asyncio.gather(answering, return_exceptions=True)
                raise RetryLater("the engine is busy")
        if engine.dead:
            raise RetryLater("the engine died")
        if error := answering.exception():
            log.warning("llm.shadow_broke", model=call.model, error=type(error).__name__)
        document = b"".join(parts)
        if status != 200 or not generation.choices:
            return {"failed": f"status {status}: {document[:200].decode(errors='replace')}"}
        calls = tool_calls_of(orjson.loads(document)).get(0)
        row = asdict(row_of(generation.in_order[0], "error", calls))
        del row["prompt_number"]
        return row
