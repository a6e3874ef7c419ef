"""The age at which nearly all labels that ever come have come, from rows that wait for theirs."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from driftloop_rollout.label_delay import LabelDelay, arrival, due, learn_delay, mature_until

NOW = datetime(2026, 11, 29, tzinfo=UTC)
DAY = 86_400.0


def censored(delays: np.ndarray, ages: np.ndarray) -> np.ndarray:
    return np.where(delays <= ages, delays, np.nan)


def rows(n: int = 4_000, days: float = 10.0) -> tuple[np.random.Generator, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng, rng.uniform(0, days * DAY, n)


def test_rows_that_still_wait_do_not_hide_that_most_labels_come() -> None:
    rng, ages = rows()
    delays = rng.exponential(DAY / 4, len(ages))
    found = learn_delay(censored(delays, ages), ages, 0.98, NOW)
    assert found.age_s == pytest.approx(DAY / 4 * np.log(50), rel=0.1)
    assert found.share == pytest.approx(1.0, abs=0.01)


def test_labels_that_never_come_are_not_waited_for() -> None:
    rng, ages = rows()
    delays = np.where(rng.random(len(ages)) < 0.6, rng.exponential(DAY / 4, len(ages)), np.inf)
    found = learn_delay(censored(delays, ages), ages, 0.98, NOW)
    assert found.age_s == pytest.approx(DAY / 4 * np.log(50), rel=0.15)
    assert found.share == pytest.approx(0.6, abs=0.03)


def test_a_rare_class_whose_labels_come_late_is_waited_for() -> None:
    rng, ages = rows()
    rare = (rng.random(len(ages)) < 0.02).astype(np.int64)
    delays = censored(np.where(rare, 2 * DAY, 60.0), ages)
    assert learn_delay(delays, ages, 0.97, NOW).age_s == 60.0
    assert learn_delay(delays, ages, 0.97, NOW, [rare]).age_s == 2 * DAY


def test_while_labels_still_come_at_the_greatest_age_nothing_is_known() -> None:
    rng, ages = rows()
    delays = censored(rng.exponential(5 * DAY, len(ages)), ages)
    assert learn_delay(delays, ages, 0.98, NOW).age_s is None


def test_few_rows_and_no_label_teach_nothing() -> None:
    ages = np.linspace(0, DAY, 200)
    assert learn_delay(np.zeros(10), np.zeros(10), 0.98, NOW).age_s is None
    none = learn_delay(np.full(200, np.nan), ages, 0.98, NOW)
    assert (none.age_s, none.share) == (None, 0.0)
    assert none.known_s == pytest.approx(0.75 * DAY, rel=0.02)


def test_without_censoring_the_shares_are_those_counted() -> None:
    delays = np.array([1.0, 2.0, np.nan, 3.0])
    ages, shares = arrival(delays, np.full(4, 10.0), 10.0, np.array([0, 1, 1, 0]), 0)
    assert ages.tolist() == [1.0, 3.0]
    assert shares.tolist() == pytest.approx([0.25, 0.5])


def test_it_is_learned_again_each_minute_and_kept() -> None:
    found = LabelDelay(5.0, 0.4, 100.0, 80, NOW)
    assert LabelDelay.from_dict(found.to_dict()) == found
    assert not due(found, NOW + timedelta(seconds=59))
    assert due(found, NOW + timedelta(seconds=60))
    assert due(None, NOW)


def test_the_setting_overrides_what_was_learned() -> None:
    found = LabelDelay(5.0)
    assert mature_until(found, None, NOW) == NOW - timedelta(seconds=5)
    assert mature_until(found, 9.0, NOW) == NOW - timedelta(seconds=9)
    assert mature_until(found, 0.0, NOW) is None
    assert mature_until(LabelDelay(), None, NOW) is None
