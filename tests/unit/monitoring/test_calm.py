"""What is learned from calm traffic, and what the error test makes of it."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from driftloop_monitoring.statistics.calm import BLOCK, DAY, WEEK, Calm, Lesson
from driftloop_monitoring.statistics.performance import LossBaseline, Rule, State, update

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
BASE = 0.1
KNOWN = LossBaseline(BASE, BASE * (1 - BASE), 20_000)
STEP_S = 4.0
"""Seconds between two rows."""


def errors(
    days: float, seed: int, *, day: float = 0.0, burst: int = 1, rise_at: float = np.inf
) -> np.ndarray:
    """Losses of 0 and 1 about BASE, with a daily wave of height `day`, in bursts of users whose
    errors correlate at .1, and with 5 points more from day `rise_at` on."""
    rng, rows = np.random.default_rng(seed), int(days * DAY / STEP_S)
    t = np.arange(rows) * STEP_S / DAY
    rate = BASE + day * np.sin(2 * np.pi * t) + 0.05 * (t >= rise_at)
    if burst > 1:
        mean = rate[::burst] * 9
        rate = np.repeat(rng.beta(mean, 9 - mean), burst)[:rows]
    return (rng.random(rows) < rate).astype(float)


def judged(losses: np.ndarray, rule: Rule) -> State:
    times = MONDAY.timestamp() + np.arange(len(losses)) * STEP_S
    return update(State(), losses, times, KNOWN, rule)


NEVER = Rule(margin=0.01, run_length=1e300)


def learned(losses: np.ndarray) -> Calm:
    return judged(losses, NEVER).calm


@pytest.mark.parametrize(("burst", "dispersion"), [(1, 1.1), (20, 1.1 * 2.9)])
def test_bursts_count_as_the_fewer_rows_that_they_are_worth(burst: int, dispersion: float) -> None:
    lesson = learned(errors(8, 1, burst=burst)).lesson
    assert lesson.dispersion == pytest.approx(dispersion, rel=0.2)


def test_the_hours_of_the_past_are_usual_and_a_flat_past_is_flat() -> None:
    wave = learned(errors(4, 2, day=0.03)).lesson.hours
    hours = (np.arange(24) + 0.5) / 24
    assert np.abs(np.array(wave) - 0.03 * np.sin(2 * np.pi * hours)).mean() < 0.01
    flat = learned(errors(4, 3)).lesson.hours
    assert np.abs(flat).max() < 0.005


def test_an_hour_of_one_weekday_may_be_unlike_that_of_the_others() -> None:
    """Mondays from 12 to 18 have 20 points more."""
    rng, rows = np.random.default_rng(11), int(15 * DAY / STEP_S)
    hour = np.arange(rows) * STEP_S % (7 * DAY) // 3_600
    losses = rng.random(rows) < BASE + 0.2 * ((hour >= 12) & (hour < 18))
    week = learned(losses.astype(float)).lesson.whole_week
    level = np.median(week)
    assert week[12:18].mean() - level > 0.15
    assert abs(week[36:42].mean() - level) < 0.02  # of Tuesday


def test_hours_and_weekdays_of_an_earlier_release_are_kept() -> None:
    calm = learned(errors(8.5, 12, day=0.03))
    stored = json.loads(json.dumps(calm.to_dict()))
    cells = np.array(stored.pop("week")).reshape(7, 24, 2)
    stored |= {"hours": cells.sum(0).tolist(), "weekdays": cells.sum(1).tolist()}
    del stored["lesson"]["week"]
    found = Calm.from_dict(stored)
    kept = np.array(found.week).reshape(7, 24, 2)
    np.testing.assert_allclose(kept.sum((0, 1)), cells.sum((0, 1)), rtol=1e-6)
    np.testing.assert_allclose(kept.sum(0)[:, 0], cells.sum(0)[:, 0], rtol=1e-6)
    means = [c.sum(0)[:, 1] / c.sum(0)[:, 0] for c in (kept, cells)]
    np.testing.assert_allclose(*means, atol=0.005)


def test_what_is_learned_does_not_depend_on_the_portions() -> None:
    losses, parts, done = errors(2.3, 10, day=0.03), Calm(), 0
    times = MONDAY.timestamp() + np.arange(len(losses)) * STEP_S
    for n in np.random.default_rng(1).integers(1, 900, 1_000):
        part = slice(done, done + min(n, parts.portion(times[done : done + n])))
        if part.start >= len(losses):
            break
        parts = parts.add(losses[part], times[part], BASE, BASE * (1 - BASE))
        done = part.stop
    whole = learned(losses)
    assert (parts.rows, parts.block[0], parts.day) == (whole.rows, whole.block[0], whole.day)
    assert parts.blocks == pytest.approx(whole.blocks)
    assert parts.products == pytest.approx(whole.products)
    assert parts.recent == pytest.approx(whole.recent)
    assert parts.lesson.hours == pytest.approx(whole.lesson.hours)
    assert parts.lesson.dispersion == pytest.approx(whole.lesson.dispersion)


def test_the_level_is_not_learned() -> None:
    lesson = learned(errors(4, 4, rise_at=0)).lesson
    assert np.mean(lesson.hours) == pytest.approx(0.0, abs=1e-3)
    assert lesson.dispersion < 2.2


def test_a_rhythm_is_told_from_a_rise_once_a_day_was_seen() -> None:
    rule = Rule(margin=0.01)
    assert judged(errors(6, 5, day=0.03), rule).alert is None
    risen = judged(errors(6, 5, day=0.03, rise_at=4.5), rule)
    assert risen.alert is not None
    assert risen.alert.at > MONDAY + timedelta(days=4)


def test_bursts_of_users_are_not_a_rise() -> None:
    assert judged(errors(6, 6, burst=20), Rule(margin=0.01)).alert is None
    careless = Rule(margin=0.01, run_length=1e3, rhythm=False)
    assert judged(errors(1, 6, burst=BLOCK), careless).alert is not None


def test_the_first_day_needs_a_larger_rise() -> None:
    losses = (np.random.default_rng(7).random(12_000) < BASE + 0.03).astype(float)
    assert judged(losses, Rule(margin=0.01)).alert is None
    assert judged(losses, Rule(margin=0.01, rhythm=False)).alert is not None


def test_a_rhythm_of_the_week_is_no_rise_before_a_week_was_seen() -> None:
    """±3 points a day and ±2 a week, of so much traffic that chance plays no part: each loss is the
    rate, which never exceeds what is not called a rise. Of all phases of the week the hardest."""
    calm, rule = Calm(), Rule(margin=0.01)
    for day in range(7):
        t = day + np.arange(DAY) / DAY
        week = 0.02 * np.sin(2 * np.pi * t / 7)
        rate = BASE + 0.03 * np.sin(2 * np.pi * t + 1) + week
        times, last = MONDAY.timestamp() + t * DAY, None
        while len(times):  # a lesson is taken at the end of the first block of a day
            n = min(calm.portion(times), len(times)) if last else BLOCK
            m0 = KNOWN.ceiling() + rule.unexplained(calm.lesson) + calm.lesson.usual(times[:n])
            assert (rate[:n] - m0).max() < 0
            calm, last = calm.add(rate[:n], times[:n], BASE, 1e-6), n
            rate, times = rate[n:], times[n:]


def test_a_rise_that_no_rhythm_explains_alerts_in_the_first_week() -> None:
    losses = errors(3, 15, day=0.03, rise_at=2.2)
    losses = np.maximum(losses, errors(3, 16, rise_at=2.2) * (np.arange(len(losses)) > 47_520))
    risen = judged(losses, Rule(margin=0.01)).alert
    assert risen is not None
    assert risen.at > MONDAY + timedelta(days=2)


def test_days_that_resemble_each_other_leave_little_to_an_unseen_week() -> None:
    rule, like = Rule(margin=0.01), [Lesson(seen=d * DAY) for d in (0.5, 1, 3, 6)]
    rises = [rule.unexplained(lesson) for lesson in like]
    assert rises == sorted(rises, reverse=True)
    assert (rises[0], rises[-1] < 0.015) == (0.05, True)
    unlike = Lesson(seen=6 * DAY, days_apart=0.02**2)
    assert 0.03 < rule.unexplained(unlike) <= 0.05
    assert rule.unexplained(Lesson(seen=WEEK)) == 0.0


def test_how_days_differ_is_learned() -> None:
    """Beyond what chance explains: from 10 % on the first day to 16 % on the fourth, a standard
    deviation of 2.6 points. With few rows an hour, a part of it counts as chance: what lasts for
    days lasts for the 700 rows of the dispersion too."""
    calm = learned(errors(4.1, 13))
    assert calm.lesson.days_apart < 0.005**2
    rows = int(DAY / STEP_S)
    rng = np.random.default_rng(14)
    rising = np.repeat(BASE + 0.02 * np.arange(5), rows) > rng.random(5 * rows)
    apart = learned(rising.astype(float)[: int(4.1 * rows)]).lesson.days_apart
    assert 0.015 < np.sqrt(apart) < 0.028


def test_models_share_the_false_alerts_of_a_month() -> None:
    lesson = learned(errors(2, 8)).lesson
    rule = Rule(margin=0.01, false_per_month=1.0)
    rows_a_month = 30.44 * DAY / STEP_S
    assert np.exp(rule.level(lesson)) == pytest.approx(rows_a_month, rel=0.01)
    assert rule.among(10).level(lesson) == pytest.approx(rule.level(lesson) + np.log(10))
    # so do the tests of one model: its objectives, guardrails and slices
    assert rule.of_tests(4).level(lesson) == pytest.approx(rule.level(lesson) + np.log(4))


def test_after_an_alert_nothing_is_usual_where_no_rhythm_is() -> None:
    """The mean since the change is then that of the rows, however the hours differed before."""
    losses = errors(3.2, 9, day=0.02, rise_at=2.5)
    state = judged(losses, Rule(margin=0.06, run_length=1e5, rhythm=False))
    assert state.alert is not None
    assert np.abs(state.calm.lesson.hours).max() > 0
    assert state.alert.mean_loss == pytest.approx(losses[state.alert.row :].mean())
