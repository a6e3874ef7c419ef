"""How a rollout's evidence grew: points for people to see. No decision reads them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from driftloop_rollout.verdict import Metric

MOST_POINTS = 120


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """logs: of each metric, the natural logarithms of the highest e-values so far, for "worse" and
    for the proof that a promotion needs."""

    at: datetime
    logs: Mapping[str, tuple[float, float]]

    def to_dict(self) -> dict[str, Any]:
        logs = {name: [round(value, 4) for value in pair] for name, pair in self.logs.items()}
        return {"at": self.at.isoformat(), "logs": logs}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "CurvePoint":
        logs = {name: (worse, proof) for name, (worse, proof) in value["logs"].items()}
        return cls(datetime.fromisoformat(value["at"]), logs)


def extended(
    curve: Sequence[CurvePoint], metrics: Sequence[Metric], now: datetime
) -> tuple[CurvePoint, ...]:
    """With the evidence of now, if it differs from the last. Of a curve that is full every second
    point is kept, so that it spans the rollout however long that is."""
    logs = {m.rule.name: (round(m.worse.best, 4), round(m.proof.best, 4)) for m in metrics}
    if curve and dict(curve[-1].logs) == logs:
        return tuple(curve)
    kept = tuple(curve) if len(curve) < MOST_POINTS else tuple(curve[::2])
    return (*kept, CurvePoint(now, logs))
