"""Dedicated replicas of one model, and the client with which other replicas call them."""

import asyncio
from typing import Any

import structlog
from ray import serve
from ray.serve.handle import DeploymentHandle

from driftloop_contracts.errors import DriftloopError, RetryLater
from driftloop_serving.inference.infer_call import InferAnswer, InferCall
from driftloop_serving.replicas.application import own_application
from driftloop_serving.replicas.model_host import ModelHost
from driftloop_serving.replicas.ray_http_patch import keep_to_loopback
from driftloop_settings import Settings

log = structlog.get_logger()

PATIENCE_S = 60.0


class OwnReplica:
    """`settings`: the stack's settings, as JSON."""

    def __init__(self, settings: str) -> None:
        parsed = Settings.model_validate_json(settings)
        if parsed.serving.ray_address is None:
            keep_to_loopback()
        self._host = ModelHost(parsed, "own")

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        await self._host.hold(user_config)

    async def answer(self, call: InferCall) -> InferAnswer | DriftloopError:
        """Return the answer or the error. Errors are not raised, because the caller would get this
        process's traceback."""
        try:
            return await self._host.batcher.answer(call)
        except DriftloopError as error:
            return error

    def record_autoscaling_stats(self) -> dict[str, float]:
        return self._host.load()

    async def __del__(self) -> None:
        await self._host.close()


class OwnReplicaClient:
    """Calls the dedicated replicas of a model; the `forward` of a `Batcher`."""

    def __init__(self) -> None:
        self._handles: dict[str, DeploymentHandle] = {}

    async def __call__(self, call: InferCall) -> InferAnswer | DriftloopError:
        """Return the dedicated replica's answer or error. Raises RetryLater if none can answer."""
        later = RetryLater(f"no replica of model {call.model!r} can answer now; try again")
        try:
            handle: Any = self._handles.get(call.model)
            if handle is None:
                handle = await asyncio.to_thread(serve.get_app_handle, own_application(call.model))
                self._handles[call.model] = handle
            asked = handle.answer.remote(call)
            answer = await asyncio.wait_for(asked, min(call.timeout_s, PATIENCE_S))
        except Exception as error:  # the errors of Serve and Ray have no common base
            self._handles.pop(call.model, None)
            log.warning("inference.not_forwarded", model=call.model, error=type(error).__name__)
            raise later from None
        assert isinstance(answer, InferAnswer | DriftloopError)
        return answer
