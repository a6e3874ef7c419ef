"""A judge implemented by a user's function in this process."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from driftloop_evaluation.plugins import load_plugin
from driftloop_judge.judge import TIME_OVER, JudgedAnswer, within

Score = Callable[[list[dict[str, Any]], str], float | None]
"""(messages, answer) → 0 (useless) to 1; None: no score for this answer."""


class FunctionJudge:
    """Calls the function for each answer in turn. A call that hangs is not interrupted."""

    def __init__(self, name: str, function: Score) -> None:
        self.name = name
        self._function = function

    @classmethod
    def load(cls, named: str) -> "FunctionJudge":
        """Load a function. `named`: module:function. Raises Rejected if it cannot be imported."""
        return cls(named, load_plugin(named, "options.judge"))

    def scores(
        self, answers: Sequence[JudgedAnswer], limit_s: float
    ) -> tuple[list[float | None], str]:
        until = time.monotonic() + limit_s
        found: list[float | None] = []
        why = ""
        for answer in answers:
            if time.monotonic() >= until:
                return found + [None] * (len(answers) - len(found)), TIME_OVER
            try:
                score = self._function([dict(m) for m in answer.messages], answer.text)
                found.append(None if score is None else within(float(score)))
            except Exception as error:  # code of the user
                found.append(None)
                why = f"it failed ({type(error).__name__})"
        return found, why
