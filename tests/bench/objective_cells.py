"""Traffic of the verdict's benchmark under objectives: losses of rows drawn for either arm."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from ladder import STICKY_S, Outcome, climb
from numpy.typing import NDArray

from driftloop_evaluation.ranking import pair_losses
from driftloop_rollout.arm_rows import ArmRows, us_of
from driftloop_rollout.assignment import NO_HISTORY, DrawnRows, SplitSpan, drawn
from driftloop_rollout.units import NO_KEY, Floats, Units
from driftloop_rollout.verdict import Rule, Trial

Mask = NDArray[np.bool_]
Sample = Callable[[np.random.Generator, Mask, bool], Mapping[str, Floats]]
"""(random numbers, which of n rows are the canary's, whether it does harm) → the losses [n] of each
metric, NaN for a row that does not count."""


@dataclass(frozen=True, slots=True)
class Cell:
    """rules: with the champion's mean losses. epoch_rows: handed to the tests at a time."""

    name: str
    harm: str
    rules: tuple[tuple[Rule, float], ...]
    sample: Sample
    epoch_rows: int = 1_000
    max_rows: int = 200_000
    cost: int = 50  # about, CPU milliseconds a run


def _rare(rng: np.random.Generator, canary: Mask, harm: bool) -> Mapping[str, Floats]:
    """.1 % positives, of which 80 % are found, 60 % under harm; a miss costs as much as 50 false
    positives, which are 1 % of the others."""
    n = len(canary)
    positive = rng.random(n) < 0.001
    recall = np.where(canary & harm, 0.6, 0.8)
    missed, called = positive & (rng.random(n) >= recall), ~positive & (rng.random(n) < 0.01)
    return {"quality": missed + called / 50}


_ERRORS = np.abs(np.random.default_rng(0).standard_t(2, 1_000_000))
_CAP = 5 * float(_ERRORS.mean())


def _absolute(errors: Floats) -> Floats:
    return np.minimum(errors / _CAP, 1.0)


_USUAL = float(_absolute(_ERRORS).mean())
_FACTORS = np.linspace(1.0, 1.5, 51)
_WORSE = float(np.interp(1.1 * _USUAL, [_absolute(_ERRORS * f).mean() for f in _FACTORS], _FACTORS))
"""By this factor errors grow for a mean loss that is 10 % larger."""


def _tails(rng: np.random.Generator, canary: Mask, harm: bool) -> Mapping[str, Floats]:
    errors = np.abs(rng.standard_t(2, len(canary)))
    return {"quality": _absolute(errors * np.where(canary & harm, _WORSE, 1.0))}


def _ranking(rng: np.random.Generator, canary: Mask, harm: bool) -> Mapping[str, Floats]:
    """20 % positives, a standard deviation above the others: an AUC of .76, .74 under harm."""
    n = len(canary)
    positive = rng.random(n) < 0.2
    apart = np.where(canary & harm, 0.91, 1.0)
    scores = rng.normal(size=n) + positive * apart
    return {"quality": pair_losses(scores, positive, np.ones(n, bool), canary.astype(float))}


def _slice(rng: np.random.Generator, canary: Mask, harm: bool) -> Mapping[str, Floats]:
    """The average error falls by 2 points; in 5 % of the rows it rises by 10 under harm."""
    n = len(canary)
    inside = rng.random(n) < 0.05
    error = np.where(canary & harm, np.where(inside, 0.2, 0.075), 0.1)
    wrong = (rng.random(n) < error).astype(np.float64)
    return {"quality": wrong, "slice": np.where(inside, wrong, np.nan)}


RARE = 0.001 * 0.2 + 0.999 * 0.01 / 50
CELLS = (
    Cell("cost, .1 % positives", "50 % dearer", ((Rule("quality", 0.5 * RARE, True), RARE),),
         _rare, 20_000, 4_000_000, 200),
    Cell("absolute error, t with 2 degrees of freedom", "10 % more",
         ((Rule("quality", 0.1 * _USUAL, True), _USUAL),), _tails),
    Cell("ranking, AUC .76", "2 points less", ((Rule("quality", 0.02, True), 0.24),),
         _ranking, 2_000, 600_000, 100),
    Cell("a slice of 5 %", "10 points more there, 2 less on average",
         ((Rule("quality", 0.02, True), 0.1), (Rule("slice", 0.02, False, 0.05), 0.1)), _slice),
)  # fmt: skip


def walk_cell(cell: Cell, harm: bool, seed: int) -> Outcome:
    """The ladder, for rows without a routing key."""
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
