"""Traces by OpenTelemetry, if the usual environment variables ask for them.

Nothing here imports OpenTelemetry before `open_tracing` finds that they do.
"""

from driftloop_telemetry.span import Link, Span, TraceContext
from driftloop_telemetry.tracing import Tracing, open_tracing

__all__ = ["Link", "Span", "TraceContext", "Tracing", "open_tracing"]
