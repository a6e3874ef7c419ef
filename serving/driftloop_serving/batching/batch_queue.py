"""Queues of calls that wait to share one run of a graph."""

import asyncio
from collections.abc import Mapping
from typing import Any

import numpy as np

from driftloop_serving.batching.model_table import Chosen
from driftloop_serving.inference.infer_call import InferCall

INLINE_S = 0.002
"""Runs expected to be shorter are executed on the event loop; handing them to a thread would take
longer than the run."""


class BatchQueue:
    """Calls that may share a run. `cost_s`: smoothed duration of a run, in seconds; `cost_rows`:
    smoothed number of rows in a run."""

    __slots__ = ("calls", "chosen", "cost_rows", "cost_s", "key", "running", "timer", "waking")

    def __init__(self, key: Any, chosen: Chosen) -> None:
        self.key = key
        self.chosen = chosen
        self.calls: list[InferCall] = []
        self.running = 0
        self.waking = False
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


class Queues:
    """All queues of a batcher. kept: above this number idle ones are removed, because clients
    choose the shapes."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._queues: dict[Any, BatchQueue] = {}

    def __len__(self) -> int:
        return len(self._queues)

    def of(self, chosen: Chosen, inputs: Mapping[str, np.ndarray]) -> BatchQueue:
        """Return the queue of requests with such inputs."""
        key = chosen.graph_key if chosen.one_shape else (chosen.graph_key, *_shapes(inputs))
        queue = self._queues.get(key)
        if queue is None:
            if len(self._queues) >= self._kept:
                self.forget_idle()
            queue = self._queues[key] = BatchQueue(key, chosen.for_inputs(inputs))
        return queue

    def forget_idle(self) -> None:
        self._queues = {key: q for key, q in self._queues.items() if q.calls or q.running}


def _shapes(inputs: Mapping[str, np.ndarray]) -> list[tuple[int, ...]]:
    return [array.shape[1:] for array in inputs.values()]
