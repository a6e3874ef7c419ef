"""After a promotion the former champion answers in the shadow, if pairs are possible: each row of
the new version is compared, and no user gets the former answer (docs/adr/0047). Pure."""

from dataclasses import replace
from datetime import datetime, timedelta

from driftloop_contracts.durations import in_words
from driftloop_contracts.errors import Conflict
from driftloop_contracts.model import ModelSpec
from driftloop_rollout.machine import Event, Rollout, apply
from driftloop_rollout.pairs import PairMetric, PairTrial
from driftloop_rollout.shadow_stage import Agreement, ShadowStage
from driftloop_rollout.shadow_verdict import ShadowStep
from driftloop_rollout.verdict import HARM_ALPHA


def unseen_holdback(rollout: Rollout, spec: ModelSpec, now: datetime) -> Rollout:
    """Return the rollout with a watch by pairs in place of a holdback of traffic; as it is if the
    candidate was not judged by its pairs, or answers in an engine, which has users to serve.
    """
    before = rollout.shadow
    if spec.kind.has_engine or before is None:
        return rollout
    if not before.judges_quality or not before.used or before.problem:
        return rollout
    metrics = tuple(PairMetric.start(metric.rule) for metric in before.trial.metrics)
    stage = ShadowStage(
        began=now,
        since=now,
        answered_until=now,
        paired_until=now,
        trial=PairTrial(metrics),
        measures=before.measures,
        labels=before.labels,
        agreement=tuple(Agreement(known.part) for known in before.agreement),
    )
    return replace(rollout, holdback=0.0, watch=stage)


def watch_view(rollout: Rollout) -> Rollout:
    """Return the rollout as the shadow sees it after the promotion: the former champion answers the
    rows of the new one."""
    if rollout.champion is None:
        raise Conflict(f"rollout {rollout.id} has not been adopted yet")
    return replace(
        rollout, candidate=rollout.champion, champion=rollout.candidate, shadow=rollout.watch
    )


def watch_judged(stage: ShadowStage) -> ShadowStep:
    """It is harm if the former champion, which answers unseen, is shown to be the better one."""
    metrics = stage.trial.metrics
    numbers = stage.trial.judge().numbers
    for metric in metrics:
        level = HARM_ALPHA * metric.rule.share / len(metrics)
        if metric.counts and metric.better.shows(level):
            reason = f"{metric.rule.name}: {_compared(metric)}; worse is shown at p < {HARM_ALPHA}"
            return ShadowStep(stage, "harm", reason, "worse", numbers)
    shown = "; ".join(f"{metric.rule.name}: {_compared(metric)}" for metric in metrics)
    return ShadowStep(stage, "hold", "; ".join(r for r in (stage.problem, shown) if r), "undecided")


def not_watchable(step: ShadowStep) -> ShadowStep:
    """What ends the shadow of a candidate only ends the watch of a former champion."""
    return replace(step, outcome="skip", word="undecided")


def watched(
    rollout: Rollout,
    step: ShadowStep,
    age_s: float | None,
    limit: timedelta,
    holdback: float,
    now: datetime,
) -> Rollout | None:
    """Return the promotion after a step of its watch, None if nothing changed. age_s: by which
    labels come. It stands once the rows of as long a time after it are compared, or after `limit`.
    If pairs are not possible any more, the former champion gets `holdback` of the traffic."""
    since, stage = rollout.stepped_at or now, step.stage
    if step.outcome == "harm":
        after = replace(rollout, watch=stage, verdict=step.word)
        reason = f"after the promotion, {step.reason}"
        return apply(after, Event.HARM, now, reason, numbers=step.numbers)
    if step.outcome == "skip":
        reason = f"promoted; {step.reason}; the former champion keeps {holdback:.0%} instead"
        return replace(rollout, watch=None, holdback=holdback, stepped_at=now, reason=reason)
    compared = False
    if stage is not None and age_s is not None and not stage.problem:
        compared = stage.paired_until >= since + timedelta(seconds=age_s)
    after = replace(rollout, watch=stage)
    if compared or now - since > limit:
        reason = f"no harm was shown by the labels of the promotion; {step.reason}"
        return apply(after, Event.PROVE, now, reason, numbers=step.numbers)
    takes = f", about {in_words(2 * age_s)} in all" if age_s else ""
    former = rollout.champion and rollout.champion.version
    after = replace(
        after,
        reason=f"promoted; version {former} answers in the shadow until the labels of the "
        f"promotion have come{takes}; {step.reason}",
    )
    return after if after != rollout else None


def _compared(metric: PairMetric) -> str:
    if not metric.rows:
        return "no pair yet"
    new, former = metric.champion_sum / metric.rows, metric.candidate_sum / metric.rows
    return f"new {new:.4f}, former {former:.4f} on the same {metric.rows:,} rows"
