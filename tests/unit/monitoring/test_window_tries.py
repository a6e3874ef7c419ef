"""When a window that fails to be judged is given up."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop_contracts.judgement import CheckKind
from driftloop_monitoring.state.alert_actions import CloseAlerts
from driftloop_monitoring.state.monitor_state import MonitorState
from driftloop_monitoring.state.window_tries import MIN_TIME, MIN_TRIES, WindowTries, begun
from driftloop_monitoring.watch.judgement import Judgement
from driftloop_monitoring.watch.unjudged import labels_judged

START = datetime(2026, 11, 24, tzinfo=UTC)


@given(st.floats(0.5, 7_200.0))
def test_however_often_it_is_tried_a_window_is_given_up_neither_early_nor_never(
    interval_s: float,
) -> None:
    tries, now, count = None, START, 0
    while tries is None or not tries.exhausted(now):
        tries = begun(tries, now).failed(ValueError("no"))
        now, count = now + timedelta(seconds=interval_s), count + 1
    assert count >= MIN_TRIES
    assert now - START >= MIN_TIME
    assert now - START <= max(MIN_TIME, MIN_TRIES * timedelta(seconds=interval_s)) + timedelta(
        seconds=interval_s
    )


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ArithmeticError("no\n distance"), "ArithmeticError: no distance"),
        (None, "the monitor ended while it judged"),
    ],
)
def test_the_sentence_has_the_last_reason(error: Exception | None, said: str) -> None:
    tries = begun(begun(None, START), START)
    tries = tries if error is None else tries.failed(error)
    assert tries.sentence == f"it could not be judged in 2 tries: {said}"


def test_a_reason_is_short_however_long_the_error() -> None:
    assert len(begun(None, START).failed(ValueError("x" * 10**6)).sentence) < 400


def test_tries_are_kept_with_the_state() -> None:
    tries = WindowTries(3, START, "why")
    state = MonitorState(1, START, tries=tries, gave_up=True, label_tries=tries)
    assert MonitorState.from_dict(state.to_dict()) == state
    assert state.promoted(2, START).tries is None
    assert state.promoted(2, START).label_tries is None
    old = state.to_dict()
    for name in ("tries", "gave_up", "label_tries", "gave_up_labels"):
        del old[name]
    assert MonitorState.from_dict(old) == MonitorState(1, START)


@pytest.mark.parametrize("window_too", [False, True])
def test_the_alert_is_closed_once_neither_window_nor_labels_are_given_up(window_too: bool) -> None:
    state = MonitorState(1, START, gave_up=window_too, gave_up_labels=True)
    found = labels_judged(Judgement(state=state))
    assert not found.state.gave_up_labels
    assert found.alerts == (() if window_too else (CloseAlerts(CheckKind.UNJUDGED),))
    assert labels_judged(found) == found
