"""Judges a model's rows. Pure: from values to a `Judgement`.

Two clocks: `judge_window` compares rows with the reference as soon as their window is closed;
`judge_labels` tests the model's error once labels have been received. All ids are derived from the
state, so a judgement repeated after a crash has the same ids.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected
from driftloop_contracts.judgement import CheckKind, Finding, Severity, Window
from driftloop_evaluation.measures import QUALITY
from driftloop_lake.capture_loss import CaptureLoss
from driftloop_monitoring.state.alert_actions import (
    AlertAction,
    CloseAlerts,
    RaiseAlert,
    performance_message,
    quality_message,
)
from driftloop_monitoring.state.checks import window_findings
from driftloop_monitoring.state.judging_policy import JudgingPolicy
from driftloop_monitoring.state.monitor_state import MonitorState
from driftloop_monitoring.state.reference import Reference
from driftloop_monitoring.statistics.drift import MIN_REFERENCE, Distance
from driftloop_monitoring.statistics.label_delays import newest_delays
from driftloop_monitoring.statistics.performance import (
    Change,
    LossBaseline,
    Rule,
    State,
    update,
)
from driftloop_monitoring.statistics.positions import position_of, seconds_of
from driftloop_monitoring.statistics.window_loss import WindowLoss
from driftloop_monitoring.statistics.windows import Cut, stable_id
from driftloop_monitoring.watch.estimate_watch import watch_labels, watch_window
from driftloop_monitoring.watch.labelled_rows import labelled_rows

DRIFT = (CheckKind.DRIFT, CheckKind.PREDICTION_DRIFT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """state: the next state. window, findings: to be recorded. alerts: the actions, in order.
    sketch: what charts show of the window's columns."""

    state: MonitorState
    window: Window | None = None
    sketch: Mapping[str, Sequence[float | None]] | None = None
    findings: tuple[Finding, ...] = ()
    alerts: tuple[AlertAction, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedWindow:
    """rows: of the state's version, sorted. cut: how the window was closed. loss: the version's
    losses up to the lake's version `lake_version`."""

    rows: pa.Table
    cut: Cut
    loss: CaptureLoss
    lake_version: int


@dataclass(frozen=True, slots=True)
class Observation:
    """Results about a window from other sources than the checks: an engine, embeddings, a judge.

    shown: numbers to display with the window. notes: remarks for its reader.
    """

    shown: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    alerts: tuple[AlertAction, ...] = ()

    def __add__(self, other: "Observation") -> "Observation":
        return Observation(
            {**self.shown, **other.shown},
            (*self.notes, *other.notes),
            (*self.findings, *other.findings),
            (*self.alerts, *other.alerts),
        )


NOTHING = Observation()


def new_champion(state: MonitorState, version: int, now: datetime) -> Judgement:
    """Start to judge another version: its rows are judged from the beginning, and all alerts are
    closed."""
    return Judgement(state=state.promoted(version, now), alerts=(CloseAlerts(),))


def live_reference_rows(
    rows: pa.Table,
    now: datetime,
    policy: JudgingPolicy,
    *,
    labelled: bool,
    labels: Sequence[str] | None = (),
) -> int | None:
    """Return how many of the first rows of a model without a reference become its reference; None:
    wait for more. labelled: whether the model's rows get labels, which the reference then waits
    for; labels: their keys (`ModelSpec.awaited`)."""
    ready = labelled_rows(rows, now, policy, labels).num_rows if labelled else rows.num_rows
    known = rows["label_number"].is_valid().to_numpy() if labels is not None else np.ones(ready)
    return policy.first_rows(ready, known)


def window_id(model: str, state: MonitorState) -> str:
    """Of the next window behind the state."""
    start = state.windowed.to_dict() if state.windowed else None
    return stable_id(model, state.version, "window", start)


def state_past(state: MonitorState, closed: ClosedWindow) -> MonitorState:
    """With the window behind it, whatever came of it."""
    return replace(state, windowed=position_of(closed.rows), loss=closed.loss, tries=None)


def window_record(state: MonitorState, reference: Reference, closed: ClosedWindow) -> Window:
    """Return the window's record before its checks. It is `inconclusive`, with the reason, if
    checks would be meaningless."""
    rows, model = closed.rows, reference.losses.spec.name
    dropped = closed.loss.dropped_since(state.loss)
    loss = WindowLoss(rows.num_rows, dropped, closed.loss.unexplained_since(state.loss))
    doubt = loss.doubt or closed.cut.reason
    if not doubt and reference.rows < MIN_REFERENCE:
        doubt = f"the reference has only {reference.rows} of at least {MIN_REFERENCE} rows"
    live = "reference: the first live rows" if reference.live else ""
    losses, problem = _judged_rows(reference, rows)
    losses = losses[~np.isnan(losses)]
    few = ", ".join(reference.few)
    few = f"too few reference rows to test: {few}" if few else ""
    return Window(
        window_id=window_id(model, state),
        model=model,
        kind=closed.cut.kind,
        lake_version=closed.lake_version,
        started_at=rows["predicted_at"][0].as_py(),
        ended_at=rows["predicted_at"][-1].as_py(),
        rows=rows.num_rows,
        labelled=len(losses),
        status="inconclusive" if doubt or problem else "judged",
        reason=doubt or problem or _sentence(live, loss.note, few),
        mean_loss=float(losses.mean()) if losses.size else None,
        performance=_performance(state.test, reference.baseline),
        dropped=dropped,
        unexplained=loss.unexplained,
    )


def judge_window(
    state: MonitorState,
    reference: Reference,
    closed: ClosedWindow,
    policy: JudgingPolicy,
    distance: Distance,
    observed: Observation = Observation(),
) -> Judgement:
    """Check a closed window against the reference. An inconclusive window has no findings and does
    not change alerts or the columns known as broken or drifted.

    observed: results about this window in addition to the checks.
    """
    window = window_record(state, reference, closed)
    state = state_past(state, closed)
    if window.status == "inconclusive":
        problem = _judged_rows(reference, closed.rows)[1]
        found = _not_judged(window, state.version) if problem == window.reason else ()
        return Judgement(state=with_outbox(state, found), window=window, findings=found)
    checked = window_findings(
        reference,
        closed.rows,
        model=window.model,
        version=state.version,
        window_id=window.window_id,
        at=window.ended_at,
        rule=policy.drift,
        distance=distance,
    )
    window = replace(
        window,
        reason=_sentence(window.reason, *observed.notes),
        performance={**window.performance, **_unseen(state, reference, policy), **observed.shown},
    )
    estimate = watch_window(state, reference, window, closed.rows, policy.performance)
    state, window = estimate.state, estimate.window
    findings = (*checked, *observed.findings, *estimate.findings)
    broken = tuple(
        f for f in findings if f.severity is Severity.CRITICAL and f.kind is CheckKind.QUALITY
    )
    state = replace(
        state,
        broken=tuple(sorted({c for f in broken for c in f.columns})),
        drifted=tuple(sorted({c for f in findings if f.kind in DRIFT for c in f.columns})),
    )
    alerts = (*observed.alerts, _quality_action(window, state.version, broken), *estimate.alerts)
    if state.gave_up:
        state = replace(state, gave_up=False)
        if not state.gave_up_labels:
            alerts = (*alerts, CloseAlerts(CheckKind.UNJUDGED))
    return Judgement(
        state=with_outbox(state, findings), window=window, findings=findings, alerts=alerts
    )


def judge_labels(
    state: MonitorState,
    reference: Reference,
    rows: pa.Table,
    now: datetime,
    policy: JudgingPolicy,
    lake_version: int,
) -> Judgement:
    """Test the error of the oldest `rows` whose labels have been received; the others wait.

    If the test alerts, the judgement contains a window of the rows since the change, its finding
    and the alert. Without a baseline nothing is tested.
    """
    baseline = reference.baseline
    ready = labelled_rows(rows, now, policy, reference.losses.spec.awaited)
    if baseline is None or not ready.num_rows:
        return Judgement(state=state)
    losses, problem = _judged_rows(reference, ready)
    if problem:  # the window of these rows says so
        tested = replace(state, tested=position_of(ready))
        return Judgement(state=tested)
    # The promised rate of false alerts is of all tests of the model together.
    shared = policy.performance.of_tests(1 + len(reference.watched))
    margin = reference.margin or shared.margin
    test = _updated(state.test, losses, ready, baseline, replace(shared, margin=margin))
    tests, risen = {}, None
    if test.alert is not None and state.test.alert is None:
        risen = (QUALITY, baseline, test.alert)
    for one in reference.watched:
        name = one.measure.name
        before = state.tests.get(name, State())
        rule = replace(shared, margin=one.measure.margin or margin)
        tests[name] = _updated(before, one.measure.losses(ready), ready, one.baseline, rule)
        if (change := tests[name].alert) is None or before.alert is not None:
            continue
        if risen is None:
            risen = (name, one.baseline, change)
        else:  # one alert at a time: this one is tested again
            tests[name] = before
    delays = newest_delays(state.label_delays_s, ready)
    tested = replace(
        state, test=test, tests=tests, tested=position_of(ready), label_delays_s=delays
    )
    tested, closed = watch_labels(tested, ready, losses)
    if risen is None:
        return Judgement(state=tested, alerts=closed)
    last = ready["predicted_at"][-1].as_py()
    judged = _risen_error(tested, reference, *risen, last, now, lake_version)
    return replace(judged, alerts=(*judged.alerts, *closed))


def _updated(
    test: State, losses: NDArray[np.float64], rows: pa.Table, baseline: LossBaseline, rule: Rule
) -> State:
    usable = ~np.isnan(losses)
    return update(test, losses[usable], seconds_of(rows)[usable], baseline, rule)


def _judged_rows(reference: Reference, rows: pa.Table) -> tuple[NDArray[np.float64], str]:
    """The losses of rows, all NaN with the reason if they cannot be judged."""
    none = np.full(rows.num_rows, np.nan)
    if reference.problem:
        return none, reference.problem
    try:
        for one in reference.watched:
            one.measure.losses(rows)
        return reference.losses.losses(rows), ""
    except Rejected as error:
        return none, str(error)


def _not_judged(window: Window, version: int) -> tuple[Finding, ...]:
    """The finding that the rows of an inconclusive window cannot be judged by the objective."""
    return (
        Finding(
            finding_id=stable_id(window.window_id, "objective"),
            model=window.model,
            version=version,
            kind=CheckKind.PERFORMANCE,
            check="objective",
            severity=Severity.WARNING,
            columns=(),
            effect=0.0,
            significance=1.0,
            window_id=window.window_id,
            at=window.ended_at,
            detail=window.reason,
        ),
    )


def _risen_error(
    state: MonitorState,
    reference: Reference,
    name: str,
    baseline: LossBaseline,
    change: Change,
    last: datetime,
    now: datetime,
    lake_version: int,
) -> Judgement:
    spec = reference.losses.spec
    own = () if name == QUALITY else (name,)
    test = state.test if name == QUALITY else state.tests[name]
    labels_id = stable_id(spec.name, state.version, "labels", change.row, change.at, *own)
    window = Window(
        window_id=labels_id,
        model=spec.name,
        kind="labels",
        lake_version=lake_version,
        started_at=change.at,
        ended_at=last,
        rows=change.rows,
        labelled=change.rows,
        status="judged",
        reason=_sentence("rows since the estimated change of the error", *own),
        mean_loss=change.mean_loss,
        performance=_performance(test, baseline),
    )
    finding = Finding(
        finding_id=stable_id(labels_id, "performance"),
        model=spec.name,
        version=state.version,
        kind=CheckKind.PERFORMANCE,
        check="e_detector",
        severity=Severity.CRITICAL,
        columns=(),
        effect=change.mean_loss - baseline.mean,
        significance=float(np.exp(-test.log_e)),
        window_id=labels_id,
        at=now,
        detail=_sentence(f"rise of the mean loss over {change.rows} labelled rows", *own),
    )
    alert = RaiseAlert(
        alert_id=stable_id(labels_id, "alert"),
        findings=(finding,),
        message=performance_message(reference.rule(name), state.version, baseline, change, *own),
        since=change.at,
    )
    return Judgement(
        state=with_outbox(state, (finding,)),
        window=window,
        findings=(finding,),
        alerts=(alert,),
    )


def _quality_action(window: Window, version: int, broken: tuple[Finding, ...]) -> AlertAction:
    if not broken:
        return CloseAlerts(CheckKind.QUALITY)
    return RaiseAlert(
        alert_id=stable_id(window.window_id, "alert"),
        findings=broken,
        message=quality_message(window.model, version, broken),
        since=window.started_at,
    )


def with_outbox(state: MonitorState, findings: tuple[Finding, ...]) -> MonitorState:
    return replace(state, outbox=(*state.outbox, *(f.to_dict() for f in findings)))


def _performance(test: State, baseline: LossBaseline | None) -> dict[str, float]:
    shown = {"rows": float(test.rows)}
    if np.isfinite(test.log_e):
        shown["log_e"] = round(test.log_e, 3)
    if test.mean_loss is not None:
        shown["mean_loss"] = test.mean_loss
    if baseline is not None:
        dispersion = test.calm.lesson.dispersion
        shown |= {"baseline": baseline.mean, "ceiling": baseline.ceiling(dispersion)}
        shown |= {"dispersion": round(dispersion, 2)}
    return shown


def _unseen(state: MonitorState, known: Reference, policy: JudgingPolicy) -> dict[str, float]:
    rule = replace(policy.performance, margin=known.margin or policy.performance.margin)
    rise = rule.unexplained(rule.applied(state.test.calm.lesson))
    return {"may_be_rhythm": rise} if state.test.rows and rise else {}


def _sentence(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
