"""Spans as values, and the ids by which they find each other. Pure.

The ids of a span of the loop are made from the record that it is about. So a span can be linked to
from any process, without a context that is passed from one to the other, and one that is sent twice
is the same span.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b

_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
Value = str | bool | int | float | Sequence[str]


@dataclass(frozen=True, slots=True)
class TraceContext:
    """trace_id: 32, span_id: 16 lower-case hexadecimal digits, not all zeros."""

    trace_id: str
    span_id: str
    sampled: bool = True


@dataclass(frozen=True, slots=True)
class Link:
    context: TraceContext
    what: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """An interval of work. parent: the caller's context, of the same trace. started, ended: in
    nanoseconds since 1970. error: why it failed, or "". server: it answers a request."""

    name: str
    context: TraceContext
    started_ns: int
    ended_ns: int
    parent: TraceContext | None = None
    attributes: Mapping[str, Value] = field(default_factory=dict)
    links: tuple[Link, ...] = ()
    error: str = ""
    server: bool = False


def parse_traceparent(value: bytes) -> TraceContext | None:
    """The caller's context of W3C's header `traceparent`; None if it is not valid, which is to be
    treated like none (https://www.w3.org/TR/trace-context/)."""
    found = _TRACEPARENT.fullmatch(value.strip())
    if found is None or found[1] == b"ff" or (found[1] == b"00" and found[5]):
        return None
    trace_id, span_id = found[2].decode(), found[3].decode()
    if not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return TraceContext(trace_id, span_id, bool(int(found[4], 16) & 1))


def prediction_context(prediction_id: str, parent: TraceContext | None) -> TraceContext:
    """Of a prediction's span: in its caller's trace, else in one of its own."""
    span_id = _hash(f"prediction:{prediction_id}", 8)
    if parent is not None:
        return TraceContext(parent.trace_id, span_id, parent.sampled)
    return TraceContext(_hash(f"trace:{prediction_id}", 16), span_id)


def linked_prediction(trace_id: str, prediction_id: str) -> TraceContext:
    """The same, from what the lake has of a prediction."""
    return TraceContext(trace_id, _hash(f"prediction:{prediction_id}", 8))


def record_context(kind: str, record_id: str) -> TraceContext:
    """Of the span of a window, decision, retrain or rollout."""
    name = f"{kind}:{record_id}"
    return TraceContext(_hash(f"trace:{name}", 16), _hash(name, 8))


def nanoseconds(at: datetime) -> int:
    return round(at.timestamp() * 1e6) * 1_000


def _hash(text: str, length: int) -> str:
    return blake2b(text.encode(), digest_size=length).hexdigest()
