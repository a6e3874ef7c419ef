"""False alerts and delays of the performance test and of the drift check, by simulation.

`python tests/bench/bench_detectors.py [RUNS]` prints two tables. A minute with the default 100
runs.
"""

import sys
from datetime import UTC, datetime

import numpy as np

from driftloop_monitoring.statistics.columns import Column
from driftloop_monitoring.statistics.drift import DriftRule, moved
from driftloop_monitoring.statistics.evidently_adapter import distance
from driftloop_monitoring.statistics.performance import LossBaseline, Rule, State, update

RULE = Rule(margin=0.01, run_length=1e5)
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


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    performance(count)
    drift(count)
