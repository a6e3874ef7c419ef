"""The port of a judge, which scores a language model's answers in addition to people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from driftloop_contracts.language import readable

TIME_OVER = "the time limit was reached"


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """An answer, `text`, to a conversation of `messages`."""

    messages: tuple[Mapping[str, Any], ...]
    text: str


def judged_answer(row: Mapping[str, Any]) -> JudgedAnswer | None:
    """The answer in a row of the lake, with `in_…` and `out_…`; None if a judge cannot read it."""
    found = readable(row)
    return found and JudgedAnswer(tuple(found[0]), found[1])


class Judge(Protocol):
    @property
    def name(self) -> str:
        """Shown to operators. Scores with the same name are comparable."""

    def scores(
        self, answers: Sequence[JudgedAnswer], limit_s: float
    ) -> tuple[list[float | None], str]:
        """Return one score per answer, 0 (useless) to 1, or None if it has no score after `limit_s`
        seconds; and why scores are missing, or "". An answer never makes it raise."""


def within(score: float) -> float | None:
    """Return the score if it is in [0, 1], else None."""
    return score if 0.0 <= score <= 1.0 else None
