"""Whether spans are wanted, and where they go."""

import os
from collections.abc import Mapping
from typing import Protocol

import structlog

from driftloop_contracts.errors import Rejected
from driftloop_telemetry.sampling import Sampler, read_sampler
from driftloop_telemetry.span import Span

log = structlog.get_logger()

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class Exporter(Protocol):
    def add(self, span: Span) -> None:
        """Send it soon, from another thread; dropped if too many wait. Never raises or blocks."""

    def close(self) -> None:
        """Send what waits, for some seconds at most."""


class Tracing:
    """Sends the spans that the sampler wants. Safe to use from several threads."""

    def __init__(self, exporter: Exporter, sampler: Sampler | None = None) -> None:
        self._exporter = exporter
        self._sampler = sampler or Sampler()

    def add(self, span: Span) -> None:
        if self._sampler.wants(span.context, span.parent):
            self._exporter.add(span)

    def close(self) -> None:
        self._exporter.close()


def is_wanted(environ: Mapping[str, str]) -> bool:
    """Whether an address for traces is set, and nothing says not to use it."""
    off = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    other = environ.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower() not in ("", "otlp")
    return not off and not other and any(environ.get(name, "").strip() for name in ENDPOINTS)


def open_tracing(role: str, environ: Mapping[str, str] = os.environ) -> Tracing | None:
    """Of a process; None if no traces are wanted, or if the variables are wrong, which is logged:
    predictions are answered without traces, too. role: part of the service's name."""
    if not is_wanted(environ):
        return None
    try:
        sampler = read_sampler(environ)
        from driftloop_telemetry.otlp_exporter import OtlpExporter

        return Tracing(OtlpExporter(role, environ), sampler)
    except Rejected as error:
        reason = str(error)
    except ImportError as error:
        reason = f'{error}: pip install "driftloop[telemetry]"'
    log.error("telemetry.refused", reason=reason)
    return None
