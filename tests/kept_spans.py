"""An exporter that keeps its spans, and a caller's trace context."""

from driftloop_telemetry import Span

TRACE_ID, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE_ID}-{CALLER}-01"


class Kept:
    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.closed = False

    def add(self, span: Span) -> None:
        self.spans.append(span)

    def close(self) -> None:
        self.closed = True
