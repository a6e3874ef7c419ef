"""A queue of calls that wait to share one run of a graph."""

import asyncio
from typing import Any

from driftloop_serving.batching.model_table import Chosen
from driftloop_serving.inference.infer_call import InferCall

INLINE_S = 0.002
"""Runs expected to be shorter are executed on the event loop; handing them to a thread would take
longer than the run."""


class BatchQueue:
    """Calls that may share a run. `cost_s`: smoothed duration of a run, in seconds; `cost_rows`:
    smoothed number of rows in a run."""

    __slots__ = ("calls", "chosen", "cost_rows", "cost_s", "key", "running", "timer")

    def __init__(self, key: Any, chosen: Chosen) -> None:
        self.key = key
        self.chosen = chosen
        self.calls: list[InferCall] = []
        self.running = 0
        self.cost_s, self.cost_rows = INLINE_S, 1.0
        self.timer: asyncio.TimerHandle | None = None

    def expected_s(self, rows: int) -> float:
        return self.cost_s * max(1.0, rows / self.cost_rows)

    def learn(self, seconds: float, rows: int) -> None:
        self.cost_s += 0.2 * (seconds - self.cost_s)
        self.cost_rows += 0.2 * (rows - self.cost_rows)

    def take(self) -> list[InferCall]:
        """Remove and return the calls of the next run: at most `max_batch_rows` rows, at least one
        call."""
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
