"""The engine's private call: only for driftloop's processes, not a prediction, and after
answers."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from fake_engine import FakeEngine
from test_openai_engine import HOP, Port, until

from driftloop_contracts.likelihood import PATH, LikelihoodCall

CALL = LikelihoodCall("tiny", 2, ({"role": "user", "content": "hi"},), "Good day to you.")


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[Port]:
    made = Port(tmp_path)
    yield made
    made.spool.close()


async def tell(port: Port, call: LikelihoodCall = CALL, **headers: str) -> tuple[int, Any]:
    given = {**call.headers(), **headers}
    pending = [{"type": "http.request", "body": call.body(), "more_body": False}]
    sent: list[Any] = []

    async def receive() -> Any:
        return pending.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": PATH,
        "headers": [(k.encode(), v.encode()) for k, v in given.items() if v],
    }
    await port.app(scope, receive, send)
    return sent[0]["status"], orjson.loads(sent[1]["body"])


async def test_a_text_is_told_under_its_version_and_is_no_prediction(port: Port) -> None:
    engine = FakeEngine()
    port.hold(engine)
    assert await tell(port) == (200, {"nats_per_token": 4.0})
    assert engine.told == [("tiny@sha", CALL)]
    assert (port.kept(), dict(port.meter.counts), port.app.in_flight) == ([], {}, 0)


@pytest.mark.parametrize(
    ("call", "headers", "status"),
    [
        (CALL, {"x-driftloop-version": ""}, 400),
        (CALL, {"x-driftloop-version": "two"}, 400),
        (replace(CALL, messages=()), {}, 400),
        (replace(CALL, text=" "), {}, 400),
        (replace(CALL, version=3), {}, 503),
        (replace(CALL, model="other"), {}, 503),
    ],
)
async def test_what_is_not_the_monitors_or_not_held_is_refused(
    port: Port, call: LikelihoodCall, headers: dict[str, str], status: int
) -> None:
    engine = FakeEngine()
    port.hold(engine)
    found, document = await tell(port, call, **headers)
    assert (found, document["error"]["code"], engine.told) == (status, status, [])


async def test_an_engine_that_breaks_is_said_so(port: Port) -> None:
    engine = FakeEngine()

    async def broken(name: str, call: LikelihoodCall) -> float:
        raise KeyError(name)

    engine.nats_per_token = broken  # type: ignore[method-assign]
    port.hold(engine)
    assert (await tell(port))[0] == 503


async def test_it_waits_for_an_answer_that_is_under_way(port: Port) -> None:
    engine = FakeEngine("a", "b")
    engine.go_on.clear()
    port.hold(engine)
    answering = asyncio.ensure_future(port.ask(HOP, stream=True))
    await until(lambda: engine.asked)
    telling = asyncio.ensure_future(tell(port))
    another = asyncio.ensure_future(tell(port))
    assert (await another)[0] == 503  # one at a time
    assert not engine.told
    engine.go_on.set()
    await answering
    assert (await telling)[0] == 200
