"""The evidence of a rollout: losses of the rows drawn for either arm. Each row is used once, and
the arms are compared on cohorts of equal age.

Requests (errors, latency) are used as soon as they are complete in the lake. Rows (quality) are
used only up to a time before which nearly all rows of both arms have their label, because rows that
are labelled early differ from the others. Two cursors say how far each was used. They are saved
together with the wealth of the tests, so a crash uses nothing twice. An epoch in which routing keys
were seen is used as a whole: no cursor stops inside it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from math import inf
from typing import Any

import numpy as np

from driftloop_contracts.model import ModelSpec
from driftloop_evaluation.measures import QUALITY, Measure, Measures
from driftloop_evaluation.settling import SILENCE, settled_until
from driftloop_rollout.arm_rows import EPOCH, ArmRows, time_of, us_of
from driftloop_rollout.assignment import NO_HISTORY, DrawnRows, SplitSpan, drawn, usable
from driftloop_rollout.beside_quality import beside_quality
from driftloop_rollout.coverage import Coverage, labelled_until
from driftloop_rollout.label_delay import LabelDelay, mature_until
from driftloop_rollout.margins import Margins
from driftloop_rollout.units import Floats, KeyHistory, Units, spread_of
from driftloop_rollout.verdict import (
    AFTER,
    GUARD_PROOF_MARGIN,
    Metric,
    Rule,
    Trial,
)

MIN_PAST_REQUESTS = 100
Judge = Callable[[ArmRows], Floats]
"""rows [n] → their losses [n]."""
PATIENCE = timedelta(minutes=5)
"""How long requests of one arm wait for a request of the other."""


@dataclass(frozen=True, slots=True)
class ChampionBaseline:
    """The champion's past. Rates are mean losses; None: unknown.

    slow_above_s: a request slower than this counts as slow (the 95th percentile, or the floor).
    scale: see `LossRule`; None for classes. quality_spread, malformed_spread: the variances of
    the means of requests of several rows, beyond chance.
    """

    slow_above_s: float
    error_rate: float
    slow_rate: float
    quality_rate: float | None
    scale: float | None
    requests_per_s: float
    rows_per_s: float
    malformed_rate: float = 0.0
    quality_spread: float = 0.0
    malformed_spread: float = 0.0
    measures: tuple[Mapping[str, Any], ...] = ()
    """The measures of quality, the decisive one first (`Measure.to_dict`)."""

    def measured(self, spec: ModelSpec) -> tuple[Measure, ...]:
        return tuple(Measure.from_dict(spec, value) for value in self.measures)


@dataclass(frozen=True, slots=True)
class RolloutEvidence:
    """The evidence of a rollout so far, and the times up to which rows were used.

    unaccounted: rows of both versions that the loss accounting missed when the rollout began.
    waiting: why labelled rows are not used yet; empty if they are. splits: one for each step.
    """

    baseline: ChampionBaseline
    trial: Trial
    requests_until: datetime
    labels_until: datetime
    unaccounted: int = 0
    waiting: str = ""
    coverage: Coverage = field(default_factory=Coverage)
    splits: tuple[SplitSpan, ...] = ()
    labels: LabelDelay | None = None
    """How long the champion's labels take; None: not learned."""
    answered: int = 0
    """How many rows the candidate answered."""
    watched_from: datetime | None = None
    """When the candidate was promoted; None: not yet."""
    problem: str = ""
    """Why outputs or labels could not be judged in the newest cycle; nothing is promoted then."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """What is shown of both arms beside what decides, see `arm_metrics`."""

    @property
    def quality_is_judged(self) -> bool:
        return any(m.rule.name == QUALITY for m in self.trial.metrics)

    def to_dict(self) -> dict[str, Any]:
        return {
            "baseline": asdict(self.baseline),
            "trial": self.trial.to_dict(),
            "requests_until": self.requests_until.isoformat(),
            "labels_until": self.labels_until.isoformat(),
            "unaccounted": self.unaccounted,
            "waiting": self.waiting,
            "coverage": asdict(self.coverage),
            "splits": [span.to_dict() for span in self.splits],
            "labels": self.labels and self.labels.to_dict(),
            "answered": self.answered,
            "watched_from": self.watched_from and self.watched_from.isoformat(),
            "problem": self.problem,
            "metrics": dict(self.metrics),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "RolloutEvidence":
        return cls(
            ChampionBaseline(
                **{**value["baseline"], "measures": tuple(value["baseline"].get("measures", ()))}
            ),
            Trial.from_dict(value["trial"]),
            datetime.fromisoformat(value["requests_until"]),
            datetime.fromisoformat(value["labels_until"]),
            value["unaccounted"],
            value["waiting"],
            Coverage(**value.get("coverage", {})),
            tuple(SplitSpan.from_dict(span) for span in value.get("splits", ())),
            LabelDelay.from_dict(labels) if (labels := value.get("labels")) else None,
            value.get("answered", 0),
            datetime.fromisoformat(at) if (at := value.get("watched_from")) else None,
            value.get("problem", ""),
            value.get("metrics", {}),
        )

    def with_step(
        self,
        salt: str,
        weight: float,
        sticky_s: float | None,
        taken: datetime,
        served: bool,
        now: datetime,
        held_back: bool = False,
    ) -> "RolloutEvidence":
        """Add the split of the current step, which began at `taken`. served: whether all replicas
        have it now; requests answered before that are not used. held_back: see `SplitSpan`."""
        splits = self.splits
        if not splits or splits[-1].since != taken:
            before = splits[-1].weight if splits else 0.0
            splits = (
                *(replace(span, ended=span.ended or taken) for span in splits),
                SplitSpan(salt, weight, taken, sticky_s, before, held_back=held_back),
            )
        if served and splits[-1].started is None:
            splits = (*splits[:-1], replace(splits[-1], started=now))
        return replace(self, splits=splits)

    def watching(self, now: datetime) -> "RolloutEvidence":
        """The evidence of a candidate that is promoted now."""
        return replace(self, trial=self.trial.watching(), watched_from=now)

    def halted(self, at: datetime) -> "RolloutEvidence":
        """End the newest split: the candidate gets no more traffic from `at` on."""
        if not self.splits or self.splits[-1].ended is not None:
            return self
        return replace(self, splits=(*self.splits[:-1], replace(self.splits[-1], ended=at)))

    @property
    def saw_step(self) -> bool:
        """Whether traffic of the current step was used."""
        started = self.splits[-1].started if self.splits else None
        return started is not None and self.requests_until > started


def start(
    spec: ModelSpec,
    margins: Margins,
    rungs: Sequence[float],
    past: ArmRows,
    scale: float | None,
    since: datetime,
    measures: Measures | None = None,
    deadline_s: float = inf,
    proven: Collection[str] = (),
    share: float = 1.0,
) -> RolloutEvidence | None:
    """Return the evidence before any row was seen. It is None if the champion's rows are too few to
    say which request is slow, or if a regression has no error scale.

    past: the champion's newest rows, judged by `measures`. deadline_s: the promotion does not wait
    for a slice that has too few rows for a verdict in that time. proven: what pairs have shown of
    the candidate in the shadow; if it is the quality, errors and latency decide. share: of the
    levels, what the shadow has left."""
    judged_by = measures.all if measures else ()
    unknown = spec.task == "regression" and spec.objective is None and scale is None
    requests = past.where(past.first & ~past.canary)
    if len(requests.at) < MIN_PAST_REQUESTS or unknown:
        return None
    latency = requests.latency_s[~np.isnan(requests.latency_s)]
    p95 = float(np.quantile(latency, 0.95)) if len(latency) else 0.0
    limit = max(p95, margins.latency_floor_s)
    seconds = max((past.at[-1] - past.at[0]) / 1e6, 1e-3)
    losses, formed = past.arms(past.loss)[1], past.arms(past.malformed)[1]
    champion = past.where(~past.canary)
    baseline = ChampionBaseline(
        slow_above_s=limit,
        error_rate=float(requests.failed.mean()),
        slow_rate=float((latency > limit).mean()) if len(latency) else 0.0,
        quality_rate=float(losses.mean()) if len(losses) else None,
        scale=scale,
        requests_per_s=len(requests.at) / seconds,
        rows_per_s=_counted(spec, past, losses) / seconds,
        malformed_rate=float(formed.mean()) if len(formed) else 0.0,
        quality_spread=_spread(champion, champion.loss),
        malformed_spread=_spread(champion, champion.malformed),
        measures=tuple(measure.to_dict() for measure in judged_by),
    )
    judged = spec.task is not None
    decisive = {QUALITY, *(measure.name for measure in judged_by if measure.decisive)}
    open_quality = judged and not decisive <= set(proven)
    # After a shadow they exclude what they exclude beside an open quality, and guard each step.
    least = GUARD_PROOF_MARGIN if judged and not open_quality else 0.0
    rule = Rule("errors", max(margins.errors, least), not open_quality, share=share)
    metrics = [Metric.start(rule, rungs, baseline.error_rate)]
    if margins.judge_latency:
        rule = Rule("latency", max(margins.latency, least), not open_quality, share=share)
        metrics.append(Metric.start(rule, rungs, baseline.slow_rate))
    if margins.answers is not None:
        shown = "format" in proven
        rule = Rule("format", margins.answers, decisive=False, proven=shown, share=share)
        metrics.append(Metric.start(rule, rungs, baseline.malformed_rate))
    place = 0 if open_quality else len(metrics)
    if judged:
        margin = judged_by[0].margin if judged_by else margins.quality
        rule = Rule(QUALITY, margin, QUALITY not in proven, proven=QUALITY in proven, share=share)
        rule = replace(rule, of=judged_by[0].of if judged_by else "")
        quality = [Metric.start(rule, rungs, baseline.quality_rate)]
        for measure, values in zip(judged_by[1:], past.others, strict=True):
            metric = beside_quality(
                measure,
                past.arms(values)[1],
                rungs,
                seconds,
                deadline_s,
                proven=measure.name in proven,
                share=share,
            )
            (quality if measure.decisive else metrics).append(metric)
        # The first one is the slowest to decide.
        quality.sort(key=lambda metric: metric.rule.proven)
        metrics[place:place] = quality
    few = tuple(f"slice {name} ({rows} rows)" for name, rows in measures.small) if measures else ()
    return RolloutEvidence(baseline, Trial(tuple(metrics), few), since, since)


def _counted(spec: ModelSpec, past: ArmRows, losses: Floats) -> float:
    """Return the number of rows that count for the verdict on quality: the rated answers of a
    language model; under an objective, the share of all rows that has a loss."""
    if spec.task == "generation":
        return len(losses)
    if spec.objective is None:
        return len(past.at)
    return len(past.at) * len(losses) / max(1, int(past.labelled.sum()))


def extend(
    evidence: RolloutEvidence,
    recent: ArmRows,
    aged: ArmRows,
    margins: Margins,
    now: datetime,
    past: ArmRows | None = None,
) -> RolloutEvidence:
    """Return the evidence with the usable rows of the lake since `requests_until` (`recent`) and
    since `labels_until` (`aged`). Both may hold older rows, which are not used again. past: the
    champion's rows before both, from which the expected loss of a routing key is learned."""
    judged: dict[str, tuple[DrawnRows, Judge]] = {}
    champion = None if past is None else past.where(~past.canary)
    complete = max(_settled_until(recent, now), evidence.requests_until)
    new = drawn(recent.between(evidence.requests_until, complete), evidence.splits)
    over_by = max(complete, now - SILENCE)  # an epoch ends even if traffic has stopped
    requests_until = usable(new, evidence.requests_until, complete, over_by)
    new = new.part(requests_until)
    silent = new.has_silent_arm
    if silent and requests_until - evidence.requests_until < PATIENCE:
        # There is nothing to compare with in a silent arm.
        requests_until = evidence.requests_until
    elif not silent:
        slow = partial(_slow, above_s=evidence.baseline.slow_above_s)
        judged |= {"errors": (new, _failed), "latency": (new, slow), "format": (new, _malformed)}
    moved = requests_until > evidence.requests_until
    answered = evidence.answered + (int(new.rows.canary.sum()) if moved else 0)
    labels_until, waiting, coverage = evidence.labels_until, "", evidence.coverage
    if evidence.quality_is_judged and not aged.problem:
        mature = mature_until(evidence.labels, margins.label_age_s, now)
        # A said age holds for all rows; a learned one only for those that are not all labelled.
        aged_at = mature if margins.label_age_s and mature else now
        rows = aged.between(labels_until, min(complete, aged_at))
        labelled = drawn(rows.where(~rows.failed), evidence.splits)
        until, waiting = labelled_until(
            labelled.rows,
            labelled.usable_until(min(over_by, aged_at)),
            margins.label_coverage,
            mature,
            coverage,
            margins.unequal_labels,
        )
        if until is not None:
            used = labelled.part(until)
            coverage = coverage.with_rows(used.rows)
            if margins.unequal_labels:
                used = replace(used, rows=coverage.levelled(used.rows))
            if not used.has_silent_arm:
                judged[QUALITY] = used, _loss
                for number, measure in enumerate(evidence.baseline.measures[1:]):
                    judged[measure["name"]] = used, partial(_other, number=number)
            labels_until = until
    units = {n: _units(evidence, n, rows, champion, j) for n, (rows, j) in judged.items()}
    if (since := evidence.watched_from) is not None:
        later = {n + AFTER: (rows, j) for n, (rows, j) in judged.items()}
        units |= {n: _units(evidence, n, r, champion, j, since) for n, (r, j) in later.items()}
    return replace(
        evidence,
        trial=evidence.trial.update(units),
        requests_until=requests_until,
        labels_until=labels_until,
        waiting=waiting,
        coverage=coverage,
        answered=answered,
        problem=aged.problem,
    )


