"""An alert that the error is expected to have risen, before labels can show it. Pure.

It is raised by a window whose expected loss is clearly above the reference's (`expected_loss`), by
the margin of the measured error and what a rhythm may explain. Labels that are there decide
instead: once enough rows since then were tested, the alert is closed, whatever they showed.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_contracts.judgement import CheckKind, Finding, Severity, Window
from driftloop_monitoring.state.alert_actions import (
    AlertAction,
    CloseAlerts,
    RaiseAlert,
    estimate_message,
)
from driftloop_monitoring.state.monitor_state import MonitorState
from driftloop_monitoring.state.reference import Reference
from driftloop_monitoring.statistics.expected_loss import Expected
from driftloop_monitoring.statistics.performance import Rule
from driftloop_monitoring.statistics.positions import seconds_of
from driftloop_monitoring.statistics.windows import stable_id

ENOUGH = 500
"""Rows tested by their labels, after which these decide."""


@dataclass(frozen=True, slots=True)
class Estimated:
    """window: with what is expected of its rows."""

    state: MonitorState
    window: Window
    findings: tuple[Finding, ...] = ()
    alerts: tuple[AlertAction, ...] = ()


def watch_window(
    state: MonitorState, reference: Reference, window: Window, rows: pa.Table, rule: Rule
) -> Estimated:
    """After a judged window of these rows."""
    expected = reference.expected(rows, state.test.calm.lesson.dispersion)
    if expected is not None:
        window = replace(
            window,
            estimated_loss=expected.mean,
            estimated_low=expected.low,
            estimated_high=expected.high,
        )
    known = state.tested is not None and state.tested.at >= window.started_at
    if expected is None or known or not _risen(state, reference, rows, expected, rule):
        closed = (CloseAlerts(CheckKind.ESTIMATE),) if state.expected_since else ()
        return Estimated(replace(state, expected_since=None, tested_since=0), window, (), closed)
    state = replace(state, expected_since=state.expected_since or window.started_at)
    if state.tested_since >= ENOUGH:
        return Estimated(state, window)
    finding = Finding(
        finding_id=stable_id(window.window_id, "estimate"),
        model=window.model,
        version=state.version,
        kind=CheckKind.ESTIMATE,
        check="confidence",
        severity=Severity.CRITICAL,
        columns=(),
        effect=expected.rise,
        significance=0.5 * math.erfc(expected.rise / expected.rise_error / math.sqrt(2)),
        window_id=window.window_id,
        at=window.ended_at,
        detail=f"rise of the expected loss of {expected.rows} rows, before their labels",
    )
    alert = RaiseAlert(
        alert_id=stable_id(window.window_id, "estimate", "alert"),
        findings=(finding,),
        message=estimate_message(reference.losses, state.version, expected, window.started_at),
        since=window.started_at,
    )
    return Estimated(state, window, (finding,), (alert,))


def watch_labels(
    state: MonitorState, rows: pa.Table, losses: NDArray[np.float64]
) -> tuple[MonitorState, tuple[AlertAction, ...]]:
    """After rows were tested by their labels."""
    since = state.expected_since
    if since is None or state.tested_since >= ENOUGH:
        return state, ()
    later = seconds_of(rows) >= since.timestamp()
    state = replace(state, tested_since=state.tested_since + int((later & ~np.isnan(losses)).sum()))
    over = state.tested_since >= ENOUGH
    return state, (CloseAlerts(CheckKind.ESTIMATE),) if over else ()


def _risen(
    state: MonitorState, reference: Reference, rows: pa.Table, expected: Expected, rule: Rule
) -> bool:
    lesson = rule.applied(state.test.calm.lesson)
    usual = max(0.0, float(lesson.usual(seconds_of(rows)).mean()))
    margin = reference.margin or rule.margin
    return expected.clearly_above(margin + rule.unexplained(lesson) + usual)
