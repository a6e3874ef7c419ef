import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftloop_monitoring.statistics.performance import LossBaseline, Rule, State, update

START = datetime(2026, 1, 1, tzinfo=UTC)
RULE = Rule(margin=0.01, run_length=1e5, rhythm=False)


def times(n: int, first: int = 0) -> np.ndarray:
    return START.timestamp() + first + np.arange(n)


def errors(rate: float, n: int, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random(n) < rate).astype(float)


def baseline(rate: float, rows: int = 10_000) -> LossBaseline:
    return LossBaseline(rate, rate * (1 - rate), rows)


def delay(before: float, after: float, seed: int, change: int = 20_000) -> int:
    """Rows after the change until the alert, to the next 50; negative for a false one."""
    losses = np.concatenate([errors(before, change, seed), errors(after, 20_000, seed + 1_000)])
    return first_alert(losses, before) - change


def first_alert(losses: np.ndarray, rate: float) -> int:
    state = State()
    for i in range(0, len(losses), 50):
        state = update(state, losses[i : i + 50], times(50, i), baseline(rate), RULE)
        if state.alert is not None:
            return i + 50
    raise AssertionError("no alert")


@pytest.mark.parametrize(
    ("before", "after", "most"), [(0.055, 0.085, 1_900), (0.18, 0.23, 1_500), (0.055, 0.2, 300)]
)
def test_a_rise_is_found_soon_and_not_before_it_happens(
    before: float, after: float, most: int
) -> None:
    delays = [delay(before, after, seed) for seed in range(20)]
    assert min(delays) > 0
    assert np.median(delays) < most


def test_runs_without_a_change_are_long() -> None:
    """60 runs of 20,000 rows whose baseline is itself an estimate. At the ceiling 20 % might alert;
    the error is at the baseline, or a little above where that was estimated too low."""
    alerts = 0
    for seed in range(60):
        estimate = LossBaseline.of(errors(0.055, 10_000, 10_000 + seed))
        state = update(State(), errors(0.055, 20_000, seed), times(20_000), estimate, RULE)
        alerts += state.alert is not None
    assert alerts <= 2


def test_the_change_is_placed_near_where_it_was() -> None:
    losses = np.concatenate([errors(0.055, 6_000, 1), errors(0.15, 2_000, 2)])
    state = update(State(), losses, times(8_000), baseline(0.055), RULE)
    assert state.alert is not None
    assert abs(state.alert.row - 6_000) < 300
    assert state.alert.at == START + timedelta(seconds=state.alert.row)
    assert state.alert.mean_loss == pytest.approx(losses[state.alert.row :].mean())
    assert state.alert.rows == 8_000 - state.alert.row


def test_a_rise_below_half_the_margin_never_alerts() -> None:
    small = Rule(margin=0.1, run_length=1e3, rhythm=False)
    losses = np.full(3_000, 0.08)
    state = update(State(), losses, times(3_000), LossBaseline(0.055, 0.01, 10**6), small)
    assert state.alert is None
    assert state.log_e > np.log(1e3)


@settings(deadline=None)
@given(cuts=st.lists(st.integers(1, 2_999), max_size=5), seed=st.integers(0, 50))
def test_rows_may_come_in_any_batches(cuts: list[int], seed: int) -> None:
    losses = np.concatenate([errors(0.05, 1_500, seed), errors(0.2, 1_500, seed + 99)])
    whole = update(State(), losses, times(3_000), baseline(0.05), RULE)
    parts = State()
    edges = [0, *sorted(cuts), 3_000]
    for a, b in pairwise(edges):
        parts = update(parts, losses[a:b], times(b - a, a), baseline(0.05), RULE)
    assert parts.rows == whole.rows
    assert parts.log_e == pytest.approx(whole.log_e)
    assert (parts.alert is None) == (whole.alert is None)
    if whole.alert is not None and parts.alert is not None:
        assert parts.alert.row == whole.alert.row
        assert parts.alert.rows == whole.alert.rows
        assert parts.alert.mean_loss == pytest.approx(whole.alert.mean_loss)


@settings(deadline=None)
@given(rows=st.integers(0, 3_000), seed=st.integers(0, 20))
def test_the_state_survives_json(rows: int, seed: int) -> None:
    state = update(State(), errors(0.3, rows, seed), times(rows), baseline(0.2), RULE)
    assert State.from_dict(json.loads(json.dumps(state.to_dict()))) == state


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=300),
    st.floats(0, 1),
    st.integers(2, 10**6),
)
def test_any_losses_and_any_baseline_give_finite_evidence(
    losses: list[float], mean: float, rows: int
) -> None:
    known = LossBaseline(mean, mean * (1 - mean), rows)
    state = update(State(), np.array(losses), times(len(losses)), known, RULE)
    assert np.isfinite(state.log_e)


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_a_loss_outside_the_unit_interval_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        update(State(), np.array([0.0, bad]), times(2), baseline(0.1), RULE)
