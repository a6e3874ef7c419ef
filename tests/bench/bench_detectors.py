"""False alerts and delays of the error test and of the drift check, by simulation.

`make bench-detectors` prints three tables in ten minutes. ARGS="--months 10 --days 30" takes hours.
"""

import argparse
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from driftloop_monitoring.statistics.columns import Column
from driftloop_monitoring.statistics.drift import DriftRule, moved
from driftloop_monitoring.statistics.evidently_adapter import distance
from driftloop_monitoring.statistics.performance import (
    RISES,
    Bet,
    LossBaseline,
    Rule,
    State,
    update,
)

RULE = Rule(margin=0.01, run_length=1e5, rhythm=False)
REFERENCE_ROWS = 7_500
CALM_ROWS, CHANGED_ROWS, STEP = 25_000, 20_000, 50
SHIFTS = (0.055, 0.065), (0.055, 0.075), (0.055, 0.085), (0.18, 0.23), (0.18, 0.28), (0.3, 0.35)
AT = datetime(2026, 1, 1, tzinfo=UTC)


def alert_row(before: float, after: float, r: np.random.Generator) -> int | None:
    """The row of the alert, to the next STEP, of one run with an estimated baseline."""
    estimate = LossBaseline.of((r.random(REFERENCE_ROWS) < before).astype(float))
    rate = np.repeat([before, after], [CALM_ROWS, CHANGED_ROWS])
    losses = (r.random(len(rate)) < rate).astype(float)
    state = State()
    for i in range(0, len(losses), STEP):
        state = update(state, losses[i : i + STEP], [AT] * STEP, estimate, RULE)
        if state.alert is not None:
            return i + STEP
    return None


def performance(runs: int) -> None:
    print(
        f"performance: {runs} runs, {CALM_ROWS:,} rows, then {CHANGED_ROWS:,} rows after a change"
    )
    print(f"{'error':>14} {'false':>6} {'missed':>6} {'delay p10':>9} {'median':>7} {'p90':>6}")
    for before, after in SHIFTS:
        r = np.random.default_rng(1)
        rows = [alert_row(before, after, r) for _ in range(runs)]
        delays = [x - CALM_ROWS for x in rows if x is not None and x > CALM_ROWS]
        false = sum(x is not None and x <= CALM_ROWS for x in rows)
        p10, p50, p90 = np.quantile(delays, [0.1, 0.5, 0.9]) if delays else (np.nan,) * 3
        name = f"{before:.3f}→{after:.3f}"
        print(f"{name:>14} {false:>6} {rows.count(None):>6} {p10:>9.0f} {p50:>7.0f} {p90:>6.0f}")


def drift(windows: int) -> None:
    rule = DriftRule(effect=0.1, significance=0.001)
    print(f"\ndrift: windows with any column moved, of {windows}; 10 columns, 2 with categories")
    print(f"{'rows':>6} {'no drift':>8} {'.2 sd':>6} {'.3 sd':>6}")
    for rows in (500, 2_000):
        counts = []
        for shift in (0.0, 0.2, 0.3):
            r = np.random.default_rng(2)
            reference = sample(r, 20_000, 0.0)
            counts.append(
                sum(
                    bool(moved(reference, sample(r, rows, shift), distance, rule))
                    for _ in range(windows)
                )
            )
        print(f"{rows:>6} {counts[0]:>8} {counts[1]:>6} {counts[2]:>6}")


def sample(r: np.random.Generator, rows: int, shift: float) -> dict[str, Column]:
    """Ten columns, of which the first is shifted by `shift` standard deviations."""
    columns = [Column(f"n{i}", "number", r.normal(shift * (i == 0), 1, rows)) for i in range(8)]
    for i in range(2):
        values = r.choice(np.array(list("abcdefgh"), dtype=object), rows)
        columns.append(Column(f"c{i}", "category", values))
    return {c.name: c for c in columns}


DAY = 86_400
BASE, CORRELATION = 0.1, 0.1
Losses = NDArray[np.float64]


