"""From rows of the lake to losses of both arms, each row used once, cohorts of equal age.

Requests (errors, latency) are used as soon as they are surely complete in the lake, rows (quality)
only up to a time before which nearly all rows of both arms have their label: judging what was
labelled first would compare the arms on different kinds of rows. Two cursors say up to where each
was used; they are saved together with the tests' wealth, so a crash uses nothing twice.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from driftloop_contracts.events import OUTPUT_PREFIX
from driftloop_contracts.model import ModelSpec
from driftloop_rollout.kind_evidence import EVIDENCE
from driftloop_rollout.output_quality import Scorer
from driftloop_rollout.verdict import Losses, Metric, Rule, Trial

SETTLE = timedelta(seconds=1)
"""Rows become visible out of order: replicas and packs differ by less than this."""
SILENCE = timedelta(seconds=30)
"""After this long without a newer row, traffic has stopped: the newest rows are complete."""
SCALE_RMSE = 3.0
"""Squared errors are cut at this many times the champion's root mean squared error."""
MIN_PAST_REQUESTS = 100
EQUAL_COVERAGE = 0.02
MIN_AGED_ROWS = 20
PATIENCE = timedelta(minutes=5)
"""So long requests wait for one of the other arm to be compared with."""
MIN_COVERED_ROWS = 50
"""Fewer rows say nothing of a share: the first few could be those that are labelled fastest."""


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
    """Of malformed answers; None for what is no language model."""
    judge_latency: bool = True


