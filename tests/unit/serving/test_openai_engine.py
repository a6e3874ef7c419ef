"""The port of an engine's replica: names and ids, capture, and retries."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from fake_engine import FakeEngine
from kept_spans import CALLER, PARENT, TRACE_ID, Kept

from driftloop_contracts.ids import PredictionId
from driftloop_contracts.model import TrafficSplit
from driftloop_serving.capture.spool import SpoolWriter
from driftloop_serving.capture.spool_reader import SpoolReader
from driftloop_serving.capture.spool_record import PredictionBatch
from driftloop_serving.inference.call_traces import CallTracing
from driftloop_serving.metrics.meter import ReplicaMeter
from driftloop_serving.openai.openai_engine import EngineApp, Held
from driftloop_serving.openai.upstream_headers import GIVEN_ID, NOT_BEGUN, UpstreamHeaders
from driftloop_settings import CaptureSettings
from driftloop_telemetry import TraceContext, Tracing
from driftloop_telemetry.span import prediction_context

CHAT = "/v1/chat/completions"
HOP = UpstreamHeaders("tiny", 1, "stable", "p-1")
SDK = replace(HOP, retry_key="body:abc")
GIVEN = replace(HOP, retry_key=f"{GIVEN_ID}p-1", is_retry=True)
NAMES = {1: "tiny", 2: "tiny@sha"}


class Port:
    """An `EngineApp` in front of a fake engine, and the content of its spool."""

    def __init__(self, root: Path, tracing: CallTracing | None = None) -> None:
        self.spool = SpoolWriter(root, "engine", CaptureSettings())
        self.meter = ReplicaMeter()
        self.app = EngineApp(self.spool, self.meter, 1 << 20, tracing=tracing)

    def hold(self, engine: FakeEngine | None, names: dict[int, str] = NAMES) -> None:
        self.app.held = Held(engine, names, TrafficSplit(1, 2, 0.5), None, frozenset([CHAT]))

    async def ask(
        self,
        hop: UpstreamHeaders,
        path: str = CHAT,
        leave: asyncio.Event | None = None,
        **body: Any,
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body. `leave`: when the client disconnects."""
        content = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], **body}
        pending = [{"type": "http.request", "body": orjson.dumps(content), "more_body": False}]
        sent: list[Any] = []

        async def receive() -> Any:
            if pending:
                return pending.pop()
            await (leave or asyncio.Event()).wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(k.encode(), v.encode()) for k, v in hop.headers().items()]
        scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
        await self.app(scope, receive, send)
        if not sent:
            return 0, {}, b""
        return (
            sent[0]["status"],
            {k.decode(): v.decode() for k, v in sent[0]["headers"]},
            b"".join(message.get("body", b"") for message in sent[1:]),
        )

    def kept(self) -> list[PredictionBatch]:
        return SpoolReader(self.spool.folder).read(1 << 20).predictions


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[Port]:
    made = Port(tmp_path)
    yield made
    made.spool.close()


async def test_an_answer_is_a_span_in_its_callers_trace(tmp_path: Path) -> None:
    spans = Kept()
    port = Port(tmp_path, CallTracing(Tracing(spans)))
    port.hold(FakeEngine("good", " day"))
    for hop in (replace(HOP, traceparent=PARENT), replace(HOP, prediction_id=PredictionId("p-2"))):
        assert (await port.ask(hop))[0] == 200
    first, second = spans.spans
    caller = TraceContext(TRACE_ID, CALLER)
    assert (first.parent, first.context) == (caller, prediction_context("p-1", caller))
    assert first.attributes["driftloop.version"] == 1
    assert (second.parent, second.context) == (None, prediction_context("p-2", None))
    ids = [trace_id for batch in port.kept() for trace_id in batch.trace_ids or ()]
    assert ids == [TRACE_ID, second.context.trace_id]
    port.spool.close()


async def until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0)


