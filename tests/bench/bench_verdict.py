"""How often, and after how many rows, the rollback rule decides what: `python
tests/bench/bench_verdict.py`.

Simulated traffic of 25 requests of 20 rows a second over both arms, champion's error 8.5 %.
"""

import argparse
from collections import Counter
from dataclasses import dataclass

import numpy as np

from driftloop_rollout.verdict import Metric, Rule, Trial

RUNGS = (0.05, 0.25, 0.5)
STABLE, REQUESTS_PER_S, ROWS, TICK_S = 0.085, 25, 20, 1.0
CANARIES = {
    "better by .022": (0.063, 0.0),
    "equal": (0.085, 0.0),
    "worse by the margin": (0.105, 0.0),
    "harmful, .16": (0.16, 0.0),
    "harmful, .25": (0.25, 0.0),
    "fails in 10 % of requests": (0.085, 0.1),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    action: str
    rows: int
    canary_rows: int


def walk(rng: np.random.Generator, wrong: float, failing: float, max_rows: int) -> Outcome:
    """The ladder until a verdict, or `max_rows` rows."""
    rules = (
        (Rule("quality", 0.02, True), STABLE),
        (Rule("errors", 0.01, False), 0.0),
        (Rule("latency", 0.1, False), 0.01),
    )
    trial = Trial(tuple(Metric.start(rule, RUNGS, prior) for rule, prior in rules))
    rung = rows = canary_rows = 0

    def draw(n: int, p: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return (rng.random(n) < p).astype(np.float64)

    while rows < max_rows:
        n = int(rng.poisson(REQUESTS_PER_S * TICK_S))
        canary = int(rng.binomial(n, RUNGS[rung]))
        stable = n - canary
        rows, canary_rows = rows + n * ROWS, canary_rows + canary * ROWS
        trial = trial.update(
            {
                "quality": (draw(canary * ROWS, wrong), draw(stable * ROWS, STABLE)),
                "errors": (draw(canary, failing), draw(stable, 0.0)),
                "latency": (draw(canary, 0.01), draw(stable, 0.01)),
            }
        )
        verdict = trial.judge(rung, len(RUNGS))
        if verdict.action in ("promote", "roll_back"):
            return Outcome(verdict.action, rows, canary_rows)
        rung += verdict.action == "advance"
    return Outcome("hold", rows, canary_rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--max-rows", type=int, default=100_000)
    arguments = parser.parse_args()
    print("| canary | promoted | rolled back | undecided | rows: median, 90 % | of the canary |")
    print("|---|---|---|---|---|---|")
    for name, (wrong, failing) in CANARIES.items():
        found = [
            walk(np.random.default_rng(seed), wrong, failing, arguments.max_rows)
            for seed in range(arguments.runs)
        ]
        count = Counter(outcome.action for outcome in found)
        shares = [f"{count[a] / len(found):.1%}" for a in ("promote", "roll_back", "hold")]
        median, most = np.quantile([outcome.rows for outcome in found], [0.5, 0.9])
        canary = np.median([outcome.canary_rows for outcome in found])
        cells = [name, *shares, f"{median:,.0f}, {most:,.0f}", f"{canary:,.0f}"]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
