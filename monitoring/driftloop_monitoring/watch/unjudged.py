"""Giving up a window that cannot be judged, so that it does not hold up those after it: pure."""

from dataclasses import replace
from datetime import datetime

from driftloop_contracts.judgement import CheckKind, Finding, Severity, Window
from driftloop_monitoring.state.alert_actions import RaiseAlert, unjudged_message
from driftloop_monitoring.state.monitor_state import MonitorState
from driftloop_monitoring.state.window_tries import WindowTries
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
    finding = Finding(
        finding_id=stable_id(window.window_id, CheckKind.UNJUDGED),
        model=model,
        version=state.version,
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
            model, state.version, window.rows, window.started_at, tries.sentence
        ),
        since=window.started_at,
    )
    past = replace(state_past(state, closed), gave_up=True)
    return Judgement(
        state=with_outbox(past, (finding,)), window=window, findings=(finding,), alerts=(alert,)
    )
