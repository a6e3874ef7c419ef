"""The monitor's record of a judge's scores for one version."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from driftloop_monitoring.statistics.performance import LossBaseline, State

MIN_REFERENCE = 200


@dataclass(frozen=True, slots=True)
class JudgeState:
    """Scores of one judge.

    judge: its name. asked: the number of reference answers submitted for scoring; `whole`: all
    were. reference: their losses, 1 - score. rated: the newest answers that were rated by people
    and scored by the judge, see `calibration.Rated`. rated_until: earlier answers have been
    processed. test: the test on the windows' losses. alerted: whether its alert was raised.
    """

    judge: str
    asked: int = 0
    whole: bool = False
    reference: tuple[float, ...] = ()
    rated: tuple[tuple[bool, float], ...] = ()
    rated_until: datetime | None = None
    test: State = field(default_factory=State)
    alerted: bool = False

    @property
    def baseline(self) -> LossBaseline | None:
        """The baseline; None until the reference is scored, or if too few of its answers have a
        score."""
        if not self.whole or len(self.reference) < MIN_REFERENCE:
            return None
        return LossBaseline.of(np.array(self.reference))

    def to_dict(self) -> dict[str, Any]:
        until = self.rated_until.isoformat() if self.rated_until else None
        return {**asdict(self), "rated_until": until, "test": self.test.to_dict()}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "JudgeState":
        until = value["rated_until"]
        return cls(
            **{
                **value,
                "reference": tuple(value["reference"]),
                "rated": tuple((bool(good), score) for good, score in value["rated"]),
                "rated_until": datetime.fromisoformat(until) if until else None,
                "test": State.from_dict(value["test"]),
            }
        )
