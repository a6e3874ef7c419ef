"""The output of an engine for one HTTP request, recorded when it leaves the engine: the same for
every API, streamed or not, even if the client disconnects."""

from contextvars import ContextVar
from dataclasses import dataclass, field
from math import nan
from typing import Any


@dataclass(slots=True)
class Choice:
    """One answer. `first_token_s`: seconds from the request's arrival to the first token;
    `token_s`: mean seconds between tokens; both NaN if unknown. `finish_reason`: vLLM's; None if
    unfinished."""

    parts: list[str] = field(default_factory=list)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish_reason: str | None = None
    first_token_s: float = nan
    token_s: float = nan

    @property
    def text(self) -> str:
        return "".join(self.parts)


@dataclass(slots=True)
class Generation:
    """All answers, keyed by the engine's request (a completions call may have several prompts) and
    the choice's index."""

    choices: dict[tuple[str, int], Choice] = field(default_factory=dict)

    def observe(self, request_id: str, output: Any) -> None:
        """Record an output. `output`: vLLM's RequestOutput, which contains only new tokens if
        streamed."""
        for part in output.outputs:
            choice = self.choices.get((request_id, part.index))
            if choice is None:
                choice = self.choices[request_id, part.index] = Choice()
                choice.prompt_tokens = len(output.prompt_token_ids or ())
            choice.parts.append(part.text)
            choice.completion_tokens += len(part.token_ids)
            if part.finish_reason is not None:
                choice.finish_reason = part.finish_reason
            times = output.metrics
            if times is not None and times.first_token_ts:
                choice.first_token_s = times.first_token_latency
                if choice.completion_tokens > 1:
                    took_s = times.last_token_ts - times.first_token_ts
                    choice.token_s = took_s / (choice.completion_tokens - 1)

    @property
    def in_order(self) -> list[Choice]:
        return list(self.choices.values())


CURRENT: ContextVar[Generation | None] = ContextVar("generation", default=None)
"""The Generation of the current request, in which the engine records its output."""
