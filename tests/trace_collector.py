"""What a collector of traces got, as spans that link to each other."""

from collections import defaultdict
from dataclasses import dataclass

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from receiver import Receiver

LOOP = ("rollout", "retrain", "decision", "window", "predict")


@dataclass(frozen=True)
class Got:
    """A span: its id and those that it links to, each as (trace id, span id)."""

    id: tuple[str, str]
    links: tuple[tuple[str, str], ...]


def spans_of(collector: Receiver) -> dict[str, list[Got]]:
    """By name, without `driftloop.`"""
    found = defaultdict(list)
    for request in list(collector.requests):
        sent = ExportTraceServiceRequest.FromString(request.content)
        for span in (
            s for r in sent.resource_spans for scope in r.scope_spans for s in scope.spans
        ):
            links = tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links)
            got = Got((span.trace_id.hex(), span.span_id.hex()), links)
            found[span.name.removeprefix("driftloop.")].append(got)
    return found


def followed(spans: dict[str, list[Got]]) -> list[str]:
    """How far links lead from a rollout back to predictions that were received."""
    way, here = [], spans["rollout"]
    for name, before in zip(LOOP, (*LOOP[1:], None), strict=True):
        if not here:
            return way
        way.append(name)
        ids = {link for span in here for link in span.links}
        here = [span for span in spans[before] if span.id in ids] if before else []
    return way
