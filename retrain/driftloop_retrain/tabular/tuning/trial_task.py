"""Runs one trial, from values alone: in this process, or in another one on any machine."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from driftloop_contracts.errors import RetryLater
from driftloop_retrain.tabular.dataset import Span, spanned
from driftloop_retrain.tabular.evaluate import Outputs
from driftloop_retrain.tabular.recipes.port import FitContext, Recipe
from driftloop_retrain.tabular.tuning.balance import balanced
from driftloop_retrain.tabular.tuning.folds import Fold
from driftloop_retrain.tabular.tuning.halving import RUNGS, is_dropped
from driftloop_retrain.tabular.tuning.journal import State
from driftloop_retrain.tabular.tuning.space import Parameters

Progress = Callable[[float], None]
"""Called with the completed share of a trial."""


@dataclass(frozen=True)
class TrialOrder:
    """parameters: none, the recipe's own are meant, and the trial runs to its end. prunes: whether
    it ends early if it is not among the best. earlier: the rungs of earlier trials of its family
    and span. left_s: of the budget, at whose end it ends; None: it runs however long it takes."""

    number: int
    recipe: Recipe
    span: Span
    parameters: Parameters
    context: FitContext
    prunes: bool = True
    earlier: tuple[tuple[float, ...], ...] = ()
    left_s: float | None = None


@dataclass(frozen=True)
class TrialRun:
    """See TrialRecord. outputs: of one that is done, on the validation rows. error: why it failed.
    state None: the budget ended, and it is as if it had not been begun."""

    state: State | None
    seconds: float = 0.0
    rounds: int = 0
    rungs: tuple[float, ...] = ()
    outputs: Outputs | None = None
    error: Exception | None = None


class _Pruned(Exception):
    """The trial is not among the best."""


class _OutOfTime(Exception):
    """The budget ended during the trial."""


def run_trial(
    order: TrialOrder,
    folds: Sequence[Fold],
    progress: Progress = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> TrialRun:
    """Raises RetryLater."""
    started, rungs = clock(), _Rungs(order)

    def report(number: int, share: float, loss: float | None) -> None:
        progress((number + min(1.0, share)) / len(folds))
        if order.parameters:
            if order.left_s is not None and clock() - started > order.left_s:
                raise _OutOfTime
            if number == 0 and loss is not None:
                rungs.reach(share, loss)

    state: State = "done"
    found, failed = [], None
    try:
        for number, fold in enumerate(folds):
            train, own = balanced(
                spanned(fold.train, order.span, fold.fresh_from), order.parameters
            )
            context = replace(
                order.context,
                checkpoints=order.context.checkpoints / f"trial-{order.number}-{number}",
                report=partial(report, number),
                parameters=own,
            )
            model = order.recipe.fit(train, fold.validation, context)
            found.append((model.rounds, model.predict(fold.validation.features)))
    except RetryLater:
        raise
    except _OutOfTime:
        return TrialRun(None)
    except _Pruned:
        state = "pruned"
    except Exception as error:  # recipes may be user code and raise anything
        state, failed = "failed", error
    if state != "done":
        return TrialRun(state, clock() - started, rungs=rungs.reached, error=failed)
    outputs = {name: np.concatenate([each[name] for _, each in found]) for name in found[0][1]}
    rounds = max(1, round(float(np.mean([each for each, _ in found]))))
    return TrialRun("done", clock() - started, rounds, rungs.reached, outputs)


class _Rungs:
    """The losses at the points of successive halving."""

    def __init__(self, order: TrialOrder) -> None:
        self._order = order
        self.reached: tuple[float, ...] = ()

    def reach(self, share: float, loss: float) -> None:
        while len(self.reached) < len(RUNGS) and share >= RUNGS[len(self.reached)]:
            rung = len(self.reached)
            self.reached += (loss,)
            others = [each[rung] for each in self._order.earlier if len(each) > rung]
            if self._order.prunes and is_dropped(loss, others):
                raise _Pruned
