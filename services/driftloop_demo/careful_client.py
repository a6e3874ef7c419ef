"""A client that repeats a call until it is answered."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx


@dataclass
class CarefulClient:
    """Sends calls with retries. `patience_s`: how long a call is repeated; `pause_s`: the pause
    between two tries; `retries`: the number of repeated calls by reason."""

    patience_s: float
    pause_s: float
    retries: Counter[str] = field(default_factory=Counter)

    async def post(
        self, http: httpx.AsyncClient, url: str, body: object, headers: dict[str, str]
    ) -> httpx.Response:
        """Send a POST request. Raises TimeoutError after `patience_s`, and httpx's error for a 4xx
        answer."""
        deadline = time.monotonic() + self.patience_s
        while True:
            try:
                response = await http.post(url, json=body, headers=headers)
                if response.status_code < 500:
                    return response.raise_for_status()
                reason = str(response.status_code)
            except httpx.TransportError as error:
                reason = type(error).__name__
            if time.monotonic() > deadline:
                raise TimeoutError(f"{url} gave no answer for {self.patience_s:.0f} s: {reason}")
            self.retries[reason] += 1
            await asyncio.sleep(self.pause_s)
