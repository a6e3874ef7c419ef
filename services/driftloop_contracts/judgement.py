"""The results of monitoring: windows, findings and the decisions based on them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


def unexplained(entry: Mapping[str, Any]) -> int:
    """Return the rows of a ledger entry (one replica and version) that were served but are neither
    acknowledged, spooled, nor dropped for a reason."""
    settled = entry["acked"] + entry["spooled"] + sum(entry["dropped"].values())
    return abs(int(entry["served"] - settled))


class Severity(StrEnum):
    """info: recorded. warning: look at it in the morning. critical: the loop acts, and an alert is
    raised."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class CheckKind(StrEnum):
    QUALITY = "quality"  # broken data: missing, wrong type, constant
    DRIFT = "drift"  # the inputs moved
    PREDICTION_DRIFT = "prediction_drift"  # the outputs moved
    PERFORMANCE = "performance"  # the measured error rose
    UNJUDGED = "unjudged"  # judging a window or labels failed again and again: given up
    JUDGE = "judge"  # a language model's scores by a judge fell
    ESTIMATE = "estimate"  # without labels, the error is expected to have risen
    ROLE = "role"  # a role's cycles keep failing; there are no findings


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check on one window, if it is worth recording.

    effect: in the check's own unit, named in `detail`. significance: a p-value, or 1/e for an
    e-value. window_id: identifies the lake version and the judged rows.
    """

    finding_id: str
    model: str
    version: int | None
    kind: CheckKind
    check: str
    severity: Severity
    columns: tuple[str, ...]
    effect: float
    significance: float
    window_id: str
    at: datetime
    detail: str = ""
    report: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "columns": list(self.columns), "at": self.at.isoformat()}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "Finding":
        return cls(
            **{
                **value,
                "kind": CheckKind(value["kind"]),
                "severity": Severity(value["severity"]),
                "columns": tuple(value["columns"]),
                "at": datetime.fromisoformat(value["at"]),
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A slice of the lake that was judged.

    status: `judged`, or `inconclusive` with the reason (too few rows, unaccounted loss). mean_loss:
    the mean error on labelled rows (see `driftloop_evaluation.losses`), or None. performance:
    values to display: the state of the sequential test after this window, and for a language model
    the likelihood of corrected texts (nats per token), the drift of prompts' embeddings, and a
    judge's scores (`judge_…`). dropped: rows served since the previous window and not captured, by
    reason. unexplained: rows missing for an unknown reason.
    """

    window_id: str
    model: str
    kind: str  # count | time
    lake_version: int
    started_at: datetime
    ended_at: datetime
    rows: int
    labelled: int
    status: str
    reason: str = ""
    mean_loss: float | None = None
    performance: dict[str, float] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    unexplained: int = 0
    estimated_loss: float | None = None
    """The mean error that the labels of these rows will show, expected from the confidence of the
    answers (classification with probabilities), with its interval of 95 %."""
    estimated_low: float | None = None
    estimated_high: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "started_at": self.started_at.isoformat(),
            "ended_at": self.ended_at.isoformat(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A trigger evaluation that could have retrained, and why it did or did not.

    verdict: `retrain` or `wait`. reason: a sentence. evidence, policy: the numbers it used.
    """

    decision_id: str
    model: str
    at: datetime
    trigger: str  # alert | schedule | operator
    verdict: str
    reason: str
    evidence: dict[str, Any]
    policy: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "at": self.at.isoformat()}
