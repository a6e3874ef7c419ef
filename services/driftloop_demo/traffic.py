"""A simulated application: requests predictions at a given rate, and sends the labels a little
later.

It behaves like a careful client: an unanswered request is repeated with the same `x-prediction-id`,
so that it stays one prediction.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import httpx

from driftloop_contracts.ids import new_prediction_id
from driftloop_demo.careful_client import CarefulClient
from driftloop_demo.data_set import MODEL, LiveRows
from driftloop_demo.replay import Replay
from driftloop_http.clients import own_async_client

IN_FLIGHT = 4
PATIENCE_S = 120.0
LABEL_DELAY_S = 1.5


@dataclass
class Tally:
    """The number of answered rows, and how many were right; how many rows are of class 1, and for
    how many of them the answer was."""

    rows: int = 0
    right: int = 0
    positives: int = 0
    found: int = 0

    @property
    def accuracy(self) -> float | None:
        return self.right / self.rows if self.rows else None

    @property
    def recall(self) -> float | None:
        return self.found / self.positives if self.positives else None

    def count(self, answers: Sequence[int], labels: Sequence[int]) -> None:
        self.rows += len(labels)
        self.right += sum(a == b for a, b in zip(answers, labels, strict=True))
        self.positives += sum(b == 1 for b in labels)
        self.found += sum(a == b == 1 for a, b in zip(answers, labels, strict=True))


@dataclass
class Traffic:
    """Sends the rows, and counts the answers; also read by the story."""

    rows: LiveRows
    inference: str
    seed: int
    rate: Callable[[int], float]
    """Returns the wanted rows per second, given the current row."""
    replay: Replay
    sent: int = 0
    answered: int = 0
    labelled: int = 0
    client: CarefulClient = field(default_factory=lambda: CarefulClient(PATIENCE_S, 0.25))
    before: Tally = field(default_factory=Tally)
    after: dict[int, Tally] = field(default_factory=dict)
    """Counts by version, since the drift."""

    async def run(self, stop: asyncio.Event) -> None:
        """Send rows until `stop` is set; returns when all answers and labels have been received."""
        dice = random.Random(self.seed)
        slots = asyncio.Semaphore(IN_FLIGHT)
        limits = httpx.Limits(max_connections=IN_FLIGHT + 2)
        async with (
            own_async_client(timeout=15.0, limits=limits) as http,
            asyncio.TaskGroup() as tasks,
        ):
            due = time.monotonic()
            while not stop.is_set():
                start, end = self.replay.take(dice.randint(10, 30), new_version=len(self.after) > 1)
                await slots.acquire()
                tasks.create_task(self._one(http, slots, start, end))
                # After a delay, do not send the missed requests in a burst.
                due = max(due + (end - start) / self.rate(end), time.monotonic() - 0.1)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), max(0.0, due - time.monotonic()))

    async def _one(
        self, http: httpx.AsyncClient, slots: asyncio.Semaphore, start: int, stop: int
    ) -> None:
        prediction_id = new_prediction_id()
        try:
            self.sent += stop - start
            url = f"{self.inference}/v2/models/{MODEL}/infer"
            body = self.rows.request(start, stop)
            response = await self.client.post(http, url, body, {"x-prediction-id": prediction_id})
        finally:
            slots.release()
        outputs = {output["name"]: output["data"] for output in response.json()["outputs"]}
        labels = self.rows.labels[start:stop]
        self._count(int(response.headers["x-model-version"]), start, outputs["label"], labels)
        await asyncio.sleep(LABEL_DELAY_S)
        feedback = {"prediction_id": prediction_id, "label": labels, "source": "demo"}
        await self.client.post(http, f"{self.inference}/feedback", feedback, {})
        self.labelled += len(labels)

    def _count(self, version: int, start: int, answers: list[int], labels: list[int]) -> None:
        self.answered += len(labels)
        drifted = start >= self.rows.drift_at
        tally = self.after.setdefault(version, Tally()) if drifted else self.before
        tally.count(answers, labels)
