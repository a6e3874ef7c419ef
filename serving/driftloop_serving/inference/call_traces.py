"""The traces of infer calls: in from W3C's header `traceparent`, out as one span a prediction."""

import time
from collections.abc import Iterable, Sequence

from driftloop_contracts.errors import DriftloopError
from driftloop_contracts.ids import PredictionId
from driftloop_serving.inference.infer_call import CallTrace, InferAnswer, InferCall
from driftloop_telemetry import Tracing
from driftloop_telemetry.span import Span, parse_traceparent, prediction_context

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
        version, error = None, ""
        if isinstance(answer, DriftloopError):
            error = type(answer).__name__
        else:
            version = answer.version
        self.add(call.model, version, call.prediction_id, call.trace, error)

    def add(
        self,
        model: str,
        version: int | None,
        prediction_id: PredictionId,
        trace: CallTrace,
        error: str,
    ) -> None:
        """A prediction that ended just now. version: None if none was chosen. error: "" if it was
        answered."""
        shown: dict[str, str | int] = {
            "driftloop.model": model,
            "driftloop.prediction.id": prediction_id,
        }
        if version is not None:
            shown["driftloop.version"] = version
        self._tracing.add(
            Span(
                name="driftloop.predict",
                context=prediction_context(prediction_id, trace.parent),
                parent=trace.parent,
                started_ns=trace.started_ns,
                ended_ns=max(trace.started_ns, time.time_ns()),
                attributes=shown,
                error=error,
                server=True,
            )
        )

    def close(self) -> None:
        self._tracing.close()


def trace_ids(calls: Sequence[InferCall]) -> list[str | None]:
    """For the record of a run."""
    return [None if c.trace is None else trace_id(c.prediction_id, c.trace) for c in calls]


def trace_id(prediction_id: PredictionId, trace: CallTrace) -> str:
    return prediction_context(prediction_id, trace.parent).trace_id
