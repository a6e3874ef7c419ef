"""The actions on alerts that follow from a judgement, and the messages of alerts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from driftloop_contracts.judgement import CheckKind, Finding
from driftloop_evaluation.loss_rule import LossRule
from driftloop_monitoring.statistics.expected_loss import Expected
from driftloop_monitoring.statistics.performance import Change, LossBaseline


@dataclass(frozen=True, slots=True, kw_only=True)
class RaiseAlert:
    """Raise an alert for the cause (kind) of `findings`, or attach them to the existing alert that
    is not closed. since: when the first affected row was predicted."""

    alert_id: str
    findings: tuple[Finding, ...]
    message: str
    since: datetime


@dataclass(frozen=True, slots=True)
class CloseAlerts:
    """Close the model's alerts of this kind; None: all of them."""

    kind: CheckKind | None = None


AlertAction = RaiseAlert | CloseAlerts


def performance_message(
    rule: LossRule, version: int, baseline: LossBaseline, change: Change, measure: str = ""
) -> str:
    """A sentence for people. measure: the name of a further objective, a guardrail or a slice;
    none: the first objective."""
    model, task = rule.spec.name, rule.spec.task
    said = rule.objective is not None and measure == rule.objective.name
    of = f" ({measure})" if measure and not said else ""
    since = f"since {change.at.isoformat(timespec='seconds')}"
    if rule.objective is not None:
        before, after = rule.value(baseline.mean), rule.value(change.mean_loss)
        what = rule.objective.in_sentence
        return (
            f"{model} version {version}: {what}{of} rose from {before:.4g} to {after:.4g}, over "
            f"{change.rows:,} labelled rows {since}"
        )
    if task == "generation":
        return (
            f"{model} version {version}: the mean rating{of} fell from {1 - baseline.mean:.1%} to "
            f"{1 - change.mean_loss:.1%}, over {change.rows:,} rated answers {since}"
        )
    what = "squared error (scaled)" if task == "regression" else "error rate"
    return (
        f"{model} version {version}: the {what}{of} rose from {baseline.mean:.1%} to "
        f"{change.mean_loss:.1%}, over {change.rows:,} labelled rows {since}"
    )


def estimate_message(rule: LossRule, version: int, expected: Expected, since: datetime) -> str:
    name = rule.objective.in_sentence if rule.objective is not None else "the error rate"
    before, after, low, high = (
        f"{rule.value(mean):.4g}" if rule.objective is not None else f"{mean:.1%}"
        for mean in (expected.mean - expected.rise, expected.mean, expected.low, expected.high)
    )
    return (
        f"{rule.spec.name} version {version}: without labels yet, {name} is expected to have "
        f"risen from {before} to {after} (95 %: {low} to {high}), by the confidence of "
        f"{expected.rows:,} answers since {since.isoformat(timespec='seconds')}"
    )


def judge_message(
    model: str, version: int, judge: str, baseline: LossBaseline, change: Change
) -> str:
    """Return the message of a judge alert. judge: the judge's name."""
    return (
        f"{model} version {version}: the mean score of the judge ({judge}) fell from "
        f"{1 - baseline.mean:.1%} to {1 - change.mean_loss:.1%}, over {change.rows:,} answers "
        f"since {change.at.isoformat(timespec='seconds')}"
    )


def quality_message(model: str, version: int, findings: Sequence[Finding]) -> str:
    """Return the message of a quality alert."""
    shown = "; ".join(f.detail for f in findings[:3])
    more = f"; and {len(findings) - 3} more" if len(findings) > 3 else ""
    return f"{model} version {version}: the data are broken: {shown}{more}"


def unjudged_message(
    model: str, version: int, rows: int, since: datetime, reason: str, *, labels: bool = False
) -> str:
    """A sentence for people. labels: the rows are those of a test of labels, not of a window."""
    what = f"the test of {rows:,} labelled rows" if labels else f"a window of {rows:,} rows"
    when = since.isoformat(timespec="seconds")
    return f"{model} version {version}: {what} since {when} was given up: {reason}"
