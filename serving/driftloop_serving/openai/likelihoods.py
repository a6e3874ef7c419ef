"""The engine's private API for the monitor: the likelihood of a text. Answers to clients have
priority."""

import asyncio
from collections.abc import Callable, MutableMapping
from typing import Any

from fastapi.responses import JSONResponse

from driftloop_contracts.errors import DriftloopError, RetryLater
from driftloop_contracts.likelihood import NATS, LikelihoodCall
from driftloop_http.request_body import read_body
from driftloop_serving.openai.openai_exchange import Receive, RunningEngine, Send

LOOK_S = 0.02
GIVE_WAY_S = 2.0
"""The longest time that a text waits, in seconds, for a moment without answers in progress."""


class Likelihoods:
    """Scores one text at a time. `busy`: whether answers are in progress; `held`: returns the
    engine and its name for a version, or raises if the version is not held."""

    def __init__(
        self, busy: Callable[[], bool], held: Callable[[str, int], tuple[RunningEngine, str]]
    ) -> None:
        self._busy = busy
        self._held = held
        self._one = asyncio.Lock()

    async def answer(
        self, scope: MutableMapping[str, Any], receive: Receive, send: Send, body_limit_bytes: int
    ) -> None:
        """Answer a call of the monitor. Raises Rejected for other calls, RetryLater if busy or if
        the version is not held."""
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        call = LikelihoodCall.read(headers, await read_body(receive, body_limit_bytes))
        if self._one.locked():
            raise RetryLater("another text is being scored; try again")
        async with self._one:
            await self._quiet()
            engine, name = self._held(call.model, call.version)
            try:
                nats = await engine.nats_per_token(name, call)
            except DriftloopError:
                raise
            except Exception as error:  # the errors of vLLM have no common base
                raise RetryLater(f"the engine: {type(error).__name__}") from error
        await JSONResponse({NATS: nats})(scope, receive, send)

    async def _quiet(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + GIVE_WAY_S
        while self._busy() and loop.time() < until:
            await asyncio.sleep(LOOK_S)