def _units(
    evidence: RolloutEvidence,
    name: str,
    rows: DrawnRows,
    champion: ArmRows | None,
    judge: Judge,
    since: datetime | None = None,
) -> Units:
    """since: rows before it do not count."""
    metric, baseline = evidence.trial.metric(name), evidence.baseline
    q = 0.0 if metric is None else metric.q
    history = NO_HISTORY
    if champion is not None:
        history = KeyHistory.of(champion.key, judge(champion))
    alone = {QUALITY: baseline.quality_spread, "format": baseline.malformed_spread}
    values = judge(rows.rows)
    if since is not None:
        values = np.where(rows.rows.at < us_of(since), np.nan, values)
    return rows.units(values, history, q, alone.get(name.removesuffix(AFTER), 0.0))


def _other(rows: ArmRows, number: int) -> Floats:
    return np.where(rows.failed, np.nan, rows.others[number])


def _failed(rows: ArmRows) -> Floats:
    """Return 1 for a failed request, at its first row; NaN for other rows."""
    return np.where(rows.first, rows.failed.astype(np.float64), np.nan)


def _slow(rows: ArmRows, above_s: float) -> Floats:
    """Return 1 for a slow request, at its first row; NaN for other rows."""
    slow = (rows.latency_s > above_s).astype(np.float64)
    return np.where(rows.first & ~np.isnan(rows.latency_s), slow, np.nan)


def _malformed(rows: ArmRows) -> Floats:
    return rows.malformed


def _loss(rows: ArmRows) -> Floats:
    return np.where(rows.failed, np.nan, rows.loss)


def _spread(rows: ArmRows, values: Floats) -> float:
    """Return the variance of the means of requests with several rows, beyond chance."""
    known = ~np.isnan(values)
    return spread_of(np.cumsum(rows.first)[known], values[known]) or 0.0


def _settled_until(rows: ArmRows, now: datetime) -> datetime:
    """Return the time before which the lake is complete; long ago if there are no rows."""
    return settled_until(time_of(int(rows.at.max())), now) if len(rows.at) else EPOCH
