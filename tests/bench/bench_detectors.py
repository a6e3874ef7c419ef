"""False alerts and delays of the error test and of the drift check, by simulation.

`make bench-detectors` prints three tables. ARGS="--months 10 --days 30 --rates 1 50" takes an hour;
each month is kept in build/bench-detectors/, so that it goes on where it was stopped.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
from cell_runs import PAGE, SUMMARY, keep
from numpy.typing import NDArray
from scipy.special import gammaincinv

from driftloop_monitoring.statistics.columns import Column
from driftloop_monitoring.statistics.drift import DriftRule, moved
from driftloop_monitoring.statistics.evidently_adapter import distance
from driftloop_monitoring.statistics.performance import (
    MONTH_DAYS,
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
AT = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


def alert_row(before: float, after: float, r: np.random.Generator) -> int | None:
    """The row of the alert, to the next STEP, of one run with an estimated baseline."""
    estimate = LossBaseline.of((r.random(REFERENCE_ROWS) < before).astype(float))
    rate = np.repeat([before, after], [CALM_ROWS, CHANGED_ROWS])
    losses = (r.random(len(rate)) < rate).astype(float)
    state = State()
    for i in range(0, len(losses), STEP):
        state = update(state, losses[i : i + STEP], np.full(STEP, AT), estimate, RULE)
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
USERS = 2_000
RISEN = (0.05, 0.1)
PART = 1_000
FOLDER = Path(__file__).resolve().parents[2] / "build" / "bench-detectors"
Losses = NDArray[np.float64]


@dataclass(frozen=True)
class Traffic:
    """Rows with an error of BASE on average. day, week: heights of waves of the error; burst: rows
    in a row of one user, whose errors correlate; mix: users whose errors correlate are each awake
    at hours of their own. cycle: days until a rhythm was seen whole, at the next midnight."""

    name: str
    day: float = 0.0
    week: float = 0.0
    burst: int = 1
    mix: bool = False
    cycle: float = 1.0

    def flat(self) -> "Traffic":
        return replace(self, day=0.0, week=0.0)

    def losses(
        self, r: np.random.Generator, per_s: int, days: float, rise: float, rise_at: float
    ) -> Iterator[tuple[float, Losses]]:
        """A day at a time, with its number; from day `rise_at` on the error is higher by `rise`."""
        strength = (1 - CORRELATION) / CORRELATION
        own = r.beta(BASE * strength, (1 - BASE) * strength, USERS)
        own = np.sort(own * BASE / own.mean())
        # The hour of a half of the users goes with their error: its mean moves by ±3 points a day.
        hour = np.where(r.random(USERS) < 0.5, np.linspace(0.0, 0.5, USERS), r.random(USERS))
        for first in np.arange(0.0, days):
            t = first + np.arange(int(min(1.0, days - first) * DAY * per_s)) / (DAY * per_s)
            wave = self.day * np.sin(2 * np.pi * t + 1) + self.week * np.sin(2 * np.pi * t / 7 + 2)
            rate = BASE + wave + rise * (t >= rise_at)
            if self.mix:
                rate = rate + own[_awake(r, hour, t)] - BASE
            if self.burst > 1:
                users = rate[:: self.burst] * strength
                rate = np.repeat(r.beta(users, strength - users), self.burst)[: len(t)]
            yield first, (r.random(len(t)) < rate).astype(float)


def _awake(r: np.random.Generator, hour: Losses, t: Losses) -> NDArray[np.int64]:
    """Users [n], each twice as often as on average at the hour of its own, never half a day off."""
    user = np.empty(len(t), np.int64)
    left = np.arange(len(t))
    while len(left):
        user[left] = r.integers(0, len(hour), len(left))
        awake = (1 + np.cos(2 * np.pi * (t[left] - hour[user[left]]))) / 2
        left = left[r.random(len(left)) >= awake]
    return user


TRAFFIC = (
    Traffic("independent rows"),
    Traffic("±1 point a day", day=0.01),
    Traffic("±3 points a day", day=0.03),
    Traffic("±3 a day, ±2 a week", day=0.03, week=0.02, cycle=7.0),
    Traffic("bursts of 20", burst=20),
    Traffic("bursts of 20, ±2 a day", day=0.02, burst=20),
    Traffic("bursts of 100", burst=100),
    Traffic("a mix that shifts in the day", mix=True),
)


def alert_days(
    days: Iterator[tuple[float, Losses]],
    per_s: int,
    baseline: LossBaseline,
    rule: Rule,
    fine_from: float = 1e9,
) -> Iterator[float]:
    """When the test alerts, in days; after each alert it starts anew, knowing what it learned. To
    the next 1,000 rows (5,000 if there are more a second), to the next 100 from day `fine_from`."""
    state, start = State(), datetime(2026, 1, 5, tzinfo=UTC).timestamp()
    for day, losses in days:
        fine = int(np.clip((fine_from - day) * DAY * per_s // 100 * 100, 0, len(losses)))
        part = min(PART * per_s, 5 * PART)
        cuts = [*range(part, fine, part), *range(fine, len(losses), 100), len(losses)]
        for first, last in pairwise(dict.fromkeys([0, *cuts])):
            seconds = start + day * DAY + np.arange(first, last) / per_s
            state = update(state, losses[first:last], seconds, baseline, rule)
            if state.alert is not None:
                yield day + last / (DAY * per_s)
                state = replace(state, alert=None, bets=tuple(Bet() for _ in RISES), log_e=-np.inf)


@dataclass(frozen=True)
class Month:
    """A run of a traffic. early, late: false alerts in the first cycle and after it, the latter in
    `days` days. delays: by the rise, in rows."""

    early: int
    late: int
    days: float
    delays: dict[str, float]


def simulate(traffic: Traffic, per_s: int, days: float, seed: int, delays: bool) -> Month:
    """The margin is a point, one false alert a month is promised."""
    rule, ready = Rule(margin=0.01), max(days / 2, 2.0)
    r = np.random.default_rng(seed)
    if traffic.mix:  # rows of a whole day, drawn at random
        ((_, whole),) = traffic.losses(r, 1, 1.0, 0.0, 0.0)
        baseline = LossBaseline.of(r.choice(whole, 20_000, replace=False))
    else:
        sample = traffic.flat().losses(r, 1, 20_000 / DAY, 0.0, 0.0)
        baseline = LossBaseline.of(np.hstack([losses for _, losses in sample]))
    alerts = list(alert_days(traffic.losses(r, per_s, days, 0.0, 0.0), per_s, baseline, rule))
    early = int(sum(at <= traffic.cycle + 0.01 for at in alerts))
    found = {}
    for rise in RISEN if delays else ():
        at = ready + r.random()
        risen = traffic.losses(r, per_s, ready + 2.0, rise, at)
        alert = (x for x in alert_days(risen, per_s, baseline, rule, at) if x >= at)
        found[f"{rise:g}"] = (next(alert, np.inf) - at) * DAY * per_s
    return Month(early, len(alerts) - early, days - traffic.cycle, found)


def calm(asked: argparse.Namespace, per_s: int) -> str:
    """Simulate what was not run yet, and return the table of all."""
    folder, runs = asked.results, range(asked.seed, asked.seed + asked.months)
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        f"Calm traffic of {per_s} rows a second, runs of {asked.days:g} days:\n",
        "| traffic | runs | false alerts in the first cycle | then a month (at 95 % at most) "
        "| +5 points: rows | +10: rows |",
        "|---|---|---|---|---|---|",
    ]
    for traffic in TRAFFIC:
        if asked.only not in traffic.name:
            continue
        kept = "".join(c if c.isalnum() or c in ".±" else "-" for c in traffic.name)
        file = folder / f"{kept}-{per_s}-{asked.days:g}.jsonl"
        found = {}
        for line in file.read_text().splitlines() if file.exists() else ():
            value = json.loads(line)
            seed = value.pop("seed")
            found[seed] = Month(**value)
        for seed in runs if not asked.print else ():
            if seed not in found:
                found[seed] = simulate(traffic, per_s, asked.days, seed, not asked.no_delays)
                with file.open("a") as out:
                    out.write(json.dumps({"seed": seed, **asdict(found[seed])}) + "\n")
        if found:
            lines.append(row(traffic.name, list(found.values())))
    return "\n".join(lines)


def row(name: str, months: Sequence[Month]) -> str:
    late, days = sum(m.late for m in months), sum(m.days for m in months)
    most = gammaincinv(late + 1, 0.95) * MONTH_DAYS / days
    cells = [f"{len(months)}", f"{np.mean([m.early for m in months]):.2f}"]
    cells.append(f"{late * MONTH_DAYS / days:.2f} ({most:.2f})")
    for rise in RISEN:
        delays = [m.delays[f"{rise:g}"] for m in months if m.delays]
        cells.append(f"{np.median(delays):,.0f}" if delays else "–")
    return f"| {' | '.join([name, *cells])} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=100, help="of the first two tables; 0: none")
    parser.add_argument("--months", type=int, default=1, help="runs of each traffic")
    parser.add_argument("--days", type=float, default=9.0, help="of each of these")
    parser.add_argument("--rates", type=int, nargs="*", default=[1], help="rows a second")
    parser.add_argument("--only", default="", help="traffic whose name contains this")
    parser.add_argument("--seed", type=int, default=0, help="of the first of these runs")
    parser.add_argument("--no-delays", action="store_true", help="only false alerts")
    parser.add_argument("--results", type=Path, default=FOLDER, help="the folder of what was run")
    parser.add_argument("--print", action="store_true", help="only print what was run")
    parser.add_argument("--write", action="store_true", help="into the docs")
    asked = parser.parse_args()
    if asked.runs:
        performance(asked.runs)
        drift(asked.runs)
    tables = [calm(asked, per_s) for per_s in asked.rates]
    print("\n\n".join(tables))
    if asked.write:
        keep("detectors", tables[0], SUMMARY)
        keep("detectors", "\n\n".join(tables), PAGE)
