"""The port of a judge, which scores a language model's answers beside people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

TIME_OVER = "the time for it was over"


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """`text` as the answer to a conversation of `messages`."""

    messages: tuple[Mapping[str, Any], ...]
    text: str


class Judge(Protocol):
    @property
    def name(self) -> str:
        """Scores under one name are comparable with each other. Shown to operators."""

    def scores(
        self, answers: Sequence[JudgedAnswer], limit_s: float
    ) -> tuple[list[float | None], str]:
        """One score per answer, 0 (useless) to 1; None for those without a score after `limit_s`
        seconds. Also why a score is missing, or "". Never raises because of an answer."""


def within(score: float) -> float | None:
    """The score if it lies in [0, 1], else None."""
    return score if 0.0 <= score <= 1.0 else None