async def test_an_answer_has_our_names_and_is_kept(port: Port) -> None:
    port.hold(FakeEngine("good", " day"))
    status, headers, content = await port.ask(replace(HOP, version=2, arm="canary"))
    answer = orjson.loads(content)
    assert (status, answer["id"], answer["model"]) == (200, "p-1", "tiny")
    assert (headers["x-model-version"], headers["x-prediction-id"]) == ("2", "p-1")
    assert int(headers["content-length"]) == len(content)
    (kept,) = port.kept()
    assert (kept.ids, kept.version, kept.arm) == (["p-1"], 2, "canary")
    assert kept.outputs is not None
    assert {name: array.tolist() for name, array in kept.outputs.items()} == {
        "text": ["good day"],
        "tool_calls": [""],
        "finish_reason": ["stop"],
        "prompt_tokens": [2],
        "completion_tokens": [2],
        "first_token_s": [0.5],
        "token_s": [1.0],
    }
    counts = port.meter.counts["tiny", 2, "canary"]
    assert (counts.requests, counts.prompt_tokens, counts.completion_tokens) == (1, 2, 2)


async def test_vllm_is_asked_for_the_version_by_its_own_name(port: Port) -> None:
    engine = FakeEngine("a")
    port.hold(engine)
    await port.ask(replace(HOP, version=2, arm="canary"), model="tiny", temperature=0.1)
    assert (engine.asked[0]["model"], engine.asked[0]["temperature"]) == ("tiny@sha", 0.1)


async def test_a_text_that_looks_like_an_id_stays_as_it_is(port: Port) -> None:
    port.hold(FakeEngine('"id":"chatcmpl-p-1" "model":"tiny@sha"'))
    _, _, content = await port.ask(replace(HOP, version=2, arm="canary"))
    text = orjson.loads(content)["choices"][0]["message"]["content"]
    assert text == '"id":"chatcmpl-p-1" "model":"tiny@sha"'


async def test_a_stream_is_kept_once_before_its_end_leaves(port: Port) -> None:
    port.hold(FakeEngine("a", "b", "c"))
    _, _, content = await port.ask(HOP, stream=True)
    events = [line for line in content.split(b"\n\n") if line]
    assert events[-1] == b"data: [DONE]"
    assert {orjson.loads(event[6:])["id"] for event in events[:-1]} == {"p-1"}
    (kept,) = port.kept()
    assert kept.outputs is not None
    assert kept.outputs["text"].tolist() == ["abc"]


async def test_a_client_that_leaves_within_a_stream_is_kept_with_what_came(port: Port) -> None:
    engine = FakeEngine("a", "b")
    engine.go_on.clear()
    port.hold(engine)
    leave = asyncio.Event()
    asked = asyncio.ensure_future(port.ask(SDK, leave=leave, stream=True))
    await until(lambda: engine.asked)
    leave.set()
    await asked
    (kept,) = port.kept()
    assert kept.outputs is not None
    assert kept.outputs["text"].tolist() == ["a"]
    assert kept.outputs["finish_reason"].tolist() == ["abort"]


async def test_what_a_client_got_wrong_is_counted_but_is_no_prediction(port: Port) -> None:
    port.hold(FakeEngine(status=400))
    status, _, _ = await port.ask(HOP)
    assert (status, port.kept()) == (400, [])
    assert port.meter.counts["tiny", 1, "stable"].failures == {"Rejected": 1}


async def test_an_answer_that_failed_is_kept_as_failed(port: Port) -> None:
    port.hold(FakeEngine(status=500))
    status, _, _ = await port.ask(HOP)
    (kept,) = port.kept()
    assert (status, kept.outputs, kept.error) == (500, None, "ModelFailed")


async def test_a_dead_engine_is_said_in_openais_form_with_when_to_come_again(port: Port) -> None:
    engine = FakeEngine(status=500)
    engine.dead = True
    port.hold(engine)
    status, headers, content = await port.ask(HOP)
    assert (status, int(headers["retry-after"]) > 0) == (503, True)
    assert orjson.loads(content)["error"]["code"] == 503
    assert headers[NOT_BEGUN]


