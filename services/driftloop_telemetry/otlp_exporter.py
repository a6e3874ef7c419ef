"""The adapter of OpenTelemetry: sends spans by OTLP. Only this module imports it."""

from collections.abc import Mapping
from importlib.metadata import version

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from driftloop_contracts.errors import Rejected
from driftloop_telemetry.span import Span, TraceContext

CLOSE_MS = 5_000
PROTOCOLS = ("grpc", "http/protobuf")


class OtlpExporter:
    """role: shown in the service's name unless OTEL_SERVICE_NAME gives one. Address, headers,
    certificates, batches and queues are set by the usual OTEL_* variables, which the library reads
    from the process's environment. Raises Rejected for a protocol that there is not."""

    def __init__(self, role: str, environ: Mapping[str, str]) -> None:
        self._resource = Resource.create(
            {} if environ.get("OTEL_SERVICE_NAME") else {"service.name": f"driftloop-{role}"}
        )
        self._scope = InstrumentationScope("driftloop", version("driftloop"))
        self._processor = BatchSpanProcessor(_exporter(environ))

    def add(self, span: Span) -> None:
        status = Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.UNSET)
        self._processor.on_end(
            ReadableSpan(
                span.name,
                context=_context(span.context, remote=False),
                parent=None if span.parent is None else _context(span.parent, remote=True),
                resource=self._resource,
                attributes=dict(span.attributes),
                links=[
                    Link(_context(link.context, remote=True), {"driftloop.link": link.what})
                    for link in span.links
                ],
                kind=SpanKind.SERVER if span.server else SpanKind.INTERNAL,
                status=status,
                start_time=span.started_ns,
                end_time=span.ended_ns,
                instrumentation_scope=self._scope,
            )
        )

    def close(self) -> None:
        self._processor.force_flush(CLOSE_MS)
        self._processor.shutdown()  # type: ignore[no-untyped-call]


def _exporter(environ: Mapping[str, str]) -> SpanExporter:
    wanted = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"
    )
    if wanted == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (
            OTLPSpanExporter as GrpcExporter,
        )

        return GrpcExporter()
    if wanted == "http/protobuf":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (
            OTLPSpanExporter as HttpExporter,
        )

        return HttpExporter()
    raise Rejected(f"OTEL_EXPORTER_OTLP_PROTOCOL={wanted[:50]}: it is {' or '.join(PROTOCOLS)}")


def _context(context: TraceContext, *, remote: bool) -> SpanContext:
    return SpanContext(
        int(context.trace_id, 16), int(context.span_id, 16), remote, TraceFlags(TraceFlags.SAMPLED)
    )
