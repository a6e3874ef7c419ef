"""What was seen of a rollout: losses of both arms, each row used once, cohorts of equal age.

Requests (errors, latency) are used as soon as they are surely complete in the lake, rows (quality)
only up to a time before which nearly all rows of both arms have their label: judging what was
labelled first would compare the arms on different kinds of rows. Two cursors say up to where each
was used; they are saved together with the tests' wealth, so a crash uses nothing twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from driftloop_contracts.model import ModelSpec
from driftloop_evaluation.settling import settled_until
from driftloop_rollout.arm_rows import EPOCH, ArmRows, time_of
from driftloop_rollout.coverage import Coverage, labelled_until
from driftloop_rollout.verdict import Losses, Metric, Rule, Trial

MIN_PAST_REQUESTS = 100
PATIENCE = timedelta(minutes=5)
"""How long requests wait for one of the other arm to be compared with."""


@dataclass(frozen=True, slots=True)
class Margins:
    """What is compared and how; see RolloutSettings."""

    quality: float
    errors: float
    latency: float
    latency_floor_s: float
    label_age_s: float
    label_coverage: float
    answers: float | None = None
    """Of malformed answers; None if they are not judged."""
    judge_latency: bool = True


@dataclass(frozen=True, slots=True)
class ChampionBaseline:
    """The champion's past. Rates are mean losses; None: unknown.

    slow_above_s: a request slower than this counts as slow (the 95th percentile, or the floor).
    scale: see `LossRule`; None for classes.
    """

    slow_above_s: float
    error_rate: float
    slow_rate: float
    quality_rate: float | None
    scale: float | None
    requests_per_s: float
    rows_per_s: float
    malformed_rate: float = 0.0


@dataclass(frozen=True, slots=True)
class RolloutEvidence:
    """What was seen of a rollout so far, and up to where.

    unaccounted: rows of both versions that loss accounting could not find when the rollout began.
    waiting: why labelled rows are not used yet; empty if they are.
    """

    baseline: ChampionBaseline
    trial: Trial
    requests_until: datetime
    labels_until: datetime
    unaccounted: int = 0
    waiting: str = ""
    coverage: Coverage = field(default_factory=Coverage)

    @property
    def quality_is_judged(self) -> bool:
        return any(m.rule.name == "quality" for m in self.trial.metrics)

    def to_dict(self) -> dict[str, Any]:
        return {
            "baseline": asdict(self.baseline),
            "trial": self.trial.to_dict(),
            "requests_until": self.requests_until.isoformat(),
            "labels_until": self.labels_until.isoformat(),
            "unaccounted": self.unaccounted,
            "waiting": self.waiting,
            "coverage": asdict(self.coverage),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "RolloutEvidence":
        return cls(
            ChampionBaseline(**value["baseline"]),
            Trial.from_dict(value["trial"]),
            datetime.fromisoformat(value["requests_until"]),
            datetime.fromisoformat(value["labels_until"]),
            value["unaccounted"],
            value["waiting"],
            Coverage(**value.get("coverage", {})),
        )


def start(
    spec: ModelSpec,
    margins: Margins,
    rungs: Sequence[float],
    past: ArmRows,
    scale: float | None,
    since: datetime,
) -> RolloutEvidence | None:
    """Nothing seen yet. past: the champion's newest rows; None if they are too few to know what a
    slow request is, or if no error scale is known for a regression."""
    requests = past.where(past.first & ~past.canary)
    if len(requests.at) < MIN_PAST_REQUESTS or (spec.task == "regression" and scale is None):
        return None
    latency = requests.latency_s[~np.isnan(requests.latency_s)]
    p95 = float(np.quantile(latency, 0.95)) if len(latency) else 0.0
    limit = max(p95, margins.latency_floor_s)
    seconds = max((past.at[-1] - past.at[0]) / 1e6, 1e-3)
    losses, formed = past.arms(past.loss)[1], past.arms(past.malformed)[1]
    baseline = ChampionBaseline(
        slow_above_s=limit,
        error_rate=float(requests.failed.mean()),
        slow_rate=float((latency > limit).mean()) if len(latency) else 0.0,
        quality_rate=float(losses.mean()) if len(losses) else None,
        scale=scale,
        requests_per_s=len(requests.at) / seconds,
        # Of answers only those that somebody rates bring a verdict nearer.
        rows_per_s=len(losses if spec.task == "generation" else past.at) / seconds,
        malformed_rate=float(formed.mean()) if len(formed) else 0.0,
    )
    judged = spec.task is not None
    metrics = [Metric.start(Rule("errors", margins.errors, not judged), rungs, baseline.error_rate)]
    if margins.judge_latency:
        rule = Rule("latency", margins.latency, not judged)
        metrics.append(Metric.start(rule, rungs, baseline.slow_rate))
    if margins.answers is not None:
        rule = Rule("format", margins.answers, decisive=False)
        metrics.append(Metric.start(rule, rungs, baseline.malformed_rate))
    if judged:
        rule = Rule("quality", margins.quality, decisive=True)
        metrics.insert(0, Metric.start(rule, rungs, baseline.quality_rate))
    return RolloutEvidence(baseline, Trial(tuple(metrics)), since, since)


def extend(
    evidence: RolloutEvidence, recent: ArmRows, aged: ArmRows, margins: Margins, now: datetime
) -> RolloutEvidence:
    """The evidence with what can be used of the lake's rows since `requests_until` (`recent`) and
    since `labels_until` (`aged`); both may hold older rows too, which are not used again."""
    losses: dict[str, tuple[Losses, Losses]] = {}
    complete = max(_settled_until(recent, now), evidence.requests_until)
    new = recent.between(evidence.requests_until, complete)
    requests_until = complete
    if not new.has_both_arms and complete - evidence.requests_until < PATIENCE:
        # Nothing is compared with an arm that is silent; with little traffic that is most of the
        # ticks.
        new, requests_until = new.where(np.zeros(len(new.at), bool)), evidence.requests_until
    requests = new.where(new.first)
    losses["errors"] = requests.arms(requests.failed.astype(np.float64))
    slow = (requests.latency_s > evidence.baseline.slow_above_s).astype(np.float64)
    slow[np.isnan(requests.latency_s)] = np.nan
    losses["latency"] = requests.arms(slow)
    losses["format"] = new.arms(new.malformed)
    labels_until, waiting, coverage = evidence.labels_until, "", evidence.coverage
    if evidence.quality_is_judged:
        old_enough = min(complete, now - timedelta(seconds=margins.label_age_s))
        rows = aged.between(labels_until, old_enough)
        rows = rows.where(~rows.failed)
        until, waiting = labelled_until(rows, margins.label_coverage, margins.label_age_s, coverage)
        if until is not None:
            used = rows.between(labels_until, until)
            losses["quality"] = used.arms(used.loss)
            coverage = coverage.with_rows(used)
            labels_until = until
    return replace(
        evidence,
        trial=evidence.trial.update(losses),
        requests_until=requests_until,
        labels_until=labels_until,
        waiting=waiting,
        coverage=coverage,
    )


def _settled_until(rows: ArmRows, now: datetime) -> datetime:
    """The time before which no row is still to come; long ago without rows."""
    return settled_until(time_of(int(rows.at.max())), now) if len(rows.at) else EPOCH
