"""The traces of infer calls: in from W3C's header `traceparent`, out as one span a prediction."""

import time
from collections.abc import Iterable, Sequence

from driftloop_contracts.errors import DriftloopError
from driftloop_serving.inference.infer_call import CallTrace, InferAnswer, InferCall
from driftloop_telemetry import Tracing
from driftloop_telemetry.span import Span, TraceContext, parse_traceparent, prediction_context

TRACEPARENT = b"traceparent"


class CallTracing:
    """Exists only if predictions are traced."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def begun(self, headers: Iterable[tuple[bytes, bytes]]) -> CallTrace:
        """The trace of a request that arrived just now. Two contexts are as good as none."""
        found = [value for name, value in headers if name.lower() == TRACEPARENT]
        return CallTrace(parse_traceparent(found[0]) if len(found) == 1 else None, time.time_ns())

    def ended(self, call: InferCall, answer: InferAnswer | DriftloopError) -> None:
        """A call with a trace, and with its prediction id, was answered."""
        assert call.trace is not None
        shown: dict[str, str | int] = {
            "driftloop.model": call.model,
            "driftloop.prediction.id": call.prediction_id,
        }
        error = ""
        if isinstance(answer, DriftloopError):
            error = type(answer).__name__
        else:
            shown["driftloop.version"] = answer.version
        self._tracing.add(
            Span(
                name="driftloop.predict",
                context=_context(call, call.trace),
                parent=call.trace.parent,
                started_ns=call.trace.started_ns,
                ended_ns=max(call.trace.started_ns, time.time_ns()),
                attributes=shown,
                error=error,
                server=True,
            )
        )

    def close(self) -> None:
        self._tracing.close()


def trace_ids(calls: Sequence[InferCall]) -> list[str | None]:
    """For the record of a run."""
    return [None if c.trace is None else _context(c, c.trace).trace_id for c in calls]


def _context(call: InferCall, trace: CallTrace) -> TraceContext:
    return prediction_context(call.prediction_id, trace.parent)
