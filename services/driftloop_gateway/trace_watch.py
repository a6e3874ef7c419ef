"""Sends the records of the loop as spans, while traces are wanted.

Order: read the records → spans to the exporter → write which ones were sent. A restart may send
some again; the ids of a span are made from its record, so it is the same span.
"""

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime

from driftloop_contracts.errors import DriftloopError
from driftloop_gateway.loop_traces import (
    DECISION,
    MOST_LINKS,
    RETRAIN,
    ROLLOUT,
    WINDOW,
    Record,
    decision_span,
    has_ended,
    retrain_span,
    rollout_span,
    window_span,
)
from driftloop_store import Store, StoreAway
from driftloop_store.cycle_health import CycleHealth
from driftloop_telemetry import Span, Tracing

EVERY_S = 5.0
NEWEST = 1_000
"""The number of records of each kind that are looked at and remembered."""
CURSOR = "traces"
KINDS = {WINDOW: "windows", DECISION: "decisions", RETRAIN: "retrains", ROLLOUT: "rollouts"}
Traced = Callable[[str, datetime, datetime, int], Iterable[tuple[str, str]]]
"""Trace id and prediction id of requests of a model between two times, up to a number."""


class TraceWatch:
    """traced: may raise DriftloopError; the window then has no links."""

    def __init__(self, store: Store, tracing: Tracing, traced: Traced) -> None:
        self._store = store
        self._health = CycleHealth(store, "gateway/traces")
        self._tracing = tracing
        self._traced = traced
        self._stamp: tuple[int, ...] | None = None

    def look(self) -> int:
        """Send what is new; return how many spans. The first look of a stack sends nothing:
        its records are old. Raises StoreAway."""
        stamp = self._store.stamp()
        if stamp == self._stamp:
            return 0
        known = self._store.cursor(CURSOR)
        found = {kind: self._ended(kind) for kind in KINDS}
        sent = 0
        for kind, records in found.items():
            old = set((known or {}).get(kind, ()))
            for record in records if known is not None else ():
                if record["id"] not in old:
                    self._tracing.add(self._span(kind, record))
                    sent += 1
        if sent or known is None:
            ids = {kind: [r["id"] for r in records] for kind, records in found.items()}
            self._store.put_cursor(CURSOR, ids)
        self._stamp = stamp
        return sent

    def _ended(self, kind: str) -> list[Record]:
        table = KINDS[kind]
        records = self._store.between(table, limit=NEWEST)  # type: ignore[arg-type]
        return [record for record in records if has_ended(kind, record)]

    def _span(self, kind: str, record: Record) -> Span:
        model = record["model"]
        if kind == WINDOW:
            links: Iterable[tuple[str, str]] = ()
            with suppress(DriftloopError):
                first, last = (
                    datetime.fromisoformat(record[n]) for n in ("started_at", "ended_at")
                )
                links = self._traced(model, first, last, MOST_LINKS)
            return window_span(record, links)
        if kind == DECISION:
            return decision_span(record, self._store.windows(model, MOST_LINKS))
        if kind == RETRAIN:
            return retrain_span(record)
        return rollout_span(record, self._store.between("retrains", model, limit=MOST_LINKS))

    def run(self, stop: threading.Event) -> None:
        """Look until stopped, then send what waits."""
        while not stop.wait(EVERY_S):
            with suppress(StoreAway), self._health.cycle():
                self.look()
        self._tracing.close()
