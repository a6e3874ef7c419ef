"""A client that asks again until it is answered."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx


@dataclass
class CarefulClient:
    """`patience_s`: how long one call is repeated; `pause_s`: between two tries; `retries`: why
    calls were repeated, and how often."""

    patience_s: float
    pause_s: float
    retries: Counter[str] = field(default_factory=Counter)

    async def post(
        self, http: httpx.AsyncClient, url: str, body: object, headers: dict[str, str]
    ) -> httpx.Response:
        """Raises TimeoutError if patience ends, and what httpx raises for a 4xx."""
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
