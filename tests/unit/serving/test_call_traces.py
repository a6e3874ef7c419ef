"""Predictions of a caller who traces: on a real socket, into the spool, out as spans."""

from collections.abc import AsyncIterator
from pathlib import Path

import pyarrow as pa
import pytest
from kept_spans import CALLER, PARENT, TRACE_ID, Kept
from serving_port import ServingPort, serving_port

from driftloop_serving.capture.packing import to_batch
from driftloop_serving.inference.call_traces import CallTracing
from driftloop_telemetry import TraceContext, Tracing
from driftloop_telemetry.span import prediction_context


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
async def port(tmp_path: Path, scaler: Path, kept: Kept) -> AsyncIterator[ServingPort]:
    async with serving_port(tmp_path, tracing=CallTracing(Tracing(kept))) as opened:
        opened.deploy(scaler)
        yield opened


async def test_a_prediction_is_a_span_in_its_callers_trace(port: ServingPort, kept: Kept) -> None:
    answer = await port.ask([1.0, 2.0], traceparent=PARENT)
    (span,) = kept.spans
    caller = TraceContext(TRACE_ID, CALLER)
    prediction_id = answer.headers["x-prediction-id"]
    assert span.parent == caller
    assert span.context == prediction_context(prediction_id, caller)
    assert span.attributes == {
        "driftloop.model": "m", "driftloop.prediction.id": prediction_id, "driftloop.version": 1,
    }  # fmt: skip
    assert 0 < span.started_ns <= span.ended_ns
    (batch,) = port.kept()
    assert batch.trace_ids == [TRACE_ID]
    rows = pa.Table.from_batches([to_batch([batch], "r")])
    assert rows.column("trace_id").to_pylist() == [TRACE_ID] * 2


async def test_a_prediction_without_a_caller_has_a_trace_of_its_own(
    port: ServingPort, kept: Kept
) -> None:
    await port.ask([1.0], traceparent="not a context")
    await port.ask([1.0])
    assert [span.parent for span in kept.spans] == [None, None]
    batches = port.kept()
    ids = [trace_id for batch in batches for trace_id in batch.trace_ids or ()]
    assert ids == [span.context.trace_id for span in kept.spans]
    assert len(set(ids)) == 2


async def test_a_refused_request_is_a_span_with_its_error(port: ServingPort, kept: Kept) -> None:
    answer = await port.ask([1.0], "/v2/models/nobody/infer", traceparent=PARENT)
    assert answer.status_code == 404
    (span,) = kept.spans
    assert span.error == "NotFound"
    assert span.context.trace_id == TRACE_ID


async def test_a_retry_is_the_same_span(port: ServingPort, kept: Kept) -> None:
    for _ in range(2):
        await port.ask([1.0], x_prediction_id="order-17", traceparent=PARENT)
    assert {span.context for span in kept.spans} == {
        prediction_context("order-17", TraceContext(TRACE_ID, CALLER))
    }


async def test_encoded_bodies_are_traced_as_well(port: ServingPort, kept: Kept) -> None:
    import gzip
    import json

    from serving_port import body

    content = gzip.compress(json.dumps(body([1.0])).encode())
    headers = {"content-encoding": "gzip", "traceparent": PARENT}
    answer = await port.http.post("/v2/models/m/infer", content=content, headers=headers)
    assert answer.status_code == 200, answer.text
    assert [span.context.trace_id for span in kept.spans] == [TRACE_ID]


async def test_without_tracing_nothing_is_recorded(tmp_path: Path, scaler: Path) -> None:
    async with serving_port(tmp_path) as port:
        port.deploy(scaler)
        await port.ask([1.0], traceparent=PARENT)
        (batch,) = port.kept()
        assert batch.trace_ids is None
        assert to_batch([batch], "r").column("trace_id").null_count == 1
