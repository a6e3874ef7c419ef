"""The engine's private call for answers that nobody gets: no prediction, no traffic, and only while
the engine has time for it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from fake_engine import FakeEngine
from test_openai_engine import HOP, Port, until

from driftloop_contracts.shadow_call import PATH, ShadowCall

CALL = ShadowCall(
    "tiny", 2, "chat.completions", '[{"role": "user", "content": "hi"}]', '{"n": 4}', 64
)


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[Port]:
    made = Port(tmp_path)
    yield made
    made.spool.close()


async def call(port: Port, call: ShadowCall = CALL, **headers: str) -> tuple[int, Any]:
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


async def test_a_candidate_answers_unseen_and_it_is_no_prediction(port: Port) -> None:
    engine = FakeEngine("good", " day")
    port.hold(engine)
    status, answer = await call(port)
    assert (status, answer["text"], answer["completion_tokens"]) == (200, "good day", 2)
    assert (answer["tool_calls"], answer["finish_reason"]) == ("", "stop")
    (asked,) = engine.asked
    assert asked["model"] == "tiny@sha"
    assert asked["max_tokens"] == 64
    assert "n" not in asked  # one answer, however many the client asked for
    assert (port.kept(), dict(port.meter.counts), port.app.in_flight) == ([], {}, 0)


@pytest.mark.parametrize(
    ("wrong", "headers", "status"),
    [
        (CALL, {"x-driftloop-version": ""}, 400),
        (CALL, {"x-driftloop-version": "two"}, 400),
        (replace(CALL, operation="embeddings"), {}, 400),
        (replace(CALL, parameters="?"), {}, 200),
        (replace(CALL, version=3), {}, 503),
        (replace(CALL, model="other"), {}, 503),
    ],
)
async def test_what_is_not_the_rollouts_or_not_held_is_refused(
    port: Port, wrong: ShadowCall, headers: dict[str, str], status: int
) -> None:
    engine = FakeEngine("a")
    port.hold(engine)
    assert (await call(port, wrong, **headers))[0] == status
    assert len(engine.asked) == (status == 200)


async def test_it_is_dropped_at_once_while_clients_calls_are_in_progress(port: Port) -> None:
    engine = FakeEngine("a", "b")
    engine.go_on.clear()
    port.hold(engine)
    answering = asyncio.ensure_future(port.ask(HOP, stream=True))
    await until(lambda: engine.asked)
    assert (await call(port))[0] == 503
    assert len(engine.asked) == 1
    engine.go_on.set()
    await answering
    assert (await call(port))[0] == 200


async def test_a_bound_says_beside_how_many_calls_it_answers(port: Port) -> None:
    engine = FakeEngine("a", "b")
    engine.go_on.clear()
    port.hold(engine)
    answering = asyncio.ensure_future(port.ask(HOP, stream=True))
    await until(lambda: engine.asked)
    asking = asyncio.ensure_future(call(port, replace(CALL, busy_above=1)))
    await until(lambda: len(engine.asked) == 2)
    engine.go_on.set()
    assert (await asking)[0] == 200
    await answering


async def test_it_is_given_up_when_a_client_comes_whose_answer_is_whole(port: Port) -> None:
    engine = FakeEngine("a", "b")
    engine.go_on.clear()
    port.hold(engine)
    shadow = asyncio.ensure_future(call(port))
    await until(lambda: engine.asked)
    assert (await call(port))[0] == 503  # one at a time
    answering = asyncio.ensure_future(port.ask(HOP, stream=True))
    assert (await shadow)[0] == 503
    assert engine.left == 1  # the engine was told, and is free of it
    engine.go_on.set()
    assert (await answering)[0] == 200
    assert [batch.ids for batch in port.kept()] == [["p-1"]]


async def test_one_that_never_ends_is_given_up(port: Port) -> None:
    engine = FakeEngine("a")
    engine.go_on.clear()
    port.hold(engine)
    assert (await call(port, replace(CALL, limit_s=0.05)))[0] == 503
    assert engine.left == 1


async def test_a_candidate_that_fails_is_said_so_and_counted_nowhere(port: Port) -> None:
    port.hold(FakeEngine(status=500))
    status, answer = await call(port)
    assert (status, answer["failed"][:10]) == (200, "status 500")
    assert dict(port.meter.counts) == {}


async def test_an_application_that_raises_is_said_so(port: Port) -> None:
    engine = FakeEngine()

    async def broken(*_: Any) -> None:
        raise KeyError

    engine.app = broken  # type: ignore[method-assign]
    port.hold(engine)
    assert "failed" in (await call(port))[1]
