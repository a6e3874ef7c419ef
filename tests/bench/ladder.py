"""The ladder of a simulated rollout: steps, epochs and the product's verdict after each of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from driftloop_rollout.assignment import DrawnRows, SplitSpan
from driftloop_rollout.units import Units
from driftloop_rollout.verdict import Metric, Rule, Trial

RUNGS = (0.05, 0.25, 0.5)
STICKY_S = 60.0
START = datetime(2026, 11, 29, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Outcome:
    """action: promote, proven (by pairs), roll_back or hold. rows: of both arms."""

    action: str
    rows: int
    canary_rows: int


Look = Callable[[SplitSpan, int, Trial], tuple[DrawnRows, Mapping[str, Units]]]
"""(the step's split, the number of its epoch, what was seen) → the epoch's rows, and units."""


def climb(rules: Sequence[tuple[Rule, float]], look: Look, seed: int, max_rows: int) -> Outcome:
    """Until a verdict, or `max_rows` rows. rules: with the champion's mean losses."""
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
