"""One HTTP call and what follows from its answer: pure, so that both clients share it."""

import random
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx

from driftloop_contracts.errors import (
    Conflict,
    DriftloopError,
    Forbidden,
    NotFound,
    Rejected,
    RetryLater,
    TooLarge,
    Unavailable,
    UnsupportedMediaType,
)

FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 5.0
_ERRORS: dict[int, type[Rejected]] = {
    401: Forbidden, 403: Forbidden, 404: NotFound, 409: Conflict, 413: TooLarge,
    415: UnsupportedMediaType,
}  # fmt: skip
_AGAIN = (429, 502, 503, 504)


@dataclass(frozen=True)
class Call:
    """`repeatable`: sending it twice has the effect of sending it once."""

    method: str
    url: str
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float | None = None
    repeatable: bool = True


Result = TypeVar("Result")
Exchange = Generator[Call, httpx.Response, Result]
"""Yields calls, is sent their answers, and returns what they mean."""


def wait_s(
    call: Call, outcome: httpx.Response | httpx.TransportError, attempt: int, left_s: float
) -> float | None:
    """Seconds until the call is sent again; None: it is answered. `attempt`: 0 at first; `left_s`:
    how long it may still be repeated. Raises what the caller should do."""
    pause_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0**attempt) * random.uniform(0.5, 1.0)
    if isinstance(outcome, httpx.TransportError):
        unsent = isinstance(outcome, httpx.ConnectError | httpx.ConnectTimeout)
        if left_s > pause_s and (unsent or call.repeatable):
            return pause_s
        if unsent:
            raise Unavailable(f"{call.url} cannot be reached: {outcome}") from outcome
        raise RetryLater(f"{call.url} gave no answer: {type(outcome).__name__}") from outcome
    if outcome.status_code not in _AGAIN:
        return None
    asked = outcome.headers.get("retry-after")
    if asked is None and outcome.status_code == 503:
        return None  # an operator must act
    pause_s = max(pause_s, _seconds(asked))
    if left_s > pause_s and (call.repeatable or outcome.status_code in (429, 503)):
        return pause_s
    return None


def checked(answer: httpx.Response) -> httpx.Response:
    """The answer, if it is a good one. Raises the error that its status stands for, with the
    server's sentence."""
    status = answer.status_code
    if status < 400:
        return answer
    message = _sentence(answer)
    if status in _AGAIN and "retry-after" in answer.headers:
        raise RetryLater(message, _seconds(answer.headers["retry-after"]))
    if status == 503:
        raise Unavailable(message)
    if status < 500:
        raise _ERRORS.get(status, Rejected)(message)
    raise RetryLater(message) if status in _AGAIN else DriftloopError(message)


def _sentence(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return f"{answer.url.path} answered {answer.status_code}"


def _seconds(written: str | None) -> float:
    try:
        return float(written or 0.0)
    except ValueError:
        return 1.0
