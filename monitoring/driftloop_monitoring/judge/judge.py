"""Who scores a language model's answers beside people: the port, and how whoever is named is
found."""

import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from driftloop_contracts.errors import Rejected
from driftloop_contracts.model import ModelSpec
from driftloop_settings.settings import LlmSettings

OVER = "the time for it was over"

Score = Callable[[list[dict[str, Any]], str], float | None]
"""(messages, answer) → 0, as bad as can be, to 1; None: it cannot say."""


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """`text` as the answer to a conversation of `messages`."""

    messages: tuple[Mapping[str, Any], ...]
    text: str


class Judge(Protocol):
    @property
    def name(self) -> str:
        """Scores under one name compare with each other. It is shown."""

    def scores(
        self, answers: Sequence[JudgedAnswer], limit_s: float
    ) -> tuple[list[float | None], str]:
        """One score each, 0 to 1, None where there is none after `limit_s`; and why one lacks, or
        "". Never raises for an answer."""


class FunctionJudge:
    """Asks a function in this process, one answer after the other. One that hangs is not cut
    off."""

    def __init__(self, name: str, function: Score) -> None:
        self.name = name
        self._function = function

    def scores(
        self, answers: Sequence[JudgedAnswer], limit_s: float
    ) -> tuple[list[float | None], str]:
        until = time.monotonic() + limit_s
        found: list[float | None] = []
        why = ""
        for answer in answers:
            if time.monotonic() >= until:
                return found + [None] * (len(answers) - len(found)), OVER
            try:
                score = self._function([dict(m) for m in answer.messages], answer.text)
                found.append(None if score is None else within(float(score)))
            except Exception as error:  # it is the user's code
                found.append(None)
                why = f"it failed ({type(error).__name__})"
        return found, why


def within(score: float) -> float | None:
    """None for what is no score."""
    return score if 0.0 <= score <= 1.0 else None


def judge_of(settings: LlmSettings, spec: ModelSpec) -> Judge | None:
    """The function that the spec's `options.judge` names, else the endpoint of `llm.judge_url`.
    Raises Rejected where it cannot be had."""
    named = spec.options.get("judge")
    if named is not None:
        return FunctionJudge(str(named), _load(str(named)))
    if settings.judge_url is None:
        return None
    from driftloop_monitoring.judge.openai_judge import OpenAiJudge

    return OpenAiJudge.of(settings)


@cache
def _load(named: str) -> Score:
    module, _, attribute = named.partition(":")
    try:
        found: Score = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise Rejected(f"options.judge {named!r}, written module:function: {error}") from None
    return found
