"""How often, and after how many rows, the rollback rule decides what: `make bench-verdict`.

Simulated labelled traffic through the product's own split, units and tests: requests without a
routing key, of one row and of twenty; users with a key and Zipf activity, whose errors correlate;
bursts; a rhythm of the day; rows under an objective; labels that come late or in part; and rows
that a shadow answered too. The ladder, metrics and levels are those of a rollout.

Each rollout is kept in build/bench-verdict/, so that a bench that was stopped goes on: a thousand
rollouts of each cell take about an hour and a half of CPU. Rounds of few runs come first.
"""

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from cell_runs import PAGE, SUMMARY, Case, keep, run, table
from former_rule import walk_former
from label_cells import LABEL_CELLS, walk_labels
from objective_cells import CELLS, walk_cell
from pair_cells import PAIRS, walk_pairs
from traffic_cells import TRAFFIC, walk
from verdict_targets import targets

CANARIES = {"equal": 0.0, "2 points worse": 0.02, "8 points worse": 0.08, "2 points better": -0.02}
DECIDING, EXTRA = ("equal", "2 points worse"), ("8 points worse", "2 points better")
MAX_ROWS = 200_000
ROUNDS = (50, 200, 500, 1_000, 2_000, 5_000)
FOLDER = Path(__file__).resolve().parents[2] / "build" / "bench-verdict"


def cases() -> Iterator[Case]:
    for name in DECIDING:
        former = partial(walk_former, CANARIES[name], max_rows=MAX_ROWS)
        yield Case("independent rows, the rule before", name, former, 30)
    for traffic in TRAFFIC:
        for name in CANARIES if traffic.name in ("independent rows", "500 users, .1") else DECIDING:
            cost = 120 if traffic.users and traffic.keyed else 50
            yield Case(
                traffic.name, name, partial(walk, traffic, CANARIES[name], max_rows=MAX_ROWS), cost
            )
    for cell in CELLS:
        for harm, name in ((False, "equal"), (True, cell.harm)):
            yield Case(cell.name, name, partial(walk_cell, cell, harm), cell.cost)
    for late in LABEL_CELLS:
        for harm, name in ((False, "equal"), (True, "2 points worse")):
            yield Case(late.name, name, partial(walk_labels, late, harm), 600)
    for pairs in PAIRS:
        for name, effect in CANARIES.items():
            if abs(effect) <= pairs.differ:
                yield Case(
                    pairs.name, name, partial(walk_pairs, pairs, effect, max_rows=MAX_ROWS), 15
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--only", default="", help="traffic whose name contains this")
    parser.add_argument("--canary", default="", help="candidates whose name contains this")
    parser.add_argument("--results", type=Path, default=FOLDER, help="the folder of what was run")
    parser.add_argument("--print", action="store_true", help="only print what was run")
    parser.add_argument("--write", action="store_true", help="into the docs")
    parser.add_argument("--part", default="0/1", help="k/n: every n-th seed, from k on")
    asked = parser.parse_args()
    chosen = [c for c in cases() if asked.only in c.traffic and asked.canary in c.candidate]
    part, of = map(int, asked.part.split("/"))
    for upto in sorted({min(upto, asked.runs) for upto in (*ROUNDS, asked.runs)}):
        for case in sorted(chosen, key=lambda case: (case.candidate in EXTRA, case.cost)):
            if not asked.print:
                run(case, range(part, upto, of), asked.results)
    wanted, found = targets(chosen, asked.results), table(chosen, asked.results)
    print(f"{wanted}\n\n{found}")
    if asked.write:
        keep("verdict", wanted, SUMMARY)
        keep("verdict", f"{wanted}\n\n{found}", PAGE)


if __name__ == "__main__":
    main()
