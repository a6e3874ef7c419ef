"""Spans as a collector gets them: over HTTP, from OpenTelemetry's own exporter."""

import pytest
from command_line import eventually
from kept_spans import CALLER, TRACE_ID
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from receiver import receiving

from driftloop_telemetry import Link, Span, TraceContext, open_tracing
from driftloop_telemetry.span import prediction_context, record_context

PARENT = TraceContext(TRACE_ID, CALLER)


def test_a_collector_gets_spans_with_parent_links_and_attributes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with receiving() as collector:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)  # the library reads it
        tracing = open_tracing("serving", environ)
        assert tracing is not None
        context = prediction_context("p", PARENT)
        window = record_context("window", "w")
        tracing.add(
            Span(
                name="driftloop.predict",
                context=context,
                parent=PARENT,
                started_ns=1_000,
                ended_ns=3_000,
                attributes={"driftloop.prediction.id": "p", "driftloop.version": 3},
                links=(Link(window, "window"),),
                error="ModelFailed",
                server=True,
            )
        )
        tracing.close()
        (request,) = eventually(lambda: collector.requests, bool)
    assert request.path == "/v1/traces"
    (sent,) = ExportTraceServiceRequest.FromString(request.content).resource_spans
    resource = {each.key: each.value.string_value for each in sent.resource.attributes}
    assert resource["service.name"] == "driftloop-serving"
    (span,) = sent.scope_spans[0].spans
    assert (span.trace_id.hex(), span.span_id.hex()) == (TRACE_ID, context.span_id)
    assert span.parent_span_id.hex() == CALLER
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (1_000, 3_000)
    shown = {each.key: each.value for each in span.attributes}
    assert shown["driftloop.prediction.id"].string_value == "p"
    assert shown["driftloop.version"].int_value == 3
    (link,) = span.links
    assert (link.trace_id.hex(), link.span_id.hex()) == (window.trace_id, window.span_id)
    assert (span.status.code, span.status.message) == (2, "ModelFailed")


def test_an_unknown_protocol_is_refused_and_nothing_is_traced() -> None:
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "carrier-pigeon",
    }
    assert open_tracing("serving", environ) is None
