"""Simulates users of a language model. They ask through OpenAI's API, and rate and correct the
answers through `/feedback`, as an application would do for them."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from driftloop_demo.careful_client import CarefulClient
from driftloop_demo.preference import corrected
from driftloop_demo.traffic import Tally
from driftloop_http.clients import own_async_client

MAX_TOKENS = 48
PATIENCE_S = 300.0
REQUEST_TIMEOUT_S = 120.0


@dataclass
class ChatTraffic:
    """Users that ask and give feedback. `satisfied`: whether an answer is what users want;
    `corrects`: whether they correct answers that are not; `paused_s`: returns the current pause
    between two questions of a user, in seconds."""

    inference: str
    model: str
    prompts: Sequence[str]
    satisfied: Callable[[str], bool]
    corrects: bool
    paused_s: Callable[[], float] = lambda: 0.0
    users: int = 8
    asked: int = 0
    answered: int = 0
    rated: int = 0
    corrections: int = 0
    client: CarefulClient = field(default_factory=lambda: CarefulClient(PATIENCE_S, 0.5))
    versions: dict[int, Tally] = field(default_factory=dict)

    async def run(self, stop: asyncio.Event) -> None:
        """Ask until `stop` is set; returns when all answers and ratings have been received."""
        async with own_async_client(timeout=REQUEST_TIMEOUT_S) as http:
            await asyncio.gather(*(self._user(http, stop) for _ in range(self.users)))

    async def _user(self, http: httpx.AsyncClient, stop: asyncio.Event) -> None:
        while not stop.is_set():
            # Each question has its own session, so that any of them may be answered by the canary.
            number, self.asked = self.asked, self.asked + 1
            prompt = self.prompts[number % len(self.prompts)]
            text, version, prediction_id = await self.ask(
                http, self.model, prompt, {"x-routing-key": f"session-{number}"}
            )
            await self._rate(http, text, version, prediction_id)
            await self._pause(stop)

    async def _pause(self, stop: asyncio.Event) -> None:
        """Wait until the user asks again; ends early if the pause is shortened."""
        began = time.monotonic()
        while not stop.is_set() and time.monotonic() - began < self.paused_s():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 0.2)

    async def ask(
        self, http: httpx.AsyncClient, model: str, prompt: str, headers: dict[str, str]
    ) -> tuple[str, int, str]:
        """Return the answer, the version that generated it, and its prediction id."""
        body = {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": MAX_TOKENS,
            "temperature": 0.0,
        }
        response = await self.client.post(
            http, f"{self.inference}/v1/chat/completions", body, headers
        )
        document = response.json()
        text = document["choices"][0]["message"]["content"] or ""
        return text, int(response.headers["x-model-version"]), document["id"]

    async def _rate(
        self, http: httpx.AsyncClient, text: str, version: int, prediction_id: str
    ) -> None:
        good = self.satisfied(text)
        self.answered += 1
        tally = self.versions.setdefault(version, Tally())
        tally.rows += 1
        tally.right += good
        said: dict[str, Any] = {"prediction_id": prediction_id, "thumb": "up" if good else "down"}
        if not good and self.corrects:
            said["correction"] = corrected(text)
        await self.client.post(http, f"{self.inference}/feedback", {**said, "source": "demo"}, {})
        self.rated += 1
        self.corrections += "correction" in said
