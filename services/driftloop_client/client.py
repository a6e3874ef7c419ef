"""The client and its asynchronous twin: thin shells that send exchanges and wait."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from driftloop_client.api import Api
from driftloop_client.events import EventStream, LoopEvent
from driftloop_client.exchange import Call, Exchange, Result, checked, wait_s
from driftloop_client.prediction import Prediction
from driftloop_contracts.loopback import is_loopback

ROWS_PER_REQUEST = 5_000
SILENT_S = 45.0
"""A stream says every 15 seconds that it is there."""
RESUME_S = 0.5


def _options(url: str, key: str | None, timeout_s: float) -> dict[str, Any]:
    """No proxy reaches this machine's loopback, whatever the environment says."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    outside = not is_loopback(urlsplit(url).hostname or "")
    return {"headers": headers, "timeout": timeout_s, "trust_env": outside}


def _arguments(call: Call) -> dict[str, Any]:
    found: dict[str, Any] = {"content": call.content, "headers": dict(call.headers)}
    if call.params:
        found["params"] = dict(call.params)
    if call.timeout_s is not None:
        found["timeout"] = call.timeout_s
    return found


def _streamed(call: Call) -> dict[str, Any]:
    return {**_arguments(call), "timeout": httpx.Timeout(SILENT_S / 3, read=SILENT_S)}


def _pause_s(
    call: Call, outcome: httpx.Response | httpx.TransportError, attempt: int, left_s: float
) -> float:
    """Until a stream that ended is asked for again. Raises what the caller should do."""
    pause_s = wait_s(call, outcome, attempt, left_s)
    if pause_s is not None:
        return pause_s
    assert isinstance(outcome, httpx.Response)
    checked(outcome)
    return RESUME_S  # the server ended it: it is started again


class Client:
    """One stack. `url`: of its serving port; `control`: of its control API (port 8001 of the same
    host, if not given); `key`: an API key, where the stack asks for one. A call that may succeed
    later is repeated for `patience_s`, and a prediction keeps its id meanwhile, so that it is
    recorded once. `http`: a client of your own, for proxies or certificates.

    Raises the errors of `driftloop_client`, with the server's sentence.
    """

    def __init__(
        self,
        url: str = "http://localhost:8000",
        key: str | None = None,
        *,
        control: str | None = None,
        timeout_s: float = 30.0,
        patience_s: float = 30.0,
        rows_per_request: int = ROWS_PER_REQUEST,
        http: httpx.Client | None = None,
    ) -> None:
        self._api = Api(url, control, rows_per_request)
        self._patience_s = patience_s
        self._http = http or httpx.Client(**_options(url, key, timeout_s))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def predict(
        self,
        model: str,
        data: Any,
        *,
        version: int | None = None,
        routing_key: str | None = None,
        prediction_id: str | None = None,
    ) -> Prediction:
        """Answers to rows: a pandas or polars frame, an arrow table, a dict of columns or of one
        row, a list of dicts, or an array. `routing_key` keeps a user on one arm of a canary."""
        asked = self._api.predict(model, data, version, routing_key, prediction_id)
        return self._run(asked)

    def feedback(self, labels: Any) -> dict[str, Any]:
        """Send true labels: rows with `prediction_id`, `row` and `label`
        (`Prediction.labelled(labels)`), in any form that `predict` takes and of any length.
        Returns how many were accepted and rejected, and the first errors."""
        return self._run(self._api.feedback(labels))

    def deploy(self, path: str | Path, *, at_once: bool = False, **spec: Any) -> dict[str, Any]:
        """Deploy a folder with `model.yaml`, or an `.onnx` file with name=…"""
        found: dict[str, Any] = self._run(self._api.deploy(path, at_once, spec))
        return found

    def retrain(self, model: str, reason: str = "asked for by a client") -> dict[str, Any]:
        """Request a retrain; `watch` shows how it goes on."""
        found: dict[str, Any] = self._run(self._api.post("retrains", model=model, reason=reason))
        return found

    def status(self) -> dict[str, Any]:
        """Roles, models, traffic, alerts, retrains and rollouts."""
        found: dict[str, Any] = self._run(self._api.get("status"))
        return found

    def rollouts(self, model: str | None = None) -> list[dict[str, Any]]:
        """Newest first."""
        found: list[dict[str, Any]] = self._run(self._api.get("rollouts", model=model))
        return found

    def retrains(self, model: str | None = None) -> list[dict[str, Any]]:
        """Newest first."""
        found: list[dict[str, Any]] = self._run(self._api.get("retrains", model=model))
        return found

    def alerts(self, model: str | None = None) -> list[dict[str, Any]]:
        """Newest first."""
        found: list[dict[str, Any]] = self._run(self._api.get("alerts", model=model))
        return found

    def steer_rollout(self, model: str, event: str, reason: str = "") -> dict[str, Any]:
        """`event`: approve, pause, resume, promote, abort or retry, for the newest rollout."""
        found: dict[str, Any] = self._run(self._api.steer(model, event, reason))
        return found

    def watch(self, model: str | None = None, *, since: str | None = None) -> Iterator[LoopEvent]:
        """What happens to incidents, retrains and rollouts, from now on or since the event with
        the id `since`, for as long as it is iterated. After a disconnect it resumes without a
        gap; it raises Unavailable if the control API cannot be reached for `patience_s`."""
        stream, attempt, deadline = EventStream(since), 0, time.monotonic() + self._patience_s
        while True:
            call = self._api.events(model, stream.headers)
            outcome: httpx.Response | httpx.TransportError
            try:
                with self._http.stream(call.method, call.url, **_streamed(call)) as outcome:
                    if outcome.is_success:
                        for line in outcome.iter_lines():
                            attempt, deadline = 0, time.monotonic() + self._patience_s
                            if (event := stream.line(line)) is not None:
                                yield event
                    else:
                        outcome.read()
            except httpx.TransportError as error:
                outcome = error
            stream.broken()
            time.sleep(_pause_s(call, outcome, attempt, deadline - time.monotonic()))
            attempt += 1

    def _run(self, exchange: Exchange[Result]) -> Result:
        try:
            call = next(exchange)
            while True:
                call = exchange.send(self._send(call))
        except StopIteration as end:
            result: Result = end.value
            return result

    def _send(self, call: Call) -> httpx.Response:
        deadline, attempt = time.monotonic() + self._patience_s, 0
        while True:
            outcome: httpx.Response | httpx.TransportError
            try:
                outcome = self._http.request(call.method, call.url, **_arguments(call))
            except httpx.TransportError as error:
                outcome = error
            pause_s = wait_s(call, outcome, attempt, deadline - time.monotonic())
            if pause_s is None:
                assert isinstance(outcome, httpx.Response)
                return outcome
            time.sleep(pause_s)
            attempt += 1


