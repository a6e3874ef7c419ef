"""Rows of arms of which a different share gets a label: held, or compared at equal shares."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from driftloop_rollout.arm_rows import ArmRows, us_of
from driftloop_rollout.coverage import Coverage, labelled_until
from driftloop_rollout.units import NO_KEY

ROWS = 20_000
START = datetime(2026, 11, 24, tzinfo=UTC)


def rows(canary_share: float, stable_share: float) -> ArmRows:
    """A row a second, half of them the canary's, with labels for these shares of either arm."""
    rng = np.random.default_rng(0)
    canary, every, none = rng.random(ROWS) < 0.5, np.ones(ROWS, bool), np.full(ROWS, np.nan)
    labelled = rng.random(ROWS) < np.where(canary, canary_share, stable_share)
    loss = np.where(labelled, rng.random(ROWS) < 0.1, np.nan)
    at = us_of(START) + np.arange(ROWS, dtype=np.int64) * 1_000_000
    keys = np.full(ROWS, NO_KEY)
    return ArmRows(at, canary, every, none, ~every, labelled, loss, none, keys, (loss,))


def used(found: ArmRows, unequal: bool) -> tuple[datetime | None, str]:
    mature = START + timedelta(seconds=ROWS // 2)
    return labelled_until(found, np.ones(ROWS, bool), 0.98, mature, Coverage(), unequal)


def test_unequal_shares_are_held_with_what_would_help() -> None:
    until, why = used(rows(0.5, 0.8), unequal=False)
    assert until is None
    assert "50% of the canary's and 81% of the stable" in why
    assert 'rollout.unequal_labels = "compare"' in why


@pytest.mark.parametrize(("shares", "unequal"), [((0.5, 0.8), True), ((0.6, 0.6), False)])
def test_rows_are_compared_up_to_the_age_if_that_is_asked_or_the_shares_are_equal(
    shares: tuple[float, float], unequal: bool
) -> None:
    until, why = used(rows(*shares), unequal)
    assert until is not None
    assert abs(until - START - timedelta(seconds=ROWS // 2)) < timedelta(seconds=5)
    assert why == ""


def test_the_arm_with_more_labels_loses_as_many_that_the_shares_are_equal() -> None:
    found = rows(0.5, 0.8)
    level = Coverage().with_rows(found).levelled(found)
    known = ~np.isnan(level.loss)
    assert known[level.canary].mean() == pytest.approx(0.5, abs=0.02)
    assert known[~level.canary].mean() == pytest.approx(0.5, abs=0.02)
    assert np.nanmean(level.loss[~level.canary]) == pytest.approx(0.1, abs=0.01)
    np.testing.assert_array_equal(known, ~np.isnan(level.others[0]))
    again = Coverage().with_rows(found).levelled(found)
    np.testing.assert_array_equal(level.loss, again.loss)  # a repeated cycle uses the same rows


def test_equal_shares_lose_nothing() -> None:
    found = rows(0.6, 0.6)
    assert Coverage().with_rows(found).levelled(found) is found
