"""The in-memory counts of a replica's answers. Implements `infer_call.Meter`."""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Protocol

from driftloop_contracts.model import Arm

BOUNDS_S = (
    .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
"""Upper bounds of the latency histogram's buckets, in seconds; the last bucket is unbounded."""
TOKEN_BOUNDS_S = (
    .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""The same for a language model's times: to the first token, and between tokens."""

Key = tuple[str, int, str]
"""Model, version and arm; version 0 and arm "" if a request failed before a version was chosen."""


@dataclass(slots=True)
class Counts:
    """The counts of one model, version and arm since the replica started.

    Times are sums in seconds: `queue_s` over requests, the other three over runs. last_at: the time
    of the last answer, in seconds since 1970.
    """

    requests: int = 0
    rows: int = 0
    runs: int = 0
    latency_s: float = 0.0
    queue_s: float = 0.0
    input_s: float = 0.0
    infer_s: float = 0.0
    output_s: float = 0.0
    last_at: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    failures: Counter[str] = field(default_factory=Counter)
    """The number of failures by reason."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    first_token_s: float = 0.0
    first_token_buckets: list[int] = field(default_factory=lambda: [0] * (len(TOKEN_BOUNDS_S) + 1))
    token_s: float = 0.0
    token_buckets: list[int] = field(default_factory=lambda: [0] * (len(TOKEN_BOUNDS_S) + 1))
    """For the answers of a language model; times are sums over answers."""

    def add(self, other: "Counts") -> None:
        for name in (
            "requests",
            "rows",
            "runs",
            "latency_s",
            "queue_s",
            "input_s",
            "infer_s",
            "output_s",
            "prompt_tokens",
            "completion_tokens",
            "first_token_s",
            "token_s",
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.last_at = max(self.last_at, other.last_at)
        for name in ("buckets", "first_token_buckets", "token_buckets"):
            sums = zip(getattr(self, name), getattr(other, name), strict=True)
            setattr(self, name, [a + b for a, b in sums])
        self.failures.update(other.failures)

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "Counts":
        return cls(**{**value, "failures": Counter(value["failures"])})


class Generated(Protocol):
    """The counts of one answer of a language model; unknown times are NaN."""

    @property
    def prompt_tokens(self) -> int: ...
    @property
    def completion_tokens(self) -> int: ...
    @property
    def first_token_s(self) -> float: ...
    @property
    def token_s(self) -> float: ...


class ReplicaMeter:
    def __init__(self) -> None:
        self.counts: dict[Key, Counts] = {}

    def answered(
        self,
        model: str,
        version: int,
        arm: Arm,
        latencies_s: Sequence[float],
        rows: int,
        queued_s: float,
        input_s: float,
        infer_s: float,
        output_s: float,
    ) -> None:
        counts = self.counts.get((model, version, arm))
        if counts is None:
            counts = self.counts[model, version, arm] = Counts()
        counts.requests += len(latencies_s)
        counts.rows += rows
        counts.runs += 1
        counts.latency_s += sum(latencies_s)
        counts.queue_s += queued_s
        counts.input_s += input_s
        counts.infer_s += infer_s
        counts.output_s += output_s
        counts.last_at = time.time()
        buckets = counts.buckets
        for latency_s in latencies_s:
            buckets[bisect_left(BOUNDS_S, latency_s)] += 1

    def generated(self, model: str, version: int, arm: Arm, answers: Sequence[Generated]) -> None:
        """Count the tokens of answers that `answered` has already counted."""
        counts = self.counts.setdefault((model, version, arm), Counts())
        counts.prompt_tokens += answers[0].prompt_tokens if answers else 0
        for answer in answers:
            counts.completion_tokens += answer.completion_tokens
            if isfinite(answer.first_token_s):
                counts.first_token_s += answer.first_token_s
                counts.first_token_buckets[bisect_left(TOKEN_BOUNDS_S, answer.first_token_s)] += 1
            if isfinite(answer.token_s):
                counts.token_s += answer.token_s
                counts.token_buckets[bisect_left(TOKEN_BOUNDS_S, answer.token_s)] += 1

    def failed(self, model: str, version: int | None, arm: Arm | None, reason: str) -> None:
        key = model, version or 0, arm or ""
        self.counts.setdefault(key, Counts()).failures[reason] += 1