@dataclass(frozen=True)
class Traffic:
    """A row a second with an error of BASE on average. day, week: heights of waves of the error;
    burst: rows in a row of one user, whose errors correlate. cycle: days until a rhythm was seen
    whole, at the next midnight."""

    name: str
    day: float = 0.0
    week: float = 0.0
    burst: int = 1
    cycle: float = 1.0

    def losses(self, r: np.random.Generator, days: float, rise: float, rise_at: float) -> Losses:
        """[rows]; from day `rise_at` on the error is higher by `rise`."""
        t = np.arange(int(days * DAY)) / DAY
        wave = self.day * np.sin(2 * np.pi * t + 1) + self.week * np.sin(2 * np.pi * t / 7 + 2)
        rate = BASE + wave + rise * (t >= rise_at)
        if self.burst > 1:
            strength = (1 - CORRELATION) / CORRELATION
            users = rate[:: self.burst] * strength
            rate = np.repeat(r.beta(users, strength - users), self.burst)[: len(t)]
        return (r.random(len(t)) < rate).astype(float)


TRAFFIC = (
    Traffic("independent rows"),
    Traffic("±1 point a day", day=0.01),
    Traffic("±3 points a day", day=0.03),
    Traffic("±3 a day, ±2 a week", day=0.03, week=0.02, cycle=7.0),
    Traffic("bursts of 20", burst=20),
    Traffic("bursts of 20, ±2 a day", day=0.02, burst=20),
    Traffic("bursts of 100", burst=100),
)


def alert_days(losses: Losses, baseline: LossBaseline, rule: Rule) -> list[float]:
    """When the test alerts, in days; after each alert it starts anew, knowing what it learned."""
    state, alerts, start = State(), [], datetime(2026, 1, 5, tzinfo=UTC)
    for i in range(0, len(losses), 100):
        part = losses[i : i + 100]
        state = update(
            state,
            part,
            [start + timedelta(seconds=i + k) for k in range(len(part))],
            baseline,
            rule,
        )
        if state.alert is not None:
            alerts.append((i + len(part)) / DAY)
            state = replace(state, alert=None, bets=tuple(Bet() for _ in RISES))
    return alerts


def calm(runs: int, days: float) -> None:
    """The margin is a point, one false alert a month is promised."""
    rule, ready = Rule(margin=0.01), max(days / 2, 2.0)
    print(f"\nthe error test in real traffic: {runs} runs of {days:g} days at a row a second")
    print(
        f"{'traffic':>24} {'first cycle':>11} {'then a month':>12} {'+5: rows':>9} {'+10: rows':>9}"
    )
    for traffic in TRAFFIC:
        early, late, delays = 0, 0, {0.05: [], 0.1: []}
        for seed in range(runs):
            r = np.random.default_rng(seed)
            flat = replace(traffic, day=0.0, week=0.0)
            baseline = LossBaseline.of(flat.losses(r, 20_000 / DAY, 0.0, 0.0))
            alerts = alert_days(traffic.losses(r, days, 0.0, 0.0), baseline, rule)
            early += sum(at <= traffic.cycle + 0.01 for at in alerts)
            late += sum(at > traffic.cycle + 0.01 for at in alerts)
            for rise, found in delays.items():
                at = ready + r.random()
                risen = alert_days(traffic.losses(r, ready + 2.0, rise, at), baseline, rule)
                found.append(next((x - at for x in risen if x >= at), np.inf) * DAY)
        month = late / runs / max(days - traffic.cycle, 1e-9) * 30.44
        medians = " ".join(f"{np.median(found):>9.0f}" for found in delays.values())
        print(f"{traffic.name:>24} {early / runs:>11.2f} {month:>12.2f} {medians}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=100, help="of the first two tables")
    parser.add_argument("--months", type=int, default=1, help="runs of each traffic")
    parser.add_argument("--days", type=float, default=9.0, help="of each of these")
    asked = parser.parse_args()
    performance(asked.runs)
    drift(asked.runs)
    calm(asked.months, asked.days)
