"""POST to a receiver that may hang, refuse, redirect, ask for patience or fail."""

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from driftloop_alerts.senders.port import Undelivered
from driftloop_http.clients import client_for

SHOWN_CHARS = 200


class HttpPost:
    """One receiver's address. What it answers is read no further than an error's sentence needs;
    redirects are not followed, since a message would reach whom nobody named."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url = httpx.URL(url)
        self._timeout_s = timeout_s
        self._client: httpx.Client | None = None

    def send_json(self, body: Any) -> None:
        """Raises Undelivered."""
        self.send(json.dumps(body, ensure_ascii=False).encode())

    def send(self, content: bytes, headers: Mapping[str, str] = {}) -> None:
        """content: JSON. Raises Undelivered."""
        if self._client is None:
            # Without TLS no certificates are read, which takes longer than all the rest.
            verify = self._url.scheme == "https"
            self._client = client_for(str(self._url), timeout=self._timeout_s, verify=verify)
        every = {"content-type": "application/json", "user-agent": "driftloop", **headers}
        try:
            with self._client.stream("POST", self._url, content=content, headers=every) as answer:
                if not answer.is_success:
                    raise self._undelivered(answer)
        except httpx.TimeoutException:
            raise Undelivered(f"no answer within {self._timeout_s:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise Undelivered(self._masked(f"{type(error).__name__}: {error}")) from None

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def _undelivered(self, answer: httpx.Response) -> Undelivered:
        said = f"it answers {answer.status_code}"
        if answer.is_redirect:
            return Undelivered(f"{said}, a redirect; write the address that it redirects to")
        deadline, body = time.monotonic() + self._timeout_s, b""
        try:
            for piece in answer.iter_bytes(SHOWN_CHARS):
                body += piece
                if len(body) >= SHOWN_CHARS or time.monotonic() > deadline:
                    break
        except httpx.HTTPError:
            pass  # the status says enough
        detail = " ".join(body[:SHOWN_CHARS].decode(errors="replace").split())
        reason = f"{said}: {self._masked(detail)}" if detail else said
        return Undelivered(reason, retry_after_s(answer.headers.get("retry-after")))

    def _masked(self, text: str) -> str:
        """Without the address, which is a secret with many receivers; some repeat it in errors."""
        path = self._url.raw_path.decode(errors="replace")
        for secret in (str(self._url), path, path.partition("?")[0]):
            if len(secret) > 1:
                text = text.replace(secret, "…")
        return text


def retry_after_s(header: str | None) -> float | None:
    """Of `Retry-After`: seconds, or a date; None for anything else."""
    if header is None:
        return None
    if header.strip().isdigit():
        return float(header)
    try:
        at = parsedate_to_datetime(header)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())
