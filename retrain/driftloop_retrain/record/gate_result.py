"""The result of a gate: whether a candidate may go to the canary, and the checks that decided."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from math import sqrt
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Z = 1.96
Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Check:
    """champion, candidate: mean loss, or mean score. improvement: how much better the candidate is,
    in the unit of the check. p_worse: the probability of a difference at least this bad if the
    candidate were as good (paired, one-sided)."""

    name: str
    passed: bool
    rows: int
    champion: float
    candidate: float
    improvement: float
    p_worse: float
    reason: str
    low: float | None = None
    high: float | None = None
    """The 95 % interval of the improvement, of rows in pairs."""

    @classmethod
    def of(
        cls,
        name: str,
        candidate: Scores,
        champion: Scores,
        *,
        passed: bool,
        improvement: float,
        p_worse: float,
        reason: str,
        paired: bool = False,
    ) -> "Check":
        """Create a check from the values [n] of both models on the same rows. paired: whether they
        are losses in pairs, so that the improvement has an interval."""
        theirs, ours = (float(x.mean()) if len(x) else float("nan") for x in (champion, candidate))
        low, high = _interval(champion - candidate) if paired else (None, None)
        return cls(
            name, passed, len(candidate), theirs, ours, improvement, p_worse, reason, low, high
        )


def _interval(gains: Scores) -> tuple[float | None, float | None]:
    if len(gains) < 2:
        return None, None
    half = Z * float(gains.std(ddof=1)) / sqrt(len(gains))
    return float(gains.mean()) - half, float(gains.mean()) + half


@dataclass(frozen=True, slots=True)
class GateResult:
    """verdict: `passed`, `failed`, or `inconclusive` (too few rows)."""

    verdict: Literal["passed", "failed", "inconclusive"]
    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()
    """What could not be judged, and why."""
    level: float | None = None
    """The p-value below which a guardrail or a slice counts as worse: the error rate that is
    allowed, shared by all of them (Bonferroni)."""

    def noting(self, notes: Iterable[str]) -> "GateResult":
        return replace(self, notes=tuple(notes))

    @property
    def passed(self) -> bool:
        return self.verdict == "passed"

    @property
    def reasons(self) -> list[str]:
        """Why it did not pass."""
        return [f"{check.name}: {check.reason}" for check in self.checks if not check.passed]

    def to_dict(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "reasons": self.reasons,
            "checks": [asdict(check) for check in self.checks],
            **({"notes": list(self.notes)} if self.notes else {}),
            **({} if self.level is None else {"level": self.level}),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "GateResult":
        checks = tuple(Check(**check) for check in value["checks"])
        return cls(value["verdict"], checks, tuple(value.get("notes", ())), value.get("level"))