@dataclass(frozen=True, slots=True)
class ChampionBaseline:
    """The champion's past. Rates are mean losses; None: nothing is known of it.

    slow_above_s: a request slower than this counts as slow (the 95th percentile, or the floor).
    scale: a value's error is judged as min(1, (error/scale)²); None for classes.
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
class Coverage:
    """How many rows of both arms were used for quality, and how many of them had a label."""

    canary: int = 0
    stable: int = 0
    canary_labelled: int = 0
    stable_labelled: int = 0

    def with_rows(self, rows: "ArmRows") -> "Coverage":
        labelled = rows.canary & rows.labelled
        return Coverage(
            self.canary + int(rows.canary.sum()),
            self.stable + int((~rows.canary).sum()),
            self.canary_labelled + int(labelled.sum()),
            self.stable_labelled + int(rows.labelled.sum() - labelled.sum()),
        )

    @property
    def is_equal(self) -> bool:
        """Whether the shares differ by no more than EQUAL_COVERAGE and chance."""
        both = self.canary + self.stable
        canary, stable = max(self.canary, 1), max(self.stable, 1)
        mean = (self.canary_labelled + self.stable_labelled) / max(both, 1)
        noise = 3.0 * (mean * (1 - mean) * (1 / canary + 1 / stable)) ** 0.5
        apart = abs(self.canary_labelled / canary - self.stable_labelled / stable)
        return bool(apart <= EQUAL_COVERAGE + noise)


@dataclass(frozen=True, slots=True)
class RolloutEvidence:
    """What was seen of a rollout so far, and up to where.

    unaccounted: rows of both versions that loss accounting could not find when the rollout began.
    waiting: why labelled rows are not used yet; empty where they are.
    """

    baseline: ChampionBaseline
    trial: Trial
    requests_until: datetime
    labels_until: datetime
    unaccounted: int = 0
    waiting: str = ""
    coverage: Coverage = Coverage()

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


@dataclass(frozen=True, slots=True)
class ArmRows:
    """Rows of both arms as arrays, in order of `at` (µs since 1970).

    first: the first row of its request; loss is NaN where there is no label, or none to compare;
    malformed: 0 to 1 for a language model's answers, else NaN. The latency of a language model is
    its seconds per token.
    """

    at: NDArray[np.int64]
    canary: NDArray[np.bool_]
    first: NDArray[np.bool_]
    latency_s: NDArray[np.float64]
    failed: NDArray[np.bool_]
    labelled: NDArray[np.bool_]
    loss: Losses
    malformed: Losses

    def where(self, mask: NDArray[np.bool_]) -> "ArmRows":
        return ArmRows(
            self.at[mask],
            self.canary[mask],
            self.first[mask],
            self.latency_s[mask],
            self.failed[mask],
            self.labelled[mask],
            self.loss[mask],
            self.malformed[mask],
        )

    def between(self, since: datetime, until: datetime) -> "ArmRows":
        """Rows with since ≤ at < until."""
        return self.where((self.at >= _us(since)) & (self.at < _us(until)))

    @property
    def has_both_arms(self) -> bool:
        return bool(self.canary.any() and not self.canary.all())

    def arms(self, values: Losses) -> tuple[Losses, Losses]:
        """The values of the canary and of the stable arm, without NaNs."""
        known = ~np.isnan(values)
        return values[known & self.canary], values[known & ~self.canary]


def read_slice(
    table: pa.Table,
    spec: ModelSpec,
    scale: float | None,
    stable: int,
    candidate: int,
    scorer: Scorer | None = None,
) -> ArmRows:
    """Rows of a `LakeReader.labelled` table that the split sent to either arm; callers who named
    a version chose it themselves and are left out."""
    arm, version = _numpy(table["arm"]), _numpy(table["version"])
    canary = (arm == "canary") & (version == candidate)
    chosen = canary | ((arm == "stable") & (version == stable))
    labels = table["label"].to_pylist()
    kind = EVIDENCE[spec.kind]
    rows = ArmRows(
        at=table["predicted_at"].cast("int64").to_numpy(),
        canary=canary,
        first=_numpy(table["row"]) == 0,
        latency_s=_floats(table[kind.seconds]),
        failed=~_numpy(table["error"].is_null()).astype(bool),
        labelled=np.array([label is not None for label in labels], dtype=bool),
        loss=_losses(table, spec, scale, labels),
        malformed=kind.malformed(table, scorer),
    )
    return rows.where(chosen)


def _losses(
    table: pa.Table, spec: ModelSpec, scale: float | None, labels: Sequence[str | None]
) -> Losses:
    """0/1 for classes, min(1, (error/scale)²) for values, 1 - rating for answers; NaN where nothing
    can be compared."""
    if spec.task is None or (spec.task == "regression" and scale is None):
        return np.full(len(labels), np.nan)
    if spec.task == "generation":
        rating = _floats(table["label_number"])
        return np.where((rating >= 0) & (rating <= 1), 1.0 - rating, np.nan)
    output = table[OUTPUT_PREFIX + str(spec.output)]
    if pa.types.is_nested(output.type):
        output = pc.list_element(output, 0)
    if not (pa.types.is_primitive(output.type) or pa.types.is_decimal(output.type)):
        pairs = zip(output.to_pylist(), labels, strict=True)
        return np.array(
            [
                np.nan if seen is None or label in (None, "null") else seen != json.loads(label)
                for seen, label in pairs
            ],
            dtype=np.float64,
        )
    error = _floats(output.cast("float64")) - _floats(table["label_number"])
    if spec.task == "classification":
        return np.where(np.isnan(error), np.nan, (error != 0).astype(np.float64))
    return np.minimum(1.0, (error / (scale or np.nan)) ** 2)


def start(
    spec: ModelSpec,
    margins: Margins,
    rungs: Sequence[float],
    past: ArmRows,
    scale: float | None,
    since: datetime,
) -> RolloutEvidence | None:
    """Nothing seen yet. past: the champion's newest rows; None where they are too few to know what
    a slow request is, or where no error scale is known for a regression."""
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
    complete = max(_complete_until(recent, now), evidence.requests_until)
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
        until, waiting = _labelled_until(rows, margins, coverage)
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


def _complete_until(rows: ArmRows, now: datetime) -> datetime:
    """The time before which no row is still to come, as far as one can know."""
    if not len(rows.at):
        return _NEVER
    newest = _datetime(int(rows.at.max()))
    return newest + _TICK if now - newest > SILENCE else newest - SETTLE


def _labelled_until(
    rows: ArmRows, margins: Margins, before: Coverage
) -> tuple[datetime | None, str]:
    """The latest time up to which both arms are labelled well enough, or None; and why no later.
    before: what was used already, for few rows alone show no difference between the arms."""
    if not len(rows.at):
        return None, ""
    shares = []
    for arm in (rows.canary, ~rows.canary):
        seen = np.cumsum(arm)
        labelled = np.cumsum(arm & rows.labelled)
        shares.append(np.where(seen > 0, labelled / np.maximum(seen, 1), 1.0))
    ends = np.append(rows.at[1:] != rows.at[:-1], True)  # never cut through one request
    ends[: MIN_COVERED_ROWS - 1] = False
    good = ends & (shares[0] >= margins.label_coverage) & (shares[1] >= margins.label_coverage)
    canary, stable = float(shares[0][-1]), float(shares[1][-1])
    if good.any():
        return _datetime(int(rows.at[np.flatnonzero(good)[-1]])) + _TICK, ""
    if margins.label_age_s > 0 and min(canary, stable) > 0:
        if len(rows.at) < MIN_AGED_ROWS or not rows.has_both_arms:
            return None, ""
        # By this age every label that will come has come: equal shares are a fair sample.
        if before.with_rows(rows).is_equal:
            return _datetime(int(rows.at[-1])) + _TICK, ""
    return None, f"labels are late: {canary:.0%} of canary rows and {stable:.0%} of stable rows"


def rmse(past: pa.Table, output: str) -> float | None:
    """The root mean squared error of a table with `out_<output>` and `label_number`."""
    error = _floats(past[OUTPUT_PREFIX + output].cast("float64")) - _floats(past["label_number"])
    error = error[~np.isnan(error)]
    return float(np.sqrt((error**2).mean())) if len(error) >= MIN_PAST_REQUESTS else None


def _numpy(column: pa.ChunkedArray) -> NDArray[Any]:
    found: NDArray[Any] = column.to_numpy()
    return found


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """Nulls as NaN."""
    return np.asarray(column.to_numpy(), dtype=np.float64)


_NEVER = datetime.fromtimestamp(0, UTC)
_TICK = timedelta(microseconds=1)


def _us(at: datetime) -> int:
    return (at - _NEVER) // _TICK


def _datetime(us: int) -> datetime:
    return _NEVER + us * _TICK
