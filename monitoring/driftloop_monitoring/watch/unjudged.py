"""Giving up a window, or labels, that cannot be judged, so that they do not hold up those after
them: pure."""

from dataclasses import replace
from datetime import datetime

import pyarrow as pa

from driftloop_contracts.judgement import CheckKind, Finding, Severity, Window
from driftloop_monitoring.state.alert_actions import CloseAlerts, RaiseAlert, unjudged_message
from driftloop_monitoring.state.monitor_state import MonitorState
from driftloop_monitoring.state.window_tries import WindowTries
from driftloop_monitoring.statistics.positions import position_of
from driftloop_monitoring.statistics.windows import stable_id
from driftloop_monitoring.watch.judgement import (
    ClosedWindow,
    Judgement,
    state_past,
    window_id,
    with_outbox,
)


def unjudged_window(
    state: MonitorState, model: str, closed: ClosedWindow, tries: WindowTries, now: datetime
) -> Judgement:
    """The window as inconclusive with why, a finding and an alert. Nothing is computed from its
    rows but their times: any of it may be what fails."""
    times = closed.rows["predicted_at"]
    window = Window(
        window_id=window_id(model, state),
        model=model,
        kind=closed.cut.kind,
        lake_version=closed.lake_version,
        started_at=times[0].as_py(),
        ended_at=times[-1].as_py(),
        rows=closed.rows.num_rows,
        labelled=0,
        status="inconclusive",
        reason=tries.sentence,
        dropped=closed.loss.dropped_since(state.loss),
        unexplained=closed.loss.unexplained_since(state.loss),
    )
    past = replace(state_past(state, closed), gave_up=True)
    return _given_up(past, window, tries, now)


def unjudged_labels(
    state: MonitorState,
    model: str,
    ready: pa.Table,
    tries: WindowTries,
    lake_version: int,
    now: datetime,
) -> Judgement:
    """The same of labelled rows. What the tests have learned until then is kept."""
    times = ready["predicted_at"]
    before = state.tested.to_dict() if state.tested else None
    window = Window(
        window_id=stable_id(model, state.version, "unjudged labels", before),
        model=model,
        kind="labels",
        lake_version=lake_version,
        started_at=times[0].as_py(),
        ended_at=times[-1].as_py(),
        rows=ready.num_rows,
        labelled=ready.num_rows,
        status="inconclusive",
        reason=tries.sentence,
    )
    past = replace(state, tested=position_of(ready), label_tries=None, gave_up_labels=True)
    return _given_up(past, window, tries, now)


def labels_judged(judged: Judgement) -> Judgement:
    """With the end of the tries, after labels that were given up also of their alert."""
    state, alerts = replace(judged.state, label_tries=None), judged.alerts
    if state.gave_up_labels:
        state = replace(state, gave_up_labels=False)
        if not state.gave_up:
            alerts = (*alerts, CloseAlerts(CheckKind.UNJUDGED))
    return replace(judged, state=state, alerts=alerts)


def _given_up(past: MonitorState, window: Window, tries: WindowTries, now: datetime) -> Judgement:
    """past: the state with the rows behind it."""
    finding = Finding(
        finding_id=stable_id(window.window_id, CheckKind.UNJUDGED),
        model=window.model,
        version=past.version,
        kind=CheckKind.UNJUDGED,
        check="tries",
        severity=Severity.CRITICAL,
        columns=(),
        effect=float(tries.count),
        significance=0.0,
        window_id=window.window_id,
        at=now,
        detail=tries.sentence,
    )
    alert = RaiseAlert(
        alert_id=stable_id(window.window_id, "alert"),
        findings=(finding,),
        message=unjudged_message(
            window.model,
            past.version,
            window.rows,
            window.started_at,
            tries.sentence,
            labels=window.kind == "labels",
        ),
        since=window.started_at,
    )
    return Judgement(
        state=with_outbox(past, (finding,)), window=window, findings=(finding,), alerts=(alert,)
    )