async def test_a_call_that_an_engine_dies_of_is_not_for_another_one(port: Port) -> None:
    engine = FakeEngine(status=500)
    answer = engine.app

    async def dying(scope: Any, receive: Any, send: Any) -> None:
        engine.dead = True
        await answer(scope, receive, send)

    engine.app = dying  # type: ignore[method-assign]
    port.hold(engine)
    status, headers, _ = await port.ask(HOP)
    assert (status, NOT_BEGUN in headers) == (503, False)


async def test_a_canary_that_is_not_held_costs_no_answer(port: Port) -> None:
    port.hold(FakeEngine("a"), names={1: "tiny"})
    status, headers, _ = await port.ask(replace(HOP, version=2, arm="canary"))
    assert (status, headers["x-model-version"]) == (200, "1")
    assert port.kept()[0].arm == "stable"
    status, _, _ = await port.ask(replace(HOP, version=2, arm="pinned"))
    assert status == 503


@pytest.mark.parametrize("path", ["/sleep", "/v1/load_lora_adapter", "/v1/models"])
async def test_nothing_else_is_reachable(port: Port, path: str) -> None:
    port.hold(FakeEngine("a"))
    status, _, _ = await port.ask(HOP, path=path)
    assert status == 404


async def test_a_second_try_gets_the_first_ones_answer(port: Port) -> None:
    engine = FakeEngine("a")
    port.hold(engine)
    first = await port.ask(SDK)
    again = await port.ask(replace(SDK, prediction_id="p-2", is_retry=True))
    assert again == first
    assert len(engine.asked) == len(port.kept()) == 1


async def test_the_same_question_again_is_another_prediction(port: Port) -> None:
    engine = FakeEngine("a")
    port.hold(engine)
    await port.ask(SDK)
    await port.ask(replace(SDK, prediction_id="p-2"))
    assert [batch.ids for batch in port.kept()] == [["p-1"], ["p-2"]]


async def test_a_second_try_waits_for_one_that_is_under_way(port: Port) -> None:
    engine = FakeEngine("a", "b")
    engine.go_on.clear()
    port.hold(engine)
    first = asyncio.ensure_future(port.ask(SDK, stream=True))
    await until(lambda: engine.asked)
    second = asyncio.ensure_future(
        port.ask(replace(SDK, prediction_id="p-2", is_retry=True), stream=True)
    )
    await asyncio.sleep(0)
    engine.go_on.set()
    assert (await first)[2] == (await second)[2]
    assert len(port.kept()) == 1


async def test_a_try_that_came_to_nothing_gives_its_id_to_the_next(port: Port) -> None:
    leave = asyncio.Event()
    leave.set()
    hanging = FakeEngine("a")
    hanging.app = _silent  # type: ignore[method-assign]
    port.hold(hanging)
    await port.ask(SDK, leave=leave)
    port.hold(FakeEngine("a"))
    _, headers, _ = await port.ask(replace(SDK, prediction_id="p-2", is_retry=True))
    assert headers["x-prediction-id"] == "p-1"
    assert [batch.ids for batch in port.kept()] == [["p-1"]]


async def test_a_try_that_nobody_repeats_is_kept_in_the_end(port: Port) -> None:
    hanging = FakeEngine("a")
    hanging.app = _silent  # type: ignore[method-assign]
    port.hold(hanging)
    leave = asyncio.Event()
    leave.set()
    await port.ask(SDK, leave=leave)
    assert port.kept() == []
    port.app.close()
    (kept,) = port.kept()
    assert kept.outputs is not None
    assert kept.outputs["finish_reason"].tolist() == ["abort"]


async def _silent(scope: Any, receive: Any, send: Any) -> None:
    """An engine that sends nothing until its client disconnects."""
    while (await receive())["type"] != "http.disconnect":
        pass


@pytest.mark.parametrize(("hop", "chosen"), [(HOP, False), (SDK, False), (GIVEN, True)])
async def test_the_lake_is_told_where_the_client_chose_the_id(
    port: Port, hop: UpstreamHeaders, chosen: bool
) -> None:
    """Such an id may be used again after this process has died, so the archiver checks for it."""
    port.hold(FakeEngine())
    await port.ask(hop)
    (batch,) = port.kept()
    assert batch.client_ids is chosen
