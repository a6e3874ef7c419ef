"""What is known of a candidate in the shadow; kept in the rollout's record."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from driftloop_contracts.events import OUTPUT_PREFIX
from driftloop_contracts.model import ModelSpec
from driftloop_evaluation.measures import Measure
from driftloop_rollout.label_delay import LabelDelay
from driftloop_rollout.pairs import PairTrial

LENGTH = f"{OUTPUT_PREFIX}completion_tokens"
SHARE = 0.5
"""Of the levels of a rollout, the part that the shadow spends; the canary has the rest."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Rows of a part of the traffic to which both versions gave an answer, and how many times it
    was the same."""

    part: str
    rows: int = 0
    agreed: int = 0

    def with_rows(self, agreed: NDArray[np.bool_]) -> "Agreement":
        return replace(self, rows=self.rows + len(agreed), agreed=self.agreed + int(agreed.sum()))


@dataclass(frozen=True, slots=True)
class ShadowStage:
    """began: since when live rows are answered, too. since: the first row that is answered, newer
    than the candidate's training data. answered_until, paired_until: up to which time rows were
    answered, and compared by their labels. measures: of quality, the decisive one first
    (`Measure.to_dict`). labels: how long the champion's labels take. answered, failed: rows.
    request_s: the median seconds of a request alone; champion_s: of the champion's requests, as
    they were served. died: how many times its process ended. problem: why the losses could not be
    computed. dropped: rows for which the candidate's engine had no time. tokens, champion_tokens:
    the sums of the lengths of generated answers. proven: the metrics that pairs have shown, at the
    end."""

    began: datetime
    since: datetime
    answered_until: datetime
    paired_until: datetime
    trial: PairTrial
    measures: tuple[Mapping[str, Any], ...] = ()
    labels: LabelDelay | None = None
    agreement: tuple[Agreement, ...] = (Agreement(""),)
    answered: int = 0
    failed: int = 0
    dropped: int = 0
    tokens: float = 0.0
    champion_tokens: float = 0.0
    request_s: float | None = None
    champion_s: float | None = None
    memory_bytes: int = 0
    died: int = 0
    waiting: str = ""
    problem: str = ""
    proven: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    """What people should know of how it was judged."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """What is shown of both versions beside what decides: of the largest part of rows with labels
    that was compared at once, see `arm_metrics`."""

    def measured(self, spec: ModelSpec) -> tuple[Measure, ...]:
        return tuple(Measure.from_dict(spec, value) for value in self.measures)

    @property
    def judges_quality(self) -> bool:
        return bool(self.measures)

    @property
    def used(self) -> bool:
        """Whether it has bet on anything, so that a part of the levels is spent."""
        return any(metric.rows for metric in self.trial.metrics)

    @property
    def agreed(self) -> float | None:
        """The share of all rows with the same answer."""
        whole = self.agreement[0]
        return whole.agreed / whole.rows if whole.rows else None

    @property
    def shown(self) -> str:
        """What people see of it beside the verdict."""
        rows, found = self.agreement[0].rows, []
        if self.agreed is not None:
            found.append(f"the same answer on {self.agreed:.1%} of the rows")
        if self.tokens or self.champion_tokens:
            lengths = (
                f"{self.tokens / rows:.0f} tokens, the champion's {self.champion_tokens / rows:.0f}"
            )
            found.append(f"a mean answer of the candidate has {lengths}")
        if self.dropped:
            found.append(f"{self.dropped:,} conversations were dropped while the engine was busy")
        return "".join(f"; {each}" for each in found)

    def with_lengths(self, champion: pa.Table, candidate: pa.Table) -> "ShadowStage":
        """Of rows that both answered."""
        if LENGTH not in champion.column_names or LENGTH not in candidate.column_names:
            return self
        mine, theirs = (float(pc.sum(t[LENGTH]).as_py() or 0) for t in (candidate, champion))
        return replace(
            self, tokens=self.tokens + mine, champion_tokens=self.champion_tokens + theirs
        )

    def with_agreement(self, parts: Sequence[NDArray[np.bool_]]) -> "ShadowStage":
        """parts: whether the answers of its rows agree, for each of `agreement`."""
        both = zip(self.agreement, parts, strict=True)
        return replace(self, agreement=tuple(known.with_rows(new) for known, new in both))

    def to_dict(self) -> dict[str, Any]:
        times = {name: getattr(self, name).isoformat() for name in _TIMES}
        return {
            **{n: getattr(self, n) for n in self.__dataclass_fields__},
            **times,
            "trial": self.trial.to_dict(),
            "labels": self.labels and self.labels.to_dict(),
            "measures": [dict(measure) for measure in self.measures],
            "agreement": [asdict(part) for part in self.agreement],
            "proven": list(self.proven),
            "notes": list(self.notes),
            "metrics": dict(self.metrics),
            "agreed": self.agreed,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "ShadowStage":
        times = {name: datetime.fromisoformat(value[name]) for name in _TIMES}
        known = {name: value[name] for name in cls.__dataclass_fields__ if name in value}
        return cls(
            **{
                **known,
                **times,
                "labels": LabelDelay.from_dict(labels) if (labels := value["labels"]) else None,
                "trial": PairTrial.from_dict(value["trial"]),
                "measures": tuple(value["measures"]),
                "agreement": tuple(Agreement(**part) for part in value["agreement"]),
                "proven": tuple(value["proven"]),
                "notes": tuple(value["notes"]),
            }
        )


_TIMES = ("began", "since", "answered_until", "paired_until")
