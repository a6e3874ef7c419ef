"""Calls that wait to share a run of one graph."""

import asyncio
from typing import Any

from driftloop_serving.batching.model_table import Chosen
from driftloop_serving.inference.infer_call import InferCall

INLINE_S = 0.002
"""A run that takes longer would keep the loop from other requests for longer than a thread
costs."""


class BatchQueue:
    """Calls that may share a run. `cost_s`: what a run of `cost_rows` took, smoothed."""

    __slots__ = ("calls", "chosen", "cost_rows", "cost_s", "key", "running", "timer")

    def __init__(self, key: Any, chosen: Chosen) -> None:
        self.key = key
        self.chosen = chosen
        self.calls: list[InferCall] = []
        self.running = 0
        self.cost_s, self.cost_rows = INLINE_S, 1.0  # unknown: the first run goes to a thread
        self.timer: asyncio.TimerHandle | None = None

    def expected_s(self, rows: int) -> float:
        return self.cost_s * max(1.0, rows / self.cost_rows)

    def learn(self, seconds: float, rows: int) -> None:
        self.cost_s += 0.2 * (seconds - self.cost_s)
        self.cost_rows += 0.2 * (rows - self.cost_rows)

    def take(self) -> list[InferCall]:
        """The calls of the next run: at most `max_batch_rows` rows, at least one call."""
        chosen, calls = self.chosen, self.calls
        if not chosen.batchable:
            self.calls = calls[1:]
            return calls[:1]
        rows = 0
        for number, call in enumerate(calls):
            rows += call.request.rows
            if rows > chosen.max_batch_rows and number:
                self.calls = calls[number:]
                return calls[:number]
        self.calls = []
        return calls
