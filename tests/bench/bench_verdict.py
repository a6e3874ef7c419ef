"""How often, and after how many rows, the rollback rule decides what: `make bench-verdict`.

Simulated labelled traffic, base error .1, through the product's own split, units and tests:
requests without a routing key, of one row and of twenty; and users with a key and Zipf activity,
whose errors correlate; rows under an objective; and rows whose labels come late or in part. The
ladder, metrics and levels are those of a rollout. Last, rows that a shadow answered too.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from label_cells import LABEL_CELLS, walk_labels
from objective_cells import CELLS, Cell
from pair_cells import PAIRS, pair_table

from driftloop_rollout.arm_rows import ArmRows, us_of
from driftloop_rollout.assignment import NO_HISTORY, DrawnRows, SplitSpan, drawn
from driftloop_rollout.units import NO_KEY, Floats, Ints, KeyHistory, Units
from driftloop_rollout.verdict import Metric, Rule, Trial

RUNGS = (0.05, 0.25, 0.5)
BASE, EPOCH_ROWS, STICKY_S = 0.1, 1_000, 60.0
START = datetime(2026, 11, 29, tzinfo=UTC)
CANARIES = {"equal": 0.0, "2 points worse": 0.02, "8 points worse": 0.08, "2 points better": -0.02}
HISTORY_EPOCHS = 20


@dataclass(frozen=True, slots=True)
class Traffic:
    """users 0: requests without a key, of `rows` rows each. correlation: of a user's errors."""

    name: str
    users: int = 0
    correlation: float = 0.0
    rows: int = 1