class AsyncClient:
    """See Client; each call is awaited."""

    def __init__(
        self,
        url: str = "http://localhost:8000",
        key: str | None = None,
        *,
        control: str | None = None,
        timeout_s: float = 30.0,
        patience_s: float = 30.0,
        rows_per_request: int = ROWS_PER_REQUEST,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self._api = Api(url, control, rows_per_request)
        self._patience_s = patience_s
        self._http = http or httpx.AsyncClient(**_options(url, key, timeout_s))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def predict(
        self,
        model: str,
        data: Any,
        *,
        version: int | None = None,
        routing_key: str | None = None,
        prediction_id: str | None = None,
    ) -> Prediction:
        """See Client."""
        asked = self._api.predict(model, data, version, routing_key, prediction_id)
        return await self._run(asked)

    async def feedback(self, labels: Any) -> dict[str, Any]:
        """See Client."""
        return await self._run(self._api.feedback(labels))

    async def deploy(
        self, path: str | Path, *, at_once: bool = False, **spec: Any
    ) -> dict[str, Any]:
        """See Client."""
        found: dict[str, Any] = await self._run(self._api.deploy(path, at_once, spec))
        return found

    async def retrain(self, model: str, reason: str = "asked for by a client") -> dict[str, Any]:
        """See Client."""
        asked = self._api.post("retrains", model=model, reason=reason)
        found: dict[str, Any] = await self._run(asked)
        return found

    async def status(self) -> dict[str, Any]:
        """See Client."""
        found: dict[str, Any] = await self._run(self._api.get("status"))
        return found

    async def rollouts(self, model: str | None = None) -> list[dict[str, Any]]:
        """See Client."""
        found: list[dict[str, Any]] = await self._run(self._api.get("rollouts", model=model))
        return found

    async def retrains(self, model: str | None = None) -> list[dict[str, Any]]:
        """See Client."""
        found: list[dict[str, Any]] = await self._run(self._api.get("retrains", model=model))
        return found

    async def alerts(self, model: str | None = None) -> list[dict[str, Any]]:
        """See Client."""
        found: list[dict[str, Any]] = await self._run(self._api.get("alerts", model=model))
        return found

    async def steer_rollout(self, model: str, event: str, reason: str = "") -> dict[str, Any]:
        """See Client."""
        found: dict[str, Any] = await self._run(self._api.steer(model, event, reason))
        return found

    async def watch(
        self, model: str | None = None, *, since: str | None = None
    ) -> AsyncIterator[LoopEvent]:
        """See Client."""
        stream, attempt, deadline = EventStream(since), 0, time.monotonic() + self._patience_s
        while True:
            call = self._api.events(model, stream.headers)
            outcome: httpx.Response | httpx.TransportError
            try:
                async with self._http.stream(call.method, call.url, **_streamed(call)) as outcome:
                    if outcome.is_success:
                        async for line in outcome.aiter_lines():
                            attempt, deadline = 0, time.monotonic() + self._patience_s
                            if (event := stream.line(line)) is not None:
                                yield event
                    else:
                        await outcome.aread()
            except httpx.TransportError as error:
                outcome = error
            stream.broken()
            await asyncio.sleep(_pause_s(call, outcome, attempt, deadline - time.monotonic()))
            attempt += 1

    async def _run(self, exchange: Exchange[Result]) -> Result:
        try:
            call = next(exchange)
            while True:
                call = exchange.send(await self._send(call))
        except StopIteration as end:
            result: Result = end.value
            return result

    async def _send(self, call: Call) -> httpx.Response:
        deadline, attempt = time.monotonic() + self._patience_s, 0
        while True:
            outcome: httpx.Response | httpx.TransportError
            try:
                outcome = await self._http.request(call.method, call.url, **_arguments(call))
            except httpx.TransportError as error:
                outcome = error
            pause_s = wait_s(call, outcome, attempt, deadline - time.monotonic())
            if pause_s is None:
                assert isinstance(outcome, httpx.Response)
                return outcome
            await asyncio.sleep(pause_s)
            attempt += 1