TRAFFIC = (
    Traffic("independent rows"),
    Traffic("independent rows, 20 a request", rows=20),
    Traffic("2,000 users, .05", 2_000, 0.05),
    Traffic("500 users, .05", 500, 0.05),
    Traffic("500 users, .1", 500, 0.1),
    Traffic("500 users, .2", 500, 0.2),
    Traffic("100 users, .1", 100, 0.1),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    action: str
    rows: int
    canary_rows: int


Look = Callable[[SplitSpan, int, Trial], tuple[DrawnRows, Mapping[str, Units]]]
"""(the step's split, the number of its epoch, what was seen) → the epoch's rows, and units."""


class Simulation:
    """Rows of an epoch at a time; a user's own error rate is drawn once, from a beta law."""

    def __init__(self, traffic: Traffic, effect: float, seed: int) -> None:
        self.traffic, self.effect = traffic, effect
        self.rng = np.random.default_rng(seed)
        if traffic.users:
            both = (1 - traffic.correlation) / traffic.correlation
            self.own = self.rng.beta(BASE * both, (1 - BASE) * both, traffic.users)
            activity = 1 / np.arange(1, traffic.users + 1)
            self.activity = activity / activity.sum()
            self.own *= BASE / (self.own @ self.activity)  # the base error of the traffic is BASE
            self.keys = self.rng.integers(0, 2**62, traffic.users)

    def epoch(self, span: SplitSpan, number: int) -> tuple[DrawnRows, Floats]:
        """Its rows with their draws, and their losses."""
        n, rng = EPOCH_ROWS, self.rng
        request = np.arange(n) // self.traffic.rows
        begins = us_of(span.since) + number * round(STICKY_S * 1e6)
        at = begins + request * round(STICKY_S * 1e6) // (request[-1] + 1)
        if self.traffic.users:
            user = rng.choice(self.traffic.users, n, p=self.activity)
            key, wrong = self.keys[user], self.own[user]
        else:
            key, wrong = np.full(n, NO_KEY), np.full(n, BASE)
        rows = ArmRows(
            at,
            (rng.random(request[-1] + 1) < span.weight)[request],  # of requests without a key
            np.append(True, request[1:] != request[:-1]),
            np.full(n, 0.01),
            np.zeros(n, bool),
            np.ones(n, bool),
            np.full(n, np.nan),
            np.full(n, np.nan),
            key,
        )
        draws = drawn(rows, (span,))
        loss = rng.random(n) < np.clip(wrong + draws.canary * self.effect, 0, 1)
        return draws, loss.astype(np.float64)


def walk(traffic: Traffic, effect: float, seed: int, max_rows: int) -> Outcome:
    """The ladder until a verdict, or `max_rows` rows."""
    simulation = Simulation(traffic, effect, seed)
    rules = (
        (Rule("quality", 0.02, True), BASE),
        (Rule("errors", 0.01, False), 0.0),
        (Rule("latency", 0.1, False), 0.01),
    )
    keys: list[Ints] = []
    losses: list[Floats] = []

    def look(span: SplitSpan, number: int, trial: Trial) -> tuple[DrawnRows, Mapping[str, Units]]:
        draws, loss = simulation.epoch(span, number)
        rows, stable = draws.rows, ~draws.canary
        history = NO_HISTORY if not keys else KeyHistory.of(np.hstack(keys), np.hstack(losses))
        slow = simulation.rng.random(len(loss)) < 0.01
        values = {
            "quality": loss,
            "errors": np.where(rows.first, 0.0, np.nan),
            "latency": np.where(rows.first, slow, np.nan),
        }
        known = {"quality": history}
        units = {
            (name := m.rule.name): draws.units(values[name], known.get(name, NO_HISTORY), m.q, 0.0)
            for m in trial.metrics
        }
        keys[:] = [*keys, rows.key[stable]][-HISTORY_EPOCHS:]
        losses[:] = [*losses, loss[stable]][-HISTORY_EPOCHS:]
        return draws, units

    return climb(rules, look, seed, max_rows)


def walk_cell(cell: Cell, harm: bool, seed: int) -> Outcome:
    """As `walk`, for rows without a routing key under an objective."""
    rng = np.random.default_rng(seed)

    def look(span: SplitSpan, number: int, trial: Trial) -> tuple[DrawnRows, Mapping[str, Units]]:
        n, begins = cell.epoch_rows, us_of(span.since) + number * round(STICKY_S * 1e6)
        canary, none = rng.random(n) < span.weight, np.full(n, np.nan)
        at = begins + np.arange(n) * round(STICKY_S * 1e6) // n
        every = np.ones(n, bool)
        rows = ArmRows(
            at, canary, every, np.full(n, 0.01), ~every, every, none, none, np.full(n, NO_KEY)
        )
        draws = drawn(rows, (span,))
        values = cell.sample(rng, draws.canary, harm)
        return draws, {
            m.rule.name: draws.units(values[m.rule.name], NO_HISTORY, m.q, 0.0)
            for m in trial.metrics
        }

    return climb(cell.rules, look, seed, cell.max_rows)


def climb(rules: Sequence[tuple[Rule, float]], look: Look, seed: int, max_rows: int) -> Outcome:
    """The ladder. rules: with the champion's mean losses."""
    trial = Trial(tuple(Metric.start(rule, RUNGS, prior) for rule, prior in rules))
    rung = total = on_canary = number = 0
    now = START
    span = SplitSpan(str(seed), RUNGS[0], now, STICKY_S, started=now)
    while total < max_rows:
        draws, units = look(span, number, trial)
        trial = trial.update(units)
        total, on_canary = total + len(draws.draw), on_canary + int(draws.canary.sum())
        number, now = number + 1, now + timedelta(seconds=STICKY_S)
        verdict = trial.judge(rung, len(RUNGS))
        if verdict.action in ("promote", "roll_back"):
            return Outcome(verdict.action, total, on_canary)
        if verdict.action == "advance":
            rung, number = rung + 1, 0
            span = SplitSpan(str(seed), RUNGS[rung], now, STICKY_S, started=now)
    return Outcome("hold", total, on_canary)


def table(traffics: Sequence[Traffic], canaries: Sequence[str], runs: int, max_rows: int) -> None:
    print("| traffic | canary | promoted | rolled back | undecided | rows: median, 90 % | canary |")
    print("|---|---|---|---|---|---|---|")
    for traffic in traffics:
        for name in canaries:
            found = [walk(traffic, CANARIES[name], seed, max_rows) for seed in range(runs)]
            show(traffic.name, name, found)


def show(traffic: str, canary: str, found: Sequence[Outcome]) -> None:
    """A row of the table."""
    count = Counter(outcome.action for outcome in found)
    shares = [f"{count[a] / len(found):.1%}" for a in ("promote", "roll_back", "hold")]
    median, most = np.quantile([outcome.rows for outcome in found], [0.5, 0.9])
    rows = np.median([outcome.canary_rows for outcome in found])
    cells = [traffic, canary, *shares, f"{median:,.0f}, {most:,.0f}", f"{rows:,.0f}"]
    print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--max-rows", type=int, default=200_000)
    parser.add_argument("--only", default="", help="traffic whose name contains this")
    parser.add_argument("--canary", default="", help="canaries whose name contains this")
    arguments = parser.parse_args()
    chosen = [traffic for traffic in TRAFFIC if arguments.only in traffic.name]
    canaries = [name for name in CANARIES if arguments.canary in name]
    table(chosen, canaries, arguments.runs, arguments.max_rows)
    for cell in CELLS:
        if arguments.only in cell.name and not arguments.canary:
            for harm, name in ((False, "equal"), (True, cell.harm)):
                found = [walk_cell(cell, harm, seed) for seed in range(arguments.runs)]
                show(cell.name, name, found)
    for late in LABEL_CELLS:
        if arguments.only in late.name and not arguments.canary:
            for harm, name in ((False, "equal"), (True, "2 points worse")):
                runs = range(arguments.runs)
                show(late.name, name, [Outcome(*walk_labels(late, harm, seed)) for seed in runs])
    paired = [pairs for pairs in PAIRS if arguments.only in pairs.name]
    effects = {name: CANARIES[name] for name in canaries}
    pair_table(paired, effects, arguments.runs, arguments.max_rows)


if __name__ == "__main__":
    main()
